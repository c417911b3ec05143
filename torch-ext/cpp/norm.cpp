// Group norm, scale and shift, SiLU on the CPU as one operation:
//
//   h = weight · (x − mean) / √(variance + ε) + bias,   z = h · (1 + scale) + shift,   y = z · sigmoid(z)
//
// Three operations of libtorch read and write the activations once each and keep three copies for
// the backward pass; this one keeps x alone. Channels are innermost in memory, sums run over blocks
// of pixels whose size depends on the shape alone: the result does not depend on the threads.
#include "activations.h"
#include "boundary.h"
#include "norm_device.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using activations::kLast;

// eˣ to 2 units in the last place, in operations that compilers put into vector units: 2ⁿ · e^r with
// |r| ≤ ln 2 / 2, e^r by its series. Beyond ±60 as there, where a sigmoid is 0 or 1 to 1e-26: compilers
// work out the quotients by both limits for every number, and with larger limits these are subnormal,
// which costs Intel's processors a hundred cycles each. NaN, which no integer stands for, becomes −60: who
// asks for a sigmoid of z multiplies by z, which keeps it.
inline float exponential(float x) {
  x = std::min(std::max(-60.0F, x), 60.0F);
  constexpr float round = 12582912.0F;  // 1.5 · 2²³: what is added to it loses its fraction
  const float n = (x * 1.44269504F + round) - round;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float e = 1.98412698e-4F;
  e = e * r + 1.38888889e-3F;
  e = e * r + 8.33333333e-3F;
  e = e * r + 4.16666667e-2F;
  e = e * r + 1.66666667e-1F;
  e = e * r + 0.5F;
  e = e * r + 1.0F;
  e = e * r + 1.0F;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return e * power;
}

struct Shape {
  int64_t images, channels, pixels, groups, per_group;
  // Pixels a block, and blocks an image.
  int64_t block, blocks;

  Shape(const at::Tensor& x, int64_t groups)
      : images(x.size(0)), channels(x.size(1)), pixels(x.size(2) * x.size(3)), groups(groups),
        per_group(channels / groups),
        block(std::max<int64_t>(1, std::min<int64_t>(pixels, 16384 / channels))),
        blocks((pixels + block - 1) / block) {}

  // Runs body(image, block, first pixel, end) for all blocks of all images.
  template <typename Body>
  void each_block(const Body& body) const {
    at::parallel_for(0, images * blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i % blocks * block;
        body(i / blocks, i % blocks, at, std::min(at + block, pixels));
      }
    });
  }
};

// Mean and 1/√(variance + ε) of each image and group, f32 [images, groups].
void moments(const float* x, const Shape& s, double epsilon, float* mean, float* inverse) {
  // Mean and squared deviations of each block and channel, joined as Chan et al. 1979 do.
  std::vector<float> partial(2 * s.images * s.blocks * s.channels);
  s.each_block([&](int64_t image, int64_t block, int64_t from, int64_t to) {
    float* __restrict average = &partial[2 * (image * s.blocks + block) * s.channels];
    float* __restrict squares = average + s.channels;
    const float* __restrict first = x + (image * s.pixels + from) * s.channels;
    std::fill(average, squares + s.channels, 0.0F);
    for (int64_t p = 0; p < to - from; ++p) {
      for (int64_t c = 0; c < s.channels; ++c) {
        average[c] += first[p * s.channels + c];
      }
    }
    const float share = 1.0F / static_cast<float>(to - from);
    for (int64_t c = 0; c < s.channels; ++c) {
      average[c] *= share;
    }
    for (int64_t p = 0; p < to - from; ++p) {
      for (int64_t c = 0; c < s.channels; ++c) {
        const float d = first[p * s.channels + c] - average[c];
        squares[c] += d * d;
      }
    }
  });
  for (int64_t image = 0; image < s.images; ++image) {
    for (int64_t group = 0; group < s.groups; ++group) {
      double count = 0, average = 0, squares = 0;
      for (int64_t block = 0; block < s.blocks; ++block) {
        const auto pixels =
            static_cast<double>(std::min(s.block, s.pixels - block * s.block));
        const float* part = &partial[2 * (image * s.blocks + block) * s.channels];
        for (int64_t c = group * s.per_group; c < (group + 1) * s.per_group; ++c) {
          const double delta = part[c] - average;
          squares += part[s.channels + c] + delta * delta * count * pixels / (count + pixels);
          average += delta * pixels / (count + pixels);
          count += pixels;
        }
      }
      mean[image * s.groups + group] = static_cast<float>(average);
      inverse[image * s.groups + group] =
          static_cast<float>(1.0 / std::sqrt(squares / count + epsilon));
    }
  }
}

// z = slope · x + offset for each channel of an image.
struct Line {
  std::vector<float> slope, offset;

  Line(const Shape& s, int64_t image, const float* mean, const float* inverse,
       const float* weight, const float* bias, const float* scale, const float* shift)
      : slope(s.channels), offset(s.channels) {
    for (int64_t c = 0; c < s.channels; ++c) {
      const int64_t group = image * s.groups + c / s.per_group;
      const float gain = scale == nullptr ? 1.0F : 1.0F + scale[image * s.channels + c];
      slope[c] = inverse[group] * weight[c] * gain;
      offset[c] = bias[c] * gain - mean[group] * slope[c];
      if (shift != nullptr) {
        offset[c] += shift[image * s.channels + c];
      }
    }
  }
};

const float* data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
}

struct NormSilu : torch::autograd::Function<NormSilu> {
  // scale and shift, [images, channels], are there or not together.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& weight, const at::Tensor& bias,
                            const std::optional<at::Tensor>& given_scale,
                            const std::optional<at::Tensor>& given_shift, int64_t groups,
                            double epsilon) {
    const at::Tensor scale = given_scale.value_or(at::Tensor());
    const at::Tensor shift = given_shift.value_or(at::Tensor());
    const at::Tensor x = input.contiguous(kLast);
    const Shape s(x, groups);
    const at::Tensor mean = at::empty({s.images, groups}, x.options());
    const at::Tensor inverse = at::empty({s.images, groups}, x.options());
    moments(data(x), s, epsilon, mean.mutable_data_ptr<float>(),
            inverse.mutable_data_ptr<float>());
    const at::Tensor y = at::empty_like(x);
    std::vector<Line> lines;
    for (int64_t image = 0; image < s.images; ++image) {
      lines.emplace_back(s, image, data(mean), data(inverse), data(weight), data(bias),
                         data(scale), data(shift));
    }
    const float* from = data(x);
    float* to = y.mutable_data_ptr<float>();
    s.each_block([&](int64_t image, int64_t, int64_t first, int64_t end) {
      const float* __restrict slope = lines[image].slope.data();
      const float* __restrict offset = lines[image].offset.data();
      for (int64_t p = image * s.pixels + first; p < image * s.pixels + end; ++p) {
        const float* __restrict in = from + p * s.channels;
        float* __restrict out = to + p * s.channels;
#pragma omp simd
        for (int64_t c = 0; c < s.channels; ++c) {
          const float z = slope[c] * in[c] + offset[c];
          out[c] = z / (1.0F + exponential(-z));
        }
      }
    });
    context->save_for_backward({x, weight, bias, scale, shift, mean, inverse});
    context->saved_data["groups"] = groups;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &scale = saved[3],
                     &shift = saved[4], &mean = saved[5], &inverse = saved[6];
    const Shape s(x, context->saved_data["groups"].toInt());
    const at::Tensor dy = gradients[0].contiguous(kLast);
    const at::Tensor dx = at::empty_like(x);

    // dz, kept in dx for now, and for each block and channel Σ dz and Σ dz · x̂.
    std::vector<float> partial(2 * s.images * s.blocks * s.channels);
    const float *in = data(x), *above = data(dy);
    float* dz = dx.mutable_data_ptr<float>();
    std::vector<Line> lines, hats;
    const std::vector<float> ones(s.channels, 1.0F), zeros(s.channels, 0.0F);
    for (int64_t image = 0; image < s.images; ++image) {
      lines.emplace_back(s, image, data(mean), data(inverse), data(weight), data(bias),
                         data(scale), data(shift));
      hats.emplace_back(s, image, data(mean), data(inverse), ones.data(), zeros.data(), nullptr,
                        nullptr);
    }
    s.each_block([&](int64_t image, int64_t block, int64_t first, int64_t end) {
      float* __restrict sum = &partial[2 * (image * s.blocks + block) * s.channels];
      float* __restrict sum_hat = sum + s.channels;
      std::fill(sum, sum_hat + s.channels, 0.0F);
      const float* __restrict slope = lines[image].slope.data();
      const float* __restrict offset = lines[image].offset.data();
      const float* __restrict hat_slope = hats[image].slope.data();
      const float* __restrict hat_offset = hats[image].offset.data();
      for (int64_t p = image * s.pixels + first; p < image * s.pixels + end; ++p) {
        const float* __restrict xs = in + p * s.channels;
        const float* __restrict up = above + p * s.channels;
        float* __restrict out = dz + p * s.channels;
#pragma omp simd
        for (int64_t c = 0; c < s.channels; ++c) {
          const float z = slope[c] * xs[c] + offset[c];
          const float sigmoid = 1.0F / (1.0F + exponential(-z));
          const float d = up[c] * sigmoid * (1.0F + z * (1.0F - sigmoid));
          out[c] = d;
          sum[c] += d;
          sum_hat[c] += d * (hat_slope[c] * xs[c] + hat_offset[c]);
        }
      }
    });

    // Over the blocks, then what follows for the small tensors and for the groups.
    const bool scaled = scale.defined();
    const at::Tensor dweight = at::zeros_like(weight), dbias = at::zeros_like(bias);
    at::Tensor dscale, dshift;
    if (scaled) {
      dscale = at::empty({s.images, s.channels}, x.options());
      dshift = at::empty({s.images, s.channels}, x.options());
    }
    const float *w = data(weight), *b = data(bias), *gain = data(scale);
    float *dw = dweight.mutable_data_ptr<float>(), *db = dbias.mutable_data_ptr<float>();
    std::vector<float> of_mean(s.images * s.groups), of_hat(s.images * s.groups);
    for (int64_t image = 0; image < s.images; ++image) {
      std::vector<double> group_sum(s.groups), group_hat(s.groups);
      for (int64_t c = 0; c < s.channels; ++c) {
        double sum = 0, sum_hat = 0;
        for (int64_t block = 0; block < s.blocks; ++block) {
          const float* part = &partial[2 * (image * s.blocks + block) * s.channels];
          sum += part[c];
          sum_hat += part[s.channels + c];
        }
        const int64_t at = image * s.channels + c;
        const double factor = scaled ? 1.0 + gain[at] : 1.0;
        dw[c] += static_cast<float>(factor * sum_hat);
        db[c] += static_cast<float>(factor * sum);
        if (scaled) {
          dscale.mutable_data_ptr<float>()[at] = static_cast<float>(w[c] * sum_hat + b[c] * sum);
          dshift.mutable_data_ptr<float>()[at] = static_cast<float>(sum);
        }
        group_sum[c / s.per_group] += factor * w[c] * sum;
        group_hat[c / s.per_group] += factor * w[c] * sum_hat;
      }
      const auto count = static_cast<double>(s.per_group * s.pixels);
      for (int64_t group = 0; group < s.groups; ++group) {
        const int64_t at = image * s.groups + group;
        of_mean[at] = static_cast<float>(group_sum[group] / count);
        of_hat[at] = static_cast<float>(group_hat[group] / count);
      }
    }

    // dx = slope · dz − (mean of dx̂ + x̂ · mean of dx̂ · x̂) / √(variance + ε).
    std::vector<Line> rests;
    for (int64_t image = 0; image < s.images; ++image) {
      rests.push_back(hats[image]);
      for (int64_t c = 0; c < s.channels; ++c) {
        const int64_t group = image * s.groups + c / s.per_group;
        const float own = data(inverse)[group];
        rests.back().slope[c] *= of_hat[group] * own;
        rests.back().offset[c] = (rests.back().offset[c] * of_hat[group] + of_mean[group]) * own;
      }
    }
    s.each_block([&](int64_t image, int64_t, int64_t first, int64_t end) {
      const float* __restrict slope = lines[image].slope.data();
      const float* __restrict rest_slope = rests[image].slope.data();
      const float* __restrict rest_offset = rests[image].offset.data();
      for (int64_t p = image * s.pixels + first; p < image * s.pixels + end; ++p) {
        const float* __restrict xs = in + p * s.channels;
        float* __restrict out = dz + p * s.channels;
        for (int64_t c = 0; c < s.channels; ++c) {
          out[c] = slope[c] * out[c] - (rest_slope[c] * xs[c] + rest_offset[c]);
        }
      }
    });
    return {dx, dweight, dbias, dscale, dshift, at::Tensor(), at::Tensor()};
  }
};

at::Tensor checked(const at::Tensor& x, const at::Tensor& tensor, at::IntArrayRef shape,
                   const char* name) {
  TORCH_CHECK(tensor.sizes() == shape, name, " has shape ", tensor.sizes(), ", expected ", shape);
  TORCH_CHECK(tensor.device() == x.device() && tensor.scalar_type() == at::kFloat, name,
              " is not f32 on the device of the activations");
  return tensor;
}

// Whose channels lie beside each other; images may lie apart, or all be one.
at::Tensor dense_rows(const at::Tensor& tensor) {
  return tensor.stride(1) == 1 ? tensor : tensor.contiguous();
}

}  // namespace

extern "C" {

// x [B,C,H,W]; weight and bias f32 [C]; scale and shift f32 [B,C], or both null; added f32 [C], or null.
// `blocks` asks for the CUDA kernels' algorithm on the CPU. Where there is no kernel for x, `out` stays
// null and the caller does without.
char* palette_norm(TensorPointer x, TensorPointer weight, TensorPointer bias, TensorPointer scale,
                   TensorPointer shift, TensorPointer added, int64_t groups, double epsilon,
                   bool silu, bool blocks, TensorPointer* out) {
  return guarded([&] {
    TORCH_CHECK(x->dim() == 4 && x->numel() > 0, "expected [B,C,H,W], got ", x->sizes());
    const int64_t images = x->size(0), channels = x->size(1);
    TORCH_CHECK(groups > 0 && channels % groups == 0, channels, " channels in ", groups, " groups");
    const bool on_cpu = x->is_cpu() && x->scalar_type() == at::kFloat && silu && added == nullptr;
    if (!on_cpu && !blocks && !activations::have_kernels(*x)) {
      return;
    }
    TORCH_CHECK(images < 65536 && x->size(2) * x->size(3) < (int64_t{1} << 31),
                "a batch of ", x->sizes(), " is too large for one call");
    const auto optional = [&](TensorPointer tensor, const char* name) -> std::optional<at::Tensor> {
      if (tensor == nullptr) {
        return std::nullopt;
      }
      return dense_rows(checked(*x, *tensor, {images, channels}, name));
    };
    norm_device::Small small;
    small.weight = checked(*x, *weight, {channels}, "weight").contiguous();
    small.bias = checked(*x, *bias, {channels}, "bias").contiguous();
    small.scale = optional(scale, "scale");
    small.shift = optional(shift, "shift");
    if (added != nullptr) {
      small.added = checked(*x, *added, {channels}, "added").contiguous();
    }
    if (small.scale && small.scale->stride(0) != small.shift->stride(0)) {
      small.scale = small.scale->contiguous();
      small.shift = small.shift->contiguous();
    }
    if (on_cpu && !blocks) {
      const auto contiguous = [](const std::optional<at::Tensor>& tensor) {
        return tensor ? std::optional(tensor->contiguous()) : std::nullopt;
      };
      *out = new at::Tensor(NormSilu::apply(*x, small.weight, small.bias, contiguous(small.scale),
                                            contiguous(small.shift), groups, epsilon));
      return;
    }
    *out = new at::Tensor(norm_device::apply(*x, small, groups, epsilon, silu));
  });
}

}  // extern "C"
