#include "norm_device.h"

#include "../cuda/norm.h"
#include "activations.h"
#include "boundary.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace {

namespace kernels = group_norm;
using namespace activations;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A kind of number and a number of neighbouring channels, as the kernels are compiled for them.
template <typename Number, int kChannels>
struct Tag {
  using T = Number;
  static constexpr int W = kChannels;
};

template <typename Body>
void with_tag(const at::Tensor& x, int width, const Body& body) {
  if (is_bf16(x)) {
    switch (width) {
      case 8: return body(Tag<kernels::Bf16, 8>{});
      case 4: return body(Tag<kernels::Bf16, 4>{});
      case 2: return body(Tag<kernels::Bf16, 2>{});
      default: return body(Tag<kernels::Bf16, 1>{});
    }
  }
  if (width == 4) {
    return body(Tag<float, 4>{});
  }
  body(Tag<float, 1>{});
}

// How images of this shape are cut. Blocks are small enough that one image alone keeps a large GPU busy,
// and depend on the shape alone.
kernels::Shape cut(const at::Tensor& x, int64_t groups, int width, double epsilon, bool silu) {
  constexpr int kNeighbours = 32;   // 512 bytes of neighbouring channels
  constexpr int kEnough = 128;      // blocks an image
  constexpr int kMostPixels = 256;  // a block
  const auto number = [](int64_t value) { return static_cast<int>(value); };
  kernels::Shape s{};
  s.images = number(x.size(0));
  s.channels = number(x.size(1));
  s.pixels = number(x.size(2) * x.size(3));
  s.groups = number(groups);
  s.silu = silu ? 1 : 0;
  s.epsilon = epsilon;
  const int vectors = s.channels / width;
  s.columns = std::min(vectors, kNeighbours);
  s.tiles = (vectors + s.columns - 1) / s.columns;
  s.rows = std::max(1, std::min(kernels::kMostThreads / s.columns, s.pixels));
  const int wanted = number(static_cast<int64_t>(s.pixels) * s.tiles / kEnough);
  const int most = std::max(kMostPixels, s.rows);
  s.block = std::clamp((wanted + s.rows - 1) / s.rows * s.rows, s.rows, most);
  s.blocks = (s.pixels + s.block - 1) / s.block;
  return s;
}

// The same for what only walks over pixels, where the result does not depend on the cut: as few blocks as
// keep the GPU busy, so that each thread has many pixels for what it reads first.
kernels::Shape cut_coarsely(kernels::Shape s) {
  constexpr int kEnough = 2048;      // blocks in all
  constexpr int kMostPixels = 1024;  // a block
  const int64_t wanted = static_cast<int64_t>(s.pixels) * s.tiles * s.images / kEnough;
  const int most = std::max(kMostPixels, s.rows);
  s.block = static_cast<int>(std::clamp<int64_t>((wanted + s.rows - 1) / s.rows * s.rows, s.rows, most));
  s.blocks = (s.pixels + s.block - 1) / s.block;
  return s;
}

device::Grid over_pixels(const kernels::Shape& s) {
  return {static_cast<unsigned>(s.blocks), static_cast<unsigned>(s.tiles),
          static_cast<unsigned>(s.images)};
}

device::Grid over_groups(const kernels::Shape& s) {
  return {1, static_cast<unsigned>(s.groups), static_cast<unsigned>(s.images)};
}

template <typename... Arguments>
void launch(const at::Tensor& x, const std::string& kernel, device::Grid blocks, int threads,
            Arguments... arguments) {
  void* pointers[] = {static_cast<void*>(&arguments)...};
  device::launch(x.device(), "norm", kernel.c_str(), blocks, static_cast<unsigned>(threads), 0,
                 pointers);
}

// Runs body(place of thread 0) for all blocks, as a GPU would at once.
template <typename Body>
void each_block(device::Grid blocks, const Body& body) {
  for (unsigned z = 0; z < blocks.z; ++z) {
    for (unsigned y = 0; y < blocks.y; ++y) {
      for (unsigned x = 0; x < blocks.x; ++x) {
        body(kernels::Place{static_cast<int>(z), static_cast<int>(y), static_cast<int>(x), 0});
      }
    }
  }
}

// Runs body(place) for all threads of a block: what lies between two barriers.
template <typename Body>
void each_thread(kernels::Place place, int threads, const Body& body) {
  for (place.thread = 0; place.thread < threads; ++place.thread) {
    body(place);
  }
}

// Runs body(count) for the levels of a tree over `count` things.
template <typename Body>
void each_level(int count, const Body& body) {
  for (; count > 1; count = kernels::half_of(count)) {
    body(count);
  }
}

const float* data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
}

kernels::Small pointers(const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& scale,
                        const at::Tensor& shift, const at::Tensor& added) {
  return {data(weight), data(bias), data(scale), data(shift), data(added),
          scale.defined() ? static_cast<long long>(scale.stride(0)) : 0};
}

// f32 numbers beside x, for structures of `floats` of them.
at::Tensor room(const at::Tensor& x, int64_t count, size_t bytes) {
  return at::empty({count * static_cast<int64_t>(bytes / sizeof(float))},
                   x.options().dtype(at::kFloat).memory_format(at::MemoryFormat::Contiguous));
}

template <typename T>
T* as(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <typename T>
const T* read(const at::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

void forward_pass(const at::Tensor& x, const kernels::Shape& s, int width, const kernels::Small& small,
                  const at::Tensor& mean, const at::Tensor& inverse, const at::Tensor& y) {
  const int64_t vectors = s.channels / width;
  const at::Tensor parts = room(x, s.images * s.blocks * vectors, sizeof(kernels::Moments));
  const at::Tensor lines = room(x, int64_t{s.images} * s.channels, sizeof(kernels::Line));
  const int threads = s.columns * s.rows;
  const kernels::Shape coarse = cut_coarsely(s);
  auto* part = as<kernels::Moments>(parts);
  auto* line = as<kernels::Line>(lines);
  auto *average = as<float>(mean), *root = as<float>(inverse);
  with_tag(x, width, [&](auto tag) {
    using T = typename decltype(tag)::T;
    constexpr int W = decltype(tag)::W;
    const T* from = read<T>(x);
    T* to = as<T>(y);
    if (x.is_cuda()) {
      const std::string name = suffix(x, width);
      launch(x, "norm_moments_" + name, over_pixels(s), threads, s, from, small.added, part);
      launch(x, "norm_finish_" + std::to_string(width), over_groups(s), kernels::kJoiners, s, part,
             small, average, root, line);
      launch(x, "norm_apply_" + name, over_pixels(coarse), threads, coarse, from, line, to);
      return;
    }
    each_block(over_pixels(s), [&](kernels::Place block) {
      kernels::Moments shared[kernels::kMostThreads];
      each_thread(block, threads, [&](auto p) {
        shared[p.thread] = kernels::own_moments<T, W>(s, p, from, small.added);
      });
      each_level(s.rows, [&](int count) {
        each_thread(block, threads, [&](auto p) { kernels::join_rows(s, p, shared, count); });
      });
      each_thread(block, threads, [&](auto p) { kernels::keep_moments<W>(s, p, shared, part); });
    });
    each_block(over_groups(s), [&](kernels::Place block) {
      kernels::Moments shared[kernels::kJoiners];
      each_thread(block, kernels::kJoiners, [&](auto p) {
        shared[p.thread] = kernels::gather_moments<W>(s, p, part);
      });
      each_level(kernels::kJoiners, [&](int count) {
        each_thread(block, kernels::kJoiners,
                    [&](auto p) { kernels::join_gathered(p, shared, count); });
      });
      each_thread(block, kernels::kJoiners, [&](auto p) {
        kernels::finish(s, p, shared, small, average, root, line);
      });
    });
    each_block(over_pixels(coarse), [&](kernels::Place block) {
      each_thread(block, threads, [&](auto p) { kernels::apply<T, W>(coarse, p, from, line, to); });
    });
  });
}

void backward_pass(const at::Tensor& x, const at::Tensor& dy, const kernels::Shape& s, int width,
                   const kernels::Small& small, const float* mean, const float* inverse,
                   const kernels::Gradients& out, const at::Tensor& dx) {
  const int64_t all = int64_t{s.images} * s.channels;
  const at::Tensor parts = room(x, all * s.blocks, sizeof(kernels::Sums));
  const at::Tensor channels = room(x, all, sizeof(kernels::Sums));
  const at::Tensor slopes = room(x, all, sizeof(kernels::Slopes));
  const int threads = s.columns * s.rows;
  const kernels::Shape coarse = cut_coarsely(s);
  auto *part = as<kernels::Sums>(parts), *channel = as<kernels::Sums>(channels);
  auto* slope = as<kernels::Slopes>(slopes);
  with_tag(x, width, [&](auto tag) {
    using T = typename decltype(tag)::T;
    constexpr int W = decltype(tag)::W;
    const T *from = read<T>(x), *above = read<T>(dy);
    T* to = as<T>(dx);
    if (x.is_cuda()) {
      const std::string name = suffix(x, width);
      launch(x, "norm_sums_" + name, over_pixels(s), threads, s, from, above, small, mean, inverse,
             part);
      launch(x, "norm_finish_gradients", over_groups(s), kernels::kJoiners, s, part, small, mean,
             inverse, channel, slope, out);
      launch(x, "norm_apply_gradient_" + name, over_pixels(coarse), threads, coarse, from, above, slope,
             to);
      return;
    }
    each_block(over_pixels(s), [&](kernels::Place block) {
      std::vector<kernels::Sums> shared(W * kernels::kMostThreads);
      each_thread(block, threads, [&](auto p) {
        kernels::Sums own[W];
        kernels::own_sums<T, W>(s, p, from, above, small, mean, inverse, own);
        for (int c = 0; c < W; ++c) {
          shared[c * threads + p.thread] = own[c];
        }
      });
      each_level(s.rows, [&](int count) {
        each_thread(block, threads,
                    [&](auto p) { kernels::add_rows(s, p, shared.data(), W, count); });
      });
      each_thread(block, threads,
                  [&](auto p) { kernels::keep_sums<W>(s, p, shared.data(), part); });
    });
    each_block(over_groups(s), [&](kernels::Place block) {
      kernels::Sums lanes[kernels::kJoiners];
      kernels::Pair shared[kernels::kJoiners] = {};
      for (int chunk = 0; chunk < s.channels / s.groups; chunk += kernels::chunk_of(s)) {
        each_thread(block, kernels::kJoiners, [&](auto p) {
          lanes[p.thread] = kernels::gather_sums(s, p, part, chunk);
        });
        each_level(kernels::lanes_of(s), [&](int count) {
          each_thread(block, kernels::kJoiners,
                      [&](auto p) { kernels::add_lanes(s, p, lanes, count); });
        });
        each_thread(block, kernels::kJoiners, [&](auto p) {
          kernels::keep_channel(s, p, lanes, small, chunk, channel, shared[p.thread]);
        });
      }
      each_level(kernels::kJoiners, [&](int count) {
        each_thread(block, kernels::kJoiners,
                    [&](auto p) { kernels::add_gathered(p, shared, count); });
      });
      each_thread(block, kernels::kJoiners, [&](auto p) {
        kernels::finish_gradients(s, p, shared, small, mean, inverse, channel, slope, out);
      });
    });
    each_block(over_pixels(coarse), [&](kernels::Place block) {
      each_thread(block, threads, [&](auto p) {
        kernels::apply_gradient<T, W>(coarse, p, from, above, slope, to);
      });
    });
  });
}

struct Norm : torch::autograd::Function<Norm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& weight, const at::Tensor& bias,
                            const std::optional<at::Tensor>& given_scale,
                            const std::optional<at::Tensor>& given_shift,
                            const std::optional<at::Tensor>& given_added, int64_t groups,
                            double epsilon, bool silu) {
    const at::Tensor scale = given_scale.value_or(at::Tensor());
    const at::Tensor shift = given_shift.value_or(at::Tensor());
    const at::Tensor added = given_added.value_or(at::Tensor());
    const at::Tensor x = input.contiguous(kLast);
    const at::Tensor y = at::empty_like(x);
    const int width = width_of(x, x.size(1) / groups, {x.const_data_ptr(), y.const_data_ptr()});
    const kernels::Shape s = cut(x, groups, width, epsilon, silu);
    const auto f32 = x.options().dtype(at::kFloat);
    const at::Tensor mean = at::empty({x.size(0), groups}, f32);
    const at::Tensor inverse = at::empty({x.size(0), groups}, f32);
    forward_pass(x, s, width, pointers(weight, bias, scale, shift, added), mean, inverse, y);
    context->save_for_backward({x, weight, bias, scale, shift, added, mean, inverse});
    context->saved_data["groups"] = groups;
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["silu"] = silu;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &scale = saved[3],
                     &shift = saved[4], &added = saved[5], &mean = saved[6], &inverse = saved[7];
    const int64_t groups = context->saved_data["groups"].toInt();
    const at::Tensor dy = gradients[0].to(x.scalar_type()).contiguous(kLast);
    const at::Tensor dx = at::empty_like(x);
    const int width = width_of(x, x.size(1) / groups,
                               {x.const_data_ptr(), dy.const_data_ptr(), dx.const_data_ptr()});
    const kernels::Shape s = cut(x, groups, width, context->saved_data["epsilon"].toDouble(),
                                 context->saved_data["silu"].toBool());
    // An image's share in the gradients of weight, bias and added, which are summed over the images;
    // those of scale and shift.
    const auto f32 = x.options().dtype(at::kFloat);
    const at::Tensor shares = at::empty({added.defined() ? 3 : 2, s.images, s.channels}, f32);
    at::Tensor dscale, dshift;
    if (scale.defined()) {
      dscale = at::empty({s.images, s.channels}, f32);
      dshift = at::empty({s.images, s.channels}, f32);
    }
    const int64_t all = int64_t{s.images} * s.channels;
    float* share = shares.mutable_data_ptr<float>();
    const auto place = [](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.mutable_data_ptr<float>() : nullptr;
    };
    const kernels::Gradients out{share, share + all, added.defined() ? share + 2 * all : nullptr,
                                 place(dscale), place(dshift)};
    backward_pass(x, dy, s, width, pointers(weight, bias, scale, shift, added), data(mean),
                  data(inverse), out, dx);
    const at::Tensor sums = shares.sum(1);
    return {dx,     sums[0], sums[1],      dscale,       dshift, added.defined() ? sums[2] : at::Tensor(),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

namespace norm_device {

at::Tensor apply(const at::Tensor& x, const Small& small, int64_t groups, double epsilon, bool silu) {
  return Norm::apply(x, small.weight, small.bias, small.scale, small.shift, small.added, groups,
                     epsilon, silu);
}

}  // namespace norm_device
