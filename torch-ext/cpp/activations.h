// What the CUDA kernels on channels-last activations have in common: which numbers there are kernels
// for, how wide their vectors are, and how their names end.
#pragma once

#include "device.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace activations {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

inline bool is_bf16(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16; }

// Whether there are kernels for x: f32 or bf16 on a CUDA device that is new enough.
inline bool have_kernels(const at::Tensor& x) {
  return (is_bf16(x) || x.scalar_type() == at::kFloat) && device::runs(x.device(), "norm");
}

// The widest vectors, 16 bytes at most, that divide `channels` and the places of all these tensors.
inline int width_of(const at::Tensor& x, int64_t channels, const std::vector<const void*>& places) {
  const std::vector<int> widths = is_bf16(x) ? std::vector<int>{8, 4, 2, 1} : std::vector<int>{4, 1};
  for (const int width : widths) {
    const auto bytes = static_cast<uintptr_t>(width * x.element_size());
    const bool aligned = std::all_of(places.begin(), places.end(), [&](const void* place) {
      return reinterpret_cast<uintptr_t>(place) % bytes == 0;
    });
    if (channels % width == 0 && aligned) {
      return width;
    }
  }
  return 1;
}

// As the kernels' names end.
inline std::string suffix(const at::Tensor& x, int width) {
  return (is_bf16(x) ? "bf16_" : "f32_") + std::to_string(width);
}

// Queues a kernel in which each thread makes vectors of the result, `vectors` of them in all.
inline void launch_over(const at::Tensor& x, const char* module, const std::string& kernel,
                        int64_t vectors, void** arguments) {
  constexpr int64_t kThreads = 256, kMostBlocks = 1 << 16;
  const int64_t blocks = std::min((vectors + kThreads - 1) / kThreads, kMostBlocks);
  device::launch(x.device(), module, kernel.c_str(), {static_cast<unsigned>(blocks)}, kThreads, 0,
                 arguments);
}

}  // namespace activations
