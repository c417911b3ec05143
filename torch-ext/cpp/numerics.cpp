// How libtorch computes on CUDA: rounding and choice of kernels. Settings of the process.
#include "boundary.h"

#include <ATen/Context.h>

extern "C" {

// tf32: convolutions and products of f32 round their factors to TF32. deterministic: kernels that
// sum in one order only, and none chosen by a measurement. See numerics.rs.
char* palette_set_numerics(bool tf32, bool deterministic) {
  return guarded([&] {
    auto& context = at::globalContext();
    context.setAllowTF32CuDNN(tf32);
    context.setAllowTF32CuBLAS(tf32);
    context.setBenchmarkCuDNN(!deterministic);
    context.setDeterministicCuDNN(deterministic);
    // Attention's backward pass, and an error from whatever has no deterministic kernel.
    context.setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
    // A help in the search for errors that writes every new tensor once more.
    context.setDeterministicFillUninitializedMemory(false);
  });
}

// What is set now.
char* palette_numerics(bool* tf32, bool* deterministic, bool* measured) {
  return guarded([&] {
    const auto& context = at::globalContext();
    *tf32 = context.allowTF32CuDNN(at::Float32Op::CONV) || context.allowTF32CuBLAS();
    *deterministic = context.deterministicAlgorithms() && context.deterministicCuDNN();
    *measured = context.benchmarkCuDNN();
  });
}

}  // extern "C"
