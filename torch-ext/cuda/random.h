// Random numbers as functions of (key, index), written once for CPUs (cpp/random.cpp) and CUDA
// (random.cu). The crate `random` has the same in Rust, one number at a time; tests compare all.
//
// The same f32 bits everywhere: whole numbers, and + − × ÷ √ of f32, which IEEE 754 rounds in one way
// only, in a fixed order. Whoever compiles this must not round a × b + c once (-ffp-contract=off,
// --fmad=false) nor flush subnormal numbers. No branch depends on a value, so that compilers put loops
// around these functions into vector units.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define RANDOM_INLINE static __device__ __forceinline__
#define RANDOM_UNROLL _Pragma("unroll")
#else
#include <cmath>
#include <cstring>
#define RANDOM_INLINE static inline __attribute__((always_inline))
#define RANDOM_UNROLL _Pragma("GCC unroll 10")
#endif

namespace random_numbers {

// The keys of the rows of one launch: they travel with it as a parameter, which may be 4 KB long.
constexpr int kMostKeys = 480;

struct Keys {
  uint64_t of[kMostKeys];
};

#if defined(__CUDACC__)
RANDOM_INLINE float add(float a, float b) { return __fadd_rn(a, b); }
RANDOM_INLINE float times(float a, float b) { return __fmul_rn(a, b); }
RANDOM_INLINE float over(float a, float b) { return __fdiv_rn(a, b); }
RANDOM_INLINE float root(float a) { return __fsqrt_rn(a); }
RANDOM_INLINE float real(int32_t a) { return __int2float_rn(a); }
RANDOM_INLINE int32_t bits_of(float a) { return __float_as_int(a); }
RANDOM_INLINE float of_bits(int32_t a) { return __int_as_float(a); }
#else
RANDOM_INLINE float add(float a, float b) { return a + b; }
RANDOM_INLINE float times(float a, float b) { return a * b; }
RANDOM_INLINE float over(float a, float b) { return a / b; }
RANDOM_INLINE float root(float a) { return std::sqrt(a); }
RANDOM_INLINE float real(int32_t a) { return static_cast<float>(a); }

RANDOM_INLINE int32_t bits_of(float a) {
  int32_t bits;
  std::memcpy(&bits, &a, sizeof bits);
  return bits;
}

RANDOM_INLINE float of_bits(int32_t bits) {
  float a;
  std::memcpy(&a, &bits, sizeof a);
  return a;
}
#endif

// Both halves of a 64-bit product. cpp/random.cpp has another, for several words side by side.
RANDOM_INLINE void product(uint32_t a, uint32_t b, uint32_t& high, uint32_t& low) {
#if defined(__CUDACC__)
  high = __umulhi(a, b);
  low = a * b;
#else
  const uint64_t whole = static_cast<uint64_t>(a) * b;
  high = static_cast<uint32_t>(whole >> 32);
  low = static_cast<uint32_t>(whole);
#endif
}

// Philox4x32 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). On
// entry `words` is the counter: the number of the block in the first two, 0 in the others.
template <typename Word>
RANDOM_INLINE void philox(uint32_t key_low, uint32_t key_high, Word (&words)[4]) {
  RANDOM_UNROLL
  for (int round = 0; round < 10; ++round) {
    Word first_high, first_low, second_high, second_low;
    product(0xD2511F53U, words[0], first_high, first_low);
    product(0xCD9E8D57U, words[2], second_high, second_low);
    words[0] = second_high ^ words[1] ^ key_low;
    words[1] = second_low;
    words[2] = first_high ^ words[3] ^ key_high;
    words[3] = first_low;
    key_low += 0x9E3779B9U;
    key_high += 0xBB67AE85U;
  }
}

// Uniform in [0, 1): the upper 24 bits of a word.
RANDOM_INLINE float uniform(uint32_t word) {
  return times(real(static_cast<int32_t>(word >> 8)), 0x1p-24F);
}

// √(−2 ln u) for u = (k + ½)·2⁻³¹, k the upper 31 bits of the word: 0 to 6.66. The logarithm is that
// of FreeBSD's msun, ln(2ᵉ(1+f)) by s = f/(2+f), to one unit in the last place.
RANDOM_INLINE float radius(uint32_t word) {
  const float u = times(add(real(static_cast<int32_t>(word >> 1)), 0.5F), 0x1p-31F);
  // 1+f between √½ and √2.
  const int32_t shifted = bits_of(u) + (0x3f800000 - 0x3f3504f3);
  const float exponent = real((shifted >> 23) - 127);
  const float f = add(of_bits((shifted & 0x007fffff) + 0x3f3504f3), -1.0F);
  const float s = over(f, add(2.0F, f));
  const float z = times(s, s);
  const float w = times(z, z);
  const float even = times(w, add(0xccce13.0p-25F, times(w, 0xf89e26.0p-26F)));
  const float odd = times(z, add(0xaaaaaa.0p-24F, times(w, 0x91e9ee.0p-25F)));
  const float half = times(times(0.5F, f), f);
  const float small = add(times(s, add(half, add(odd, even))), times(exponent, 9.0580006145e-6F));
  const float logarithm = add(add(add(small, -half), f), times(exponent, 6.9313812256e-1F));
  return root(times(-2.0F, logarithm));
}

// Cosine and sine of 2π·word/2³² times `length`, by the series of Cephes within an eighth of a turn.
RANDOM_INLINE void direction(uint32_t word, float length, float& cosine, float& sine) {
  const float x = times(real(static_cast<int32_t>(word << 2)), 0x1.921fb6p-32F);
  const float z = times(x, x);
  float p = add(times(z, -1.9515295891e-4F), 8.3321608736e-3F);
  p = add(times(p, z), -1.6666654611e-1F);
  const float s = add(times(times(p, z), x), x);
  float q = add(times(z, 2.443315711809948e-5F), -1.388731625493765e-3F);
  q = add(times(q, z), 4.166664568298827e-2F);
  const float c = add(add(times(times(q, z), z), times(z, -0.5F)), 1.0F);
  // Quarters of a turn, rounded as x was: each swaps both and turns a sign.
  const uint32_t quarter = (word + 0x20000000U) >> 30;
  const bool swapped = (quarter & 1) != 0;
  const int32_t cosine_sign = static_cast<int32_t>(((quarter + 1) & 2) << 30);
  const int32_t sine_sign = static_cast<int32_t>((quarter & 2) << 30);
  cosine = times(length, of_bits(bits_of(swapped ? s : c) ^ cosine_sign));
  sine = times(length, of_bits(bits_of(swapped ? c : s) ^ sine_sign));
}

// Numbers 4·block to 4·block+3 of a key, from its words of that block: uniform,
RANDOM_INLINE void uniforms(const uint32_t (&words)[4], float (&numbers)[4]) {
  RANDOM_UNROLL
  for (int i = 0; i < 4; ++i) {
    numbers[i] = uniform(words[i]);
  }
}

// and standard normal (Box and Muller 1958): of two words one is a length and one a direction.
RANDOM_INLINE void normals(const uint32_t (&words)[4], float (&numbers)[4]) {
  direction(words[1], radius(words[0]), numbers[0], numbers[1]);
  direction(words[3], radius(words[2]), numbers[2], numbers[3]);
}

}  // namespace random_numbers
