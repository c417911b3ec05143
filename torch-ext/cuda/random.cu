// compute: 75
// flags: --fmad=false
// One launch fills all rows of a draw, row r with the numbers of keys.of[r] (cpp/random.cpp).
#include "random.h"

using random_numbers::Keys;

namespace {

// Each thread makes the four numbers of one block of one row.
template <bool Normal>
__device__ __forceinline__ void fill(const Keys& keys, float* out, uint64_t per_row) {
  const uint64_t block = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const uint64_t first = 4 * block;
  if (first >= per_row) {
    return;
  }
  const uint64_t key = keys.of[blockIdx.y];
  uint32_t words[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0};
  random_numbers::philox(static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), words);
  float numbers[4];
  if (Normal) {
    random_numbers::normals(words, numbers);
  } else {
    random_numbers::uniforms(words, numbers);
  }
  float* to = out + blockIdx.y * per_row + first;
  // Rows of a multiple of four numbers begin at a multiple of 16 bytes, as the first one does.
  if (per_row % 4 == 0) {
    *reinterpret_cast<float4*>(to) = make_float4(numbers[0], numbers[1], numbers[2], numbers[3]);
  } else {
    for (uint64_t i = 0; i < 4 && first + i < per_row; ++i) {
      to[i] = numbers[i];
    }
  }
}

}  // namespace

extern "C" __global__ void fill_normal(const __grid_constant__ Keys keys, float* out,
                                       uint64_t per_row) {
  fill<true>(keys, out, per_row);
}

extern "C" __global__ void fill_uniform(const __grid_constant__ Keys keys, float* out,
                                        uint64_t per_row) {
  fill<false>(keys, out, per_row);
}
