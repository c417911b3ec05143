// compute: 80
// The kernels of norm.h on a GPU. `scripts/ptx.sh` makes norm.ptx of it.
#include "norm.h"

namespace group_norm {

__device__ __forceinline__ Place place() {
  return {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x),
          static_cast<int>(threadIdx.x)};
}

template <typename T, int kWidth>
__device__ __forceinline__ void moments(const Shape& s, const T* x, const float* added,
                                        Moments* out) {
  __shared__ Moments shared[kMostThreads];
  const Place p = place();
  shared[p.thread] = own_moments<T, kWidth>(s, p, x, added);
  __syncthreads();
  for (int count = s.rows; count > 1; count = half_of(count)) {
    join_rows(s, p, shared, count);
    __syncthreads();
  }
  keep_moments<kWidth>(s, p, shared, out);
}

template <typename T, int kWidth>
__device__ __forceinline__ void sums(const Shape& s, const T* x, const T* dy, const Small& small,
                                     const float* mean, const float* inverse, Sums* out) {
  __shared__ Sums shared[kWidth * kMostThreads];
  const Place p = place();
  Sums own[kWidth];
  own_sums<T, kWidth>(s, p, x, dy, small, mean, inverse, own);
  const int threads = s.columns * s.rows;
#pragma unroll
  for (int c = 0; c < kWidth; ++c) shared[c * threads + p.thread] = own[c];
  __syncthreads();
  for (int count = s.rows; count > 1; count = half_of(count)) {
    add_rows(s, p, shared, kWidth, count);
    __syncthreads();
  }
  keep_sums<kWidth>(s, p, shared, out);
}

}  // namespace group_norm

using namespace group_norm;

// One kernel of each kind of number and width.
#define KERNELS(NAME, T, W)                                                                        \
  extern "C" __global__ void __launch_bounds__(kMostThreads)                                       \
      norm_moments_##NAME(Shape s, const T* x, const float* added, Moments* out) {                 \
    moments<T, W>(s, x, added, out);                                                               \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(kMostThreads)                                       \
      norm_apply_##NAME(Shape s, const T* x, const Line* lines, T* y) {                            \
    apply<T, W>(s, place(), x, lines, y);                                                          \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(kMostThreads)                                       \
      norm_sums_##NAME(Shape s, const T* x, const T* dy, Small small, const float* mean,           \
                       const float* inverse, Sums* out) {                                          \
    sums<T, W>(s, x, dy, small, mean, inverse, out);                                               \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(kMostThreads)                                       \
      norm_apply_gradient_##NAME(Shape s, const T* x, const T* dy, const Slopes* slopes, T* dx) {  \
    apply_gradient<T, W>(s, place(), x, dy, slopes, dx);                                           \
  }

KERNELS(bf16_8, Bf16, 8)
KERNELS(bf16_4, Bf16, 4)
KERNELS(bf16_2, Bf16, 2)
KERNELS(bf16_1, Bf16, 1)
KERNELS(f32_4, float, 4)
KERNELS(f32_1, float, 1)

// Vectors of any width: what is joined are their moments.
#define FINISH(W)                                                                                  \
  extern "C" __global__ void __launch_bounds__(kJoiners)                                           \
      norm_finish_##W(Shape s, const Moments* parts, Small small, float* mean, float* inverse,     \
                      Line* lines) {                                                               \
    __shared__ Moments shared[kJoiners];                                                           \
    const Place p = place();                                                                       \
    shared[p.thread] = gather_moments<W>(s, p, parts);                                             \
    __syncthreads();                                                                               \
    for (int count = kJoiners; count > 1; count = half_of(count)) {                                \
      join_gathered(p, shared, count);                                                             \
      __syncthreads();                                                                             \
    }                                                                                              \
    finish(s, p, shared, small, mean, inverse, lines);                                             \
  }

FINISH(8)
FINISH(4)
FINISH(2)
FINISH(1)

extern "C" __global__ void __launch_bounds__(kJoiners)
    norm_finish_gradients(Shape s, const Sums* parts, Small small, const float* mean,
                          const float* inverse, Sums* channels, Slopes* slopes, Gradients out) {
  __shared__ Sums lanes[kJoiners];
  __shared__ Pair shared[kJoiners];
  const Place p = place();
  Pair own{0.0F, 0.0F};
  for (int chunk = 0; chunk < s.channels / s.groups; chunk += chunk_of(s)) {
    lanes[p.thread] = gather_sums(s, p, parts, chunk);
    __syncthreads();
    for (int count = lanes_of(s); count > 1; count = half_of(count)) {
      add_lanes(s, p, lanes, count);
      __syncthreads();
    }
    keep_channel(s, p, lanes, small, chunk, channels, own);
    __syncthreads();
  }
  shared[p.thread] = own;
  __syncthreads();
  for (int count = kJoiners; count > 1; count = half_of(count)) {
    add_gathered(p, shared, count);
    __syncthreads();
  }
  finish_gradients(s, p, shared, small, mean, inverse, channels, slopes, out);
}
