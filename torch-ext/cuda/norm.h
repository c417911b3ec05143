// Group norm, scale and shift, SiLU on channels-last activations: the arithmetic of the CUDA kernels,
// one function a step between two barriers. norm.cu runs them on a GPU; norm_blocks.cpp runs the same
// blocks, threads and trees of sums one after the other on the CPU, for the tests.
//
//   x' = x + added,  h = weight · (x' − mean) / √(variance + ε) + bias,  z = h · (1 + scale) + shift,
//   y = z · sigmoid(z)
//
// A thread owns kWidth neighbouring channels, which lie in one group, and walks over pixels. How an
// image is cut into blocks depends on its shape alone: an image has the same bits in any batch.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#define PALETTE_BOTH __device__ __forceinline__
#define PALETTE_UNROLL _Pragma("unroll")
#else
#include <cmath>
#include <cstdint>
#include <cstring>
#define PALETTE_BOTH inline
#define PALETTE_UNROLL
#endif

namespace group_norm {

// --- Numbers ---

// The upper half of an f32.
struct Bf16 {
  unsigned short bits;
};

PALETTE_BOTH float to_float(float x) { return x; }
PALETTE_BOTH void from_float(float x, float& to) { to = x; }

#ifdef __CUDACC__
PALETTE_BOTH float to_float(Bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
PALETTE_BOTH void from_float(float x, Bf16& to) {
  to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
// What rounds to bf16 anyway is computed by the fast units.
PALETTE_BOTH float exponential(float x, Bf16) { return __expf(x); }
PALETTE_BOTH float exponential(float x, float) { return expf(x); }
PALETTE_BOTH float quotient(float a, float b, Bf16) { return __fdividef(a, b); }
PALETTE_BOTH float quotient(float a, float b, float) { return a / b; }
#else
PALETTE_BOTH float to_float(Bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
// To the nearest, ties to even.
PALETTE_BOTH void from_float(float x, Bf16& to) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
  to.bits = nan ? 0x7fff : static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
template <typename T>
PALETTE_BOTH float exponential(float x, T) {
  return std::exp(x);
}
template <typename T>
PALETTE_BOTH float quotient(float a, float b, T) {
  return a / b;
}
#endif

template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  T at[kWidth];
};

// --- Shapes ---

// How an image [pixels, channels] is cut. `columns` threads lie beside each other, each with kWidth
// channels; `rows` such rows walk over `block` pixels.
struct Shape {
  int images, channels, pixels, groups;
  int columns, rows, block, blocks, tiles;
  int silu;
  double epsilon;
};

constexpr int kMostThreads = 256;

// Where a thread is.
struct Place {
  int image, tile, block, thread;
};

PALETTE_BOTH int row_of(const Shape& s, const Place& p) { return p.thread / s.columns; }

template <int kWidth>
PALETTE_BOTH int channel_of(const Shape& s, const Place& p) {
  return (p.tile * s.columns + p.thread % s.columns) * kWidth;
}

PALETTE_BOTH long long first_of(const Shape& s, const Place& p) {
  return (static_cast<long long>(p.image) * s.pixels) * s.channels;
}

PALETTE_BOTH int end_of(const Shape& s, const Place& p) {
  const int end = (p.block + 1) * s.block;
  return end < s.pixels ? end : s.pixels;
}

// --- Moments ---

// Number, mean and squared deviations from it of some numbers.
struct Moments {
  float count, mean, squares;
};

// Of both together (Chan et al. 1979).
PALETTE_BOTH Moments joined(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0.0F) return a;
  const float delta = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + delta * share, a.squares + b.squares + delta * delta * a.count * share};
}

// Pixels that a thread has in flight.
constexpr int kFlight = 8;

// The moments of a thread's own numbers: exact two-pass moments of kFlight pixels at a time, joined.
template <typename T, int kWidth>
PALETTE_BOTH Moments own_moments(const Shape& s, const Place& p, const T* x, const float* added) {
  Moments own{0.0F, 0.0F, 0.0F};
  const int channel = channel_of<kWidth>(s, p);
  if (channel >= s.channels) return own;
  float plus[kWidth];
  PALETTE_UNROLL
  for (int c = 0; c < kWidth; ++c) plus[c] = added == nullptr ? 0.0F : added[channel + c];
  const T* from = x + first_of(s, p) + channel;
  const int end = end_of(s, p);
  for (int pixel = p.block * s.block + row_of(s, p); pixel < end; pixel += kFlight * s.rows) {
    Vector<T, kWidth> v[kFlight];
    int there = 0;
    PALETTE_UNROLL
    for (int i = 0; i < kFlight; ++i) {
      const int at = pixel + i * s.rows;
      if (at < end) {
        v[i] = *reinterpret_cast<const Vector<T, kWidth>*>(
            from + static_cast<long long>(at) * s.channels);
        ++there;
      }
    }
    float sum = 0.0F;
    PALETTE_UNROLL
    for (int i = 0; i < kFlight; ++i) {
      if (i < there) {
        PALETTE_UNROLL
        for (int c = 0; c < kWidth; ++c) sum += to_float(v[i].at[c]) + plus[c];
      }
    }
    Moments part{static_cast<float>(there * kWidth), 0.0F, 0.0F};
    part.mean = sum / part.count;
    PALETTE_UNROLL
    for (int i = 0; i < kFlight; ++i) {
      if (i < there) {
        PALETTE_UNROLL
        for (int c = 0; c < kWidth; ++c) {
          const float d = to_float(v[i].at[c]) + plus[c] - part.mean;
          part.squares += d * d;
        }
      }
    }
    own = joined(own, part);
  }
  return own;
}

// Half of `count` things, rounded up: how far apart a tree of sums adds.
PALETTE_BOTH int half_of(int count) { return (count + 1) / 2; }

// One level of the tree over the rows of a column.
PALETTE_BOTH void join_rows(const Shape& s, const Place& p, Moments* shared, int count) {
  const int half = half_of(count), row = row_of(s, p);
  if (row + half < count) {
    shared[p.thread] = joined(shared[p.thread], shared[p.thread + half * s.columns]);
  }
}

// [images, blocks, channels / kWidth].
template <int kWidth>
PALETTE_BOTH void keep_moments(const Shape& s, const Place& p, const Moments* shared, Moments* out) {
  const int channel = channel_of<kWidth>(s, p);
  if (row_of(s, p) > 0 || channel >= s.channels) return;
  const long long image = static_cast<long long>(p.image) * s.blocks + p.block;
  out[image * (s.channels / kWidth) + channel / kWidth] = shared[p.thread];
}

// Threads of a block that joins the parts of one image and group.
constexpr int kJoiners = 128;

// For finishing, `tile` is the group.
template <int kWidth>
PALETTE_BOTH Moments gather_moments(const Shape& s, const Place& p, const Moments* parts) {
  const int vectors = s.channels / kWidth, in_group = vectors / s.groups;
  Moments own{0.0F, 0.0F, 0.0F};
  for (int i = p.thread; i < s.blocks * in_group; i += kJoiners) {
    const long long block = static_cast<long long>(p.image) * s.blocks + i / in_group;
    own = joined(own, parts[block * vectors + p.tile * in_group + i % in_group]);
  }
  return own;
}

PALETTE_BOTH void join_gathered(const Place& p, Moments* shared, int count) {
  const int half = half_of(count);
  if (p.thread + half < count) shared[p.thread] = joined(shared[p.thread], shared[p.thread + half]);
}

// What small tensors a call has, f32: weight, bias and added [channels], scale and shift [images,
// channels] with `stride` numbers between images. scale, shift and added may be null.
struct Small {
  const float *weight, *bias, *scale, *shift, *added;
  long long stride;
};

PALETTE_BOTH float gain_of(const Small& small, int image, int c) {
  return small.scale == nullptr ? 1.0F : 1.0F + small.scale[image * small.stride + c];
}

// z = slope · x + offset.
struct Line {
  float slope, offset;
};

PALETTE_BOTH Line line_of(const Small& small, int image, int c, float mean, float inverse) {
  const float gain = gain_of(small, image, c);
  const float plus = small.added == nullptr ? 0.0F : small.added[c];
  Line line;
  line.slope = inverse * small.weight[c] * gain;
  line.offset = small.bias[c] * gain + (plus - mean) * line.slope;
  if (small.shift != nullptr) line.offset += small.shift[image * small.stride + c];
  return line;
}

// mean and inverse [images, groups], lines [images, channels].
PALETTE_BOTH void finish(const Shape& s, const Place& p, const Moments* shared, const Small& small,
                         float* mean, float* inverse, Line* lines) {
  const int per_group = s.channels / s.groups, at = p.image * s.groups + p.tile;
  const float average = shared[0].mean;
  const float variance = shared[0].squares / shared[0].count;
  const float root = static_cast<float>(1.0 / sqrt(static_cast<double>(variance) + s.epsilon));
  if (p.thread == 0) {
    mean[at] = average;
    inverse[at] = root;
  }
  for (int i = p.thread; i < per_group; i += kJoiners) {
    const int c = p.tile * per_group + i;
    lines[static_cast<long long>(p.image) * s.channels + c] =
        line_of(small, p.image, c, average, root);
  }
}

template <typename T, int kWidth>
PALETTE_BOTH void apply(const Shape& s, const Place& p, const T* x, const Line* lines, T* y) {
  const int channel = channel_of<kWidth>(s, p);
  if (channel >= s.channels) return;
  float slope[kWidth], offset[kWidth];
  PALETTE_UNROLL
  for (int c = 0; c < kWidth; ++c) {
    const Line line = lines[static_cast<long long>(p.image) * s.channels + channel + c];
    slope[c] = line.slope;
    offset[c] = line.offset;
  }
  const long long first = first_of(s, p) + channel;
  const int end = end_of(s, p);
  constexpr int kTogether = 4;
  for (int pixel = p.block * s.block + row_of(s, p); pixel < end; pixel += kTogether * s.rows) {
    Vector<T, kWidth> v[kTogether];
    PALETTE_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      const int at = pixel + i * s.rows;
      if (at < end) {
        v[i] = *reinterpret_cast<const Vector<T, kWidth>*>(
            x + first + static_cast<long long>(at) * s.channels);
      }
    }
    PALETTE_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      const int at = pixel + i * s.rows;
      if (at < end) {
        PALETTE_UNROLL
        for (int c = 0; c < kWidth; ++c) {
          float z = slope[c] * to_float(v[i].at[c]) + offset[c];
          if (s.silu) z = quotient(z, 1.0F + exponential(-z, T{}), T{});
          from_float(z, v[i].at[c]);
        }
        *reinterpret_cast<Vector<T, kWidth>*>(y + first + static_cast<long long>(at) * s.channels) =
            v[i];
      }
    }
  }
}

// --- Gradients ---

// dL/dz from dL/dy.
template <typename T>
PALETTE_BOTH float before_silu(const Shape& s, float z, float dy) {
  if (!s.silu) return dy;
  const float sigmoid = quotient(1.0F, 1.0F + exponential(-z, T{}), T{});
  return dy * sigmoid * (1.0F + z * (1.0F - sigmoid));
}

// Over pixels, of one channel: Σ dz, Σ dz · x̂, Σ x̂, where x̂ = (x' − mean) / √(variance + ε).
struct Sums {
  float dz, product, hat;
};

PALETTE_BOTH Sums operator+(const Sums& a, const Sums& b) {
  return {a.dz + b.dz, a.product + b.product, a.hat + b.hat};
}

// Calls body(x, dy, place) for each pixel of a thread: its kWidth numbers of both, and where they lie.
template <typename T, int kWidth, typename Body>
PALETTE_BOTH void each_pixel(const Shape& s, const Place& p, const T* x, const T* dy,
                             const Body& body) {
  const long long first = first_of(s, p) + channel_of<kWidth>(s, p);
  const int end = end_of(s, p);
  constexpr int kTogether = 4;
  for (int pixel = p.block * s.block + row_of(s, p); pixel < end; pixel += kTogether * s.rows) {
    Vector<T, kWidth> v[kTogether], d[kTogether];
    PALETTE_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      const int at = pixel + i * s.rows;
      if (at < end) {
        const long long where = first + static_cast<long long>(at) * s.channels;
        v[i] = *reinterpret_cast<const Vector<T, kWidth>*>(x + where);
        d[i] = *reinterpret_cast<const Vector<T, kWidth>*>(dy + where);
      }
    }
    PALETTE_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      const int at = pixel + i * s.rows;
      if (at < end) body(v[i], d[i], first + static_cast<long long>(at) * s.channels);
    }
  }
}

template <typename T, int kWidth>
PALETTE_BOTH void own_sums(const Shape& s, const Place& p, const T* x, const T* dy,
                           const Small& small, const float* mean, const float* inverse, Sums* own) {
  PALETTE_UNROLL
  for (int c = 0; c < kWidth; ++c) own[c] = {0.0F, 0.0F, 0.0F};
  const int channel = channel_of<kWidth>(s, p);
  if (channel >= s.channels) return;
  const int group = p.image * s.groups + channel / (s.channels / s.groups);
  const float root = inverse[group], average = mean[group];
  float slope[kWidth], offset[kWidth], start[kWidth];
  PALETTE_UNROLL
  for (int c = 0; c < kWidth; ++c) {
    const Line line = line_of(small, p.image, channel + c, average, root);
    slope[c] = line.slope;
    offset[c] = line.offset;
    start[c] = ((small.added == nullptr ? 0.0F : small.added[channel + c]) - average) * root;
  }
  each_pixel<T, kWidth>(s, p, x, dy, [&](auto& v, auto& d, long long) {
    PALETTE_UNROLL
    for (int c = 0; c < kWidth; ++c) {
      const float value = to_float(v.at[c]);
      const float dz = before_silu<T>(s, slope[c] * value + offset[c], to_float(d.at[c]));
      const float hat = root * value + start[c];
      own[c] = own[c] + Sums{dz, dz * hat, hat};
    }
  });
}

// shared holds kWidth sums a thread, those of one channel beside each other.
PALETTE_BOTH void add_rows(const Shape& s, const Place& p, Sums* shared, int width, int count) {
  const int half = half_of(count), row = row_of(s, p), threads = s.columns * s.rows;
  if (row + half >= count) return;
  for (int c = 0; c < width; ++c) {
    Sums* sums = shared + c * threads;
    sums[p.thread] = sums[p.thread] + sums[p.thread + half * s.columns];
  }
}

// [images, blocks, channels].
template <int kWidth>
PALETTE_BOTH void keep_sums(const Shape& s, const Place& p, const Sums* shared, Sums* out) {
  const int channel = channel_of<kWidth>(s, p), threads = s.columns * s.rows;
  if (row_of(s, p) > 0 || channel >= s.channels) return;
  const long long image = static_cast<long long>(p.image) * s.blocks + p.block;
  for (int c = 0; c < kWidth; ++c) {
    out[image * s.channels + channel + c] = shared[c * threads + p.thread];
  }
}

// dx = slope · dz − (pull · x + rest), and z as in Line.
struct Slopes {
  float slope, offset, pull, rest;
};

// What the small tensors' gradients are, [images, channels]; the first three are summed over images.
struct Gradients {
  float *weight, *bias, *added, *scale, *shift;
};

// Σ over the group of dx̂ and of dx̂ · x̂.
struct Pair {
  float sum, product;
};

// Channels of a group that the threads of its block take at a time, and how many threads share one.
PALETTE_BOTH int chunk_of(const Shape& s) {
  const int per_group = s.channels / s.groups;
  return per_group < kJoiners ? per_group : kJoiners;
}
PALETTE_BOTH int lanes_of(const Shape& s) { return kJoiners / chunk_of(s); }

// The channel of a thread, or -1: those of a chunk lie beside each other.
PALETTE_BOTH int channel_in(const Shape& s, const Place& p, int chunk) {
  const int per_group = s.channels / s.groups, i = chunk + p.thread % chunk_of(s);
  return p.thread / chunk_of(s) < lanes_of(s) && i < per_group ? p.tile * per_group + i : -1;
}

// A thread's share of the blocks of a channel.
PALETTE_BOTH Sums gather_sums(const Shape& s, const Place& p, const Sums* parts, int chunk) {
  const int c = channel_in(s, p, chunk);
  Sums own{0.0F, 0.0F, 0.0F};
  if (c < 0) return own;
  for (int block = p.thread / chunk_of(s); block < s.blocks; block += lanes_of(s)) {
    own = own + parts[(static_cast<long long>(p.image) * s.blocks + block) * s.channels + c];
  }
  return own;
}

PALETTE_BOTH void add_lanes(const Shape& s, const Place& p, Sums* shared, int count) {
  const int half = half_of(count);
  if (p.thread / chunk_of(s) + half >= count) return;
  shared[p.thread] = shared[p.thread] + shared[p.thread + half * chunk_of(s)];
}

// Keeps a channel's sums in `channels` [images, channels], and adds what its group needs of them.
PALETTE_BOTH void keep_channel(const Shape& s, const Place& p, const Sums* shared,
                               const Small& small, int chunk, Sums* channels, Pair& own) {
  const int c = channel_in(s, p, chunk);
  if (c < 0 || p.thread >= chunk_of(s)) return;
  const long long at = static_cast<long long>(p.image) * s.channels + c;
  const Sums sums = shared[p.thread];
  const float factor = small.weight[c] * gain_of(small, p.image, c);
  channels[at] = sums;
  own.sum += factor * sums.dz;
  own.product += factor * sums.product;
}

PALETTE_BOTH void add_gathered(const Place& p, Pair* shared, int count) {
  const int half = half_of(count);
  if (p.thread + half >= count) return;
  shared[p.thread].sum += shared[p.thread + half].sum;
  shared[p.thread].product += shared[p.thread + half].product;
}

PALETTE_BOTH void finish_gradients(const Shape& s, const Place& p, const Pair* shared,
                                   const Small& small, const float* mean, const float* inverse,
                                   const Sums* channels, Slopes* slopes, const Gradients& out) {
  const int per_group = s.channels / s.groups, group = p.image * s.groups + p.tile;
  const float count = static_cast<float>(per_group) * static_cast<float>(s.pixels);
  const float of_mean = shared[0].sum / count, of_hat = shared[0].product / count;
  const float root = inverse[group], average = mean[group];
  // Each thread the channels that it kept.
  for (int i = p.thread; i < per_group && p.thread < chunk_of(s); i += chunk_of(s)) {
    const int c = p.tile * per_group + i;
    const long long at = static_cast<long long>(p.image) * s.channels + c;
    const Line line = line_of(small, p.image, c, average, root);
    const float plus = small.added == nullptr ? 0.0F : small.added[c];
    slopes[at] = {line.slope, line.offset, root * of_hat * root,
                  ((plus - average) * root * of_hat + of_mean) * root};
    const Sums sums = channels[at];
    const float gain = gain_of(small, p.image, c);
    out.weight[at] = gain * sums.product;
    out.bias[at] = gain * sums.dz;
    if (out.added != nullptr) {
      // Σ dx over the pixels.
      out.added[at] = line.slope * sums.dz -
                      root * (of_hat * sums.hat + of_mean * static_cast<float>(s.pixels));
    }
    if (out.scale != nullptr) {
      out.scale[at] = small.weight[c] * sums.product + small.bias[c] * sums.dz;
      out.shift[at] = sums.dz;
    }
  }
}

template <typename T, int kWidth>
PALETTE_BOTH void apply_gradient(const Shape& s, const Place& p, const T* x, const T* dy,
                                 const Slopes* slopes, T* dx) {
  const int channel = channel_of<kWidth>(s, p);
  if (channel >= s.channels) return;
  Slopes own[kWidth];
  PALETTE_UNROLL
  for (int c = 0; c < kWidth; ++c) {
    own[c] = slopes[static_cast<long long>(p.image) * s.channels + channel + c];
  }
  each_pixel<T, kWidth>(s, p, x, dy, [&](auto& v, auto& d, long long where) {
    PALETTE_UNROLL
    for (int c = 0; c < kWidth; ++c) {
      const float value = to_float(v.at[c]);
      const float dz = before_silu<T>(s, own[c].slope * value + own[c].offset, to_float(d.at[c]));
      from_float(own[c].slope * dz - (own[c].pull * value + own[c].rest), v.at[c]);
    }
    *reinterpret_cast<Vector<T, kWidth>*>(dx + where) = v;
  });
}

}  // namespace group_norm
