// Tensors of random numbers: number i of row r is a function of (keys[r], i) alone, whatever the batch,
// the threads and the device. The arithmetic is that of ../cuda/random.h; build.rs compiles this file
// without fused multiply-add.
#include "../cuda/random.h"
#include "boundary.h"
#include "device.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace random_numbers {

constexpr int kLanes = 8;

// Words of eight blocks side by side: the rounds of Philox run in vector units.
struct Lanes {
  uint32_t at __attribute__((vector_size(4 * kLanes)));
};

RANDOM_INLINE Lanes operator^(Lanes a, Lanes b) { return {a.at ^ b.at}; }
RANDOM_INLINE Lanes operator^(Lanes a, uint32_t b) { return {a.at ^ b}; }

// As `product` of single words, which compilers do not put into vector units well.
RANDOM_INLINE void product(uint32_t a, Lanes b, Lanes& high, Lanes& low) {
#if defined(__AVX2__)
  const auto words = reinterpret_cast<__m256i>(b.at);
  const __m256i factor = _mm256_set1_epi64x(a);
  const __m256i even = _mm256_mul_epu32(words, factor);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(words, 32), factor);
  high.at = reinterpret_cast<decltype(high.at)>(
      _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA));
  low.at = reinterpret_cast<decltype(low.at)>(
      _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA));
#else
  for (int lane = 0; lane < kLanes; ++lane) {
    uint32_t upper, lower;
    product(a, b.at[lane], upper, lower);
    high.at[lane] = upper;
    low.at[lane] = lower;
  }
#endif
}

}  // namespace random_numbers

namespace {

using random_numbers::kLanes;
using random_numbers::Lanes;

// Numbers that are made together, and those that are given to a thread together.
constexpr int64_t kGroup = 4 * kLanes;
constexpr int64_t kPiece = 128 * kGroup;

// Numbers 4·block to 4·block+kGroup−1 of a key.
template <bool Normal>
RANDOM_INLINE void group(uint64_t key, uint64_t block, float* __restrict out) {
  Lanes words[4] = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    words[0].at[lane] = static_cast<uint32_t>(block + lane);
    words[1].at[lane] = static_cast<uint32_t>((block + lane) >> 32);
  }
  random_numbers::philox(static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), words);
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint32_t own[4] = {words[0].at[lane], words[1].at[lane], words[2].at[lane],
                             words[3].at[lane]};
    float numbers[4];
    if (Normal) {
      random_numbers::normals(own, numbers);
    } else {
      random_numbers::uniforms(own, numbers);
    }
    for (int i = 0; i < 4; ++i) {
      out[4 * lane + i] = numbers[i];
    }
  }
}

// Numbers `from` to `to` of a key; `from` is a multiple of kGroup.
template <bool Normal>
void fill(uint64_t key, int64_t from, int64_t to, float* out) {
  int64_t at = from;
  for (; at + kGroup <= to; at += kGroup) {
    group<Normal>(key, static_cast<uint64_t>(at / 4), out + (at - from));
  }
  if (at < to) {
    float last[kGroup];
    group<Normal>(key, static_cast<uint64_t>(at / 4), last);
    std::copy_n(last, to - at, out + (at - from));
  }
}

void fill_on_cpu(const at::Tensor& out, const uint64_t* keys, bool normal) {
  const int64_t rows = out.size(0);
  const int64_t per_row = rows > 0 ? out.numel() / rows : 0;
  const int64_t pieces = (per_row + kPiece - 1) / kPiece;
  float* data = out.mutable_data_ptr<float>();
  // 32 pieces take some 0.3 ms: less is not worth another thread.
  at::parallel_for(0, rows * pieces, 32, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / pieces, from = i % pieces * kPiece;
      const int64_t to = std::min(from + kPiece, per_row);
      float* place = data + row * per_row + from;
      normal ? fill<true>(keys[row], from, to, place) : fill<false>(keys[row], from, to, place);
    }
  });
}

void fill_on_cuda(const at::Tensor& out, const uint64_t* keys, bool normal) {
  constexpr unsigned threads = 256;
  const int64_t rows = out.size(0);
  uint64_t per_row = static_cast<uint64_t>(out.numel() / rows);
  const uint64_t blocks = (per_row + 4 * threads - 1) / (4 * threads);
  TORCH_CHECK(blocks <= INT32_MAX, "rows of ", per_row, " numbers are too long");
  for (int64_t first = 0; first < rows; first += random_numbers::kMostKeys) {
    const int64_t count = std::min<int64_t>(random_numbers::kMostKeys, rows - first);
    random_numbers::Keys some{};
    std::copy_n(keys + first, count, some.of);
    float* place = out.mutable_data_ptr<float>() + first * static_cast<int64_t>(per_row);
    void* arguments[] = {&some, &place, &per_row};
    device::launch(out.device(), "random", normal ? "fill_normal" : "fill_uniform",
                   {static_cast<unsigned>(blocks), static_cast<unsigned>(count)}, threads, 0,
                   arguments);
  }
}

}  // namespace

extern "C" {

// distribution 0: N(0,1); 1: U[0,1). Row i of `out`, contiguous f32, gets the numbers of keys[i].
char* palette_fill_keyed(TensorPointer out, const uint64_t* keys, size_t count,
                         int distribution) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    TORCH_CHECK(out->dim() > 0 && out->size(0) == static_cast<int64_t>(count),
                "one key a row is needed: ", count, " keys for a tensor of shape ", out->sizes());
    TORCH_CHECK(out->scalar_type() == at::kFloat && out->is_contiguous(),
                "random numbers are drawn as contiguous f32");
    const bool normal = distribution == 0;
    if (out->numel() == 0) {
      return;
    }
    if (out->is_cpu()) {
      fill_on_cpu(*out, keys, normal);
    } else if (device::runs(out->device(), "random")) {
      fill_on_cuda(*out, keys, normal);
    } else {
      // Older GPUs and other accelerators: the same numbers, by way of the CPU.
      const at::Tensor drawn = at::empty(out->sizes(), at::kFloat);
      fill_on_cpu(drawn, keys, normal);
      out->copy_(drawn);
    }
  });
}

}  // extern "C"
