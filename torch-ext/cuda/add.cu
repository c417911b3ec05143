// compute: 80
// y = x + h + bias: the end of a residual block, and the biases of the convolutions that end there, in
// one pass. Activations have their channels innermost.
#include "norm.h"

using namespace group_norm;

namespace group_norm {

template <typename T, int kWidth>
__device__ __forceinline__ void add(const T* x, const T* h, const float* bias, T* y, int columns,
                                    long long vectors) {
  using V = Vector<T, kWidth>;
  const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < vectors;
       i += step) {
    const V a = reinterpret_cast<const V*>(x)[i], b = reinterpret_cast<const V*>(h)[i];
    const float* plus = bias + (i % columns) * kWidth;
    V sum;
#pragma unroll
    for (int c = 0; c < kWidth; ++c) from_float(to_float(a.at[c]) + to_float(b.at[c]) + plus[c], sum.at[c]);
    reinterpret_cast<V*>(y)[i] = sum;
  }
}

}  // namespace group_norm

#define KERNEL(NAME, T, W)                                                                         \
  extern "C" __global__ void __launch_bounds__(kMostThreads)                                       \
      add_##NAME(const T* x, const T* h, const float* bias, T* y, int columns, long long vectors) { \
    add<T, W>(x, h, bias, y, columns, vectors);                                                    \
  }

KERNEL(bf16_8, Bf16, 8)
KERNEL(bf16_4, Bf16, 4)
KERNEL(bf16_2, Bf16, 2)
KERNEL(bf16_1, Bf16, 1)
KERNEL(f32_4, float, 4)
KERNEL(f32_1, float, 1)
