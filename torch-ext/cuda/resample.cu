// compute: 80
// Half and twice the size of channels-last activations, each also the other's gradient:
//
//   halve:  y[p] = scale · Σ x over the 2×2 pixels of p     (scale ¼: average pooling; 1: the gradient of twice)
//   double: y[p] = scale · x[p/2]                           (scale 1: nearest neighbour; ¼: that of the average)
//
// A thread makes kWidth neighbouring channels of one pixel at the smaller size.
#include "norm.h"

using namespace group_norm;

namespace group_norm {

// Rows and columns of the smaller image, all images one below the other.
struct Halves {
  int rows, columns, vectors;
  float scale;
};

template <typename T, int kWidth>
__device__ __forceinline__ void halve(const Halves& g, const T* x, T* y) {
  using V = Vector<T, kWidth>;
  const long long all = static_cast<long long>(g.rows) * g.columns * g.vectors;
  const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
  const int row = 2 * g.columns * g.vectors;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < all; i += step) {
    const int vector = static_cast<int>(i % g.vectors);
    const long long pixel = i / g.vectors;
    const long long first = pixel / g.columns * 2 * row + pixel % g.columns * 2 * g.vectors + vector;
    const V* from = reinterpret_cast<const V*>(x) + first;
    const V a = from[0], b = from[g.vectors], c = from[row], d = from[row + g.vectors];
    V sum;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float all_four = (to_float(a.at[k]) + to_float(b.at[k])) + (to_float(c.at[k]) + to_float(d.at[k]));
      from_float(all_four * g.scale, sum.at[k]);
    }
    reinterpret_cast<V*>(y)[i] = sum;
  }
}

template <typename T, int kWidth>
__device__ __forceinline__ void twice(const Halves& g, const T* x, T* y) {
  using V = Vector<T, kWidth>;
  const long long all = static_cast<long long>(g.rows) * g.columns * g.vectors;
  const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
  const int row = 2 * g.columns * g.vectors;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < all; i += step) {
    const int vector = static_cast<int>(i % g.vectors);
    const long long pixel = i / g.vectors;
    const long long first = pixel / g.columns * 2 * row + pixel % g.columns * 2 * g.vectors + vector;
    V v = reinterpret_cast<const V*>(x)[i];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) from_float(to_float(v.at[k]) * g.scale, v.at[k]);
    V* to = reinterpret_cast<V*>(y) + first;
    to[0] = v;
    to[g.vectors] = v;
    to[row] = v;
    to[row + g.vectors] = v;
  }
}

}  // namespace group_norm

#define KERNELS(NAME, T, W)                                                       \
  extern "C" __global__ void __launch_bounds__(kMostThreads)                      \
      resample_halve_##NAME(Halves g, const T* x, T* y) {                          \
    halve<T, W>(g, x, y);                                                         \
  }                                                                               \
  extern "C" __global__ void __launch_bounds__(kMostThreads)                      \
      resample_double_##NAME(Halves g, const T* x, T* y) {                         \
    twice<T, W>(g, x, y);                                                         \
  }

KERNELS(bf16_8, Bf16, 8)
KERNELS(bf16_4, Bf16, 4)
KERNELS(bf16_2, Bf16, 2)
KERNELS(bf16_1, Bf16, 1)
KERNELS(f32_4, float, 4)
KERNELS(f32_1, float, 1)
