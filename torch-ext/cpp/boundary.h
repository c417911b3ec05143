// The boundary between Rust and libtorch.
//
// Every function is `extern "C"`, takes tensors as tch holds them (torch::Tensor*), and catches
// whatever libtorch throws: it returns null on success and otherwise a malloc'ed message, which
// the caller gives back to palette_free. Nothing unwinds over the boundary.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

using TensorPointer = at::Tensor*;

inline char* copy_message(const char* text) {
  char* copy = strdup(text);
  return copy != nullptr ? copy : strdup("out of memory");
}

template <typename Body>
char* guarded(Body&& body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return copy_message(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return copy_message(error.what());
  } catch (...) {
    return copy_message("unknown C++ exception");
  }
}
