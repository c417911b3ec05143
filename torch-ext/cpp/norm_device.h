// Group norm, scale and shift, SiLU in the blocks of cuda/norm.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace norm_device {

// The small tensors of a call, f32: weight, bias and added [C], scale and shift [B,C].
struct Small {
  at::Tensor weight, bias;
  std::optional<at::Tensor> scale, shift, added;
};

// y = SiLU(h · (1 + scale) + shift) with h = GroupNorm(x + added); with `silu` false the argument of
// SiLU. x f32 or bf16 [B,C,H,W]; only x and the statistics are kept for the backward pass. On a CUDA
// device by its kernels; on the CPU the same blocks one after the other, slowly: for tests.
at::Tensor apply(const at::Tensor& x, const Small& small, int64_t groups, double epsilon, bool silu);

}  // namespace norm_device
