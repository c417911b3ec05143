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

// x + h + bias (f32 [C]), all f32 or bf16 [B,C,H,W].
at::Tensor add(const at::Tensor& x, const at::Tensor& h, const at::Tensor& bias);

// The mean of each 2×2 pixels, and every pixel four times; f32 or bf16 [B,C,H,W] on a CUDA device, even
// sides for halves.
at::Tensor halve(const at::Tensor& x);
at::Tensor twice(const at::Tensor& x);

}  // namespace norm_device
