// The end of a residual block on CUDA: x + h + bias in one pass (cuda/add.cu).
#include "activations.h"
#include "boundary.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using namespace activations;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Add : torch::autograd::Function<Add> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& given_x, const at::Tensor& given_h,
                            const at::Tensor& bias) {
    const at::Tensor x = given_x.contiguous(kLast), h = given_h.contiguous(kLast);
    const at::Tensor y = at::empty_like(x);
    const void *from = x.const_data_ptr(), *plus = h.const_data_ptr();
    void* to = y.mutable_data_ptr();
    const int width = width_of(x, x.size(1), {from, plus, to});
    const float* b = bias.const_data_ptr<float>();
    int columns = static_cast<int>(x.size(1) / width);
    long long vectors = static_cast<long long>(x.numel() / width);
    void* arguments[] = {&from, &plus, &b, &to, &columns, &vectors};
    launch_over(x, "add", "add_" + suffix(x, width), vectors, arguments);
    return y;
  }

  static variable_list backward(AutogradContext*, const variable_list& gradients) {
    // What a concatenation hands back is a part of its gradient: laid out once, not by each who takes it.
    const at::Tensor dy = gradients[0].contiguous(kLast);
    return {dy, dy, dy.sum({0, 2, 3}, false, at::kFloat)};
  }
};

}  // namespace

extern "C" {

// x + h + bias, x and h of one kind and shape [B,C,H,W], bias f32 [C]; `out` stays null where there is
// no kernel.
char* palette_add(TensorPointer x, TensorPointer h, TensorPointer bias, TensorPointer* out) {
  return guarded([&] {
    if (!have_kernels(*x)) {
      return;
    }
    TORCH_CHECK(x->dim() == 4 && x->sizes() == h->sizes() && x->scalar_type() == h->scalar_type() &&
                    x->device() == h->device(),
                "the two sides of a sum are ", x->toString(), " ", x->sizes(), " and ",
                h->toString(), " ", h->sizes());
    TORCH_CHECK(bias->dim() == 1 && bias->size(0) == x->size(1) && bias->device() == x->device() &&
                    bias->scalar_type() == at::kFloat,
                "the bias of a sum is ", bias->toString(), " ", bias->sizes());
    *out = new at::Tensor(Add::apply(*x, *h, bias->contiguous()));
  });
}

}  // extern "C"
