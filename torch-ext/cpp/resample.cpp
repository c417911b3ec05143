// Half and twice the size of activations on CUDA (cuda/resample.cu); each is the other's gradient.
#include "activations.h"
#include "boundary.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using namespace activations;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// resample.cu's own structure: rows and columns at half the size, vectors a pixel.
struct Halves {
  int rows, columns, vectors;
  float scale;
};

at::Tensor resample(const at::Tensor& given, bool halve, double scale) {
  const at::Tensor x = given.contiguous(kLast);
  const int64_t b = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  const at::Tensor y = halve ? at::empty({b, c, h / 2, w / 2}, x.options(), kLast)
                             : at::empty({b, c, 2 * h, 2 * w}, x.options(), kLast);
  const void* from = x.const_data_ptr();
  void* to = y.mutable_data_ptr();
  const int width = width_of(x, c, {from, to});
  const at::Tensor& small = halve ? y : x;
  Halves g{static_cast<int>(b * small.size(2)), static_cast<int>(small.size(3)),
           static_cast<int>(c / width), static_cast<float>(scale)};
  void* arguments[] = {&g, &from, &to};
  const std::string kernel = (halve ? "resample_halve_" : "resample_double_") + suffix(x, width);
  launch_over(x, "resample", kernel, small.numel() / width, arguments);
  return y;
}

struct Halve : torch::autograd::Function<Halve> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& x) { return resample(x, true, 0.25); }
  static variable_list backward(AutogradContext*, const variable_list& gradients) {
    return {resample(gradients[0], false, 0.25)};
  }
};

struct Double : torch::autograd::Function<Double> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& x) { return resample(x, false, 1.0); }
  static variable_list backward(AutogradContext*, const variable_list& gradients) {
    return {resample(gradients[0], true, 1.0)};
  }
};

}  // namespace

extern "C" {

// Half (the mean of 2×2 pixels) or twice (nearest neighbour) the size of x [B,C,H,W]; `out` stays null
// where there is no kernel.
char* palette_resample(TensorPointer x, bool halve, TensorPointer* out) {
  return guarded([&] {
    const bool fits = x->dim() == 4 && x->numel() > 0 && x->numel() < (int64_t{1} << 40) &&
                      (!halve || (x->size(2) % 2 == 0 && x->size(3) % 2 == 0));
    if (!fits || !have_kernels(*x)) {
      return;
    }
    *out = new at::Tensor(halve ? Halve::apply(*x) : Double::apply(*x));
  });
}

}  // extern "C"
