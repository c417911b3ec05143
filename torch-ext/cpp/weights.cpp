// Weights in the kind that a network computes in: cast once a step instead of at every pass, and a
// product whose sums stay f32.
#include "boundary.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The copy stands for the weight: its gradient is the weight's.
struct Copy : torch::autograd::Function<Copy> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& weight,
                            const at::Tensor& copy) {
    context->save_for_backward({weight});
    return copy.detach();
  }

  // The first gradient of a step becomes the weight's own; later ones are added to it as they come,
  // not cast before.
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor weight = context->get_saved_variables()[0];
    const at::Tensor& sum = weight.grad();
    const bool adds = sum.defined() && sum.sizes() == gradients[0].sizes() && weight.is_leaf() &&
                      !c10::GradMode::is_enabled();
    if (!adds) {
      return {gradients[0], at::Tensor()};
    }
    sum.add_(gradients[0]);
    return {at::Tensor(), at::Tensor()};
  }
};

// a · b with an f32 result; a and b bf16 matrices on a GPU.
struct WideProduct : torch::autograd::Function<WideProduct> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& a, const at::Tensor& b) {
    context->save_for_backward({a, b});
    return at::mm(a, b, at::kFloat);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor above = gradients[0].to(saved[0].scalar_type());
    return {above.mm(saved[1].t()), saved[0].t().mm(above)};
  }
};

}  // namespace

extern "C" {

// `copy`, a cast of the leaf `weight`, as part of the graph.
char* palette_copy_of(TensorPointer weight, TensorPointer copy, TensorPointer* out) {
  return guarded([&] {
    TORCH_CHECK(weight->sizes() == copy->sizes(), "a weight ", weight->sizes(), " and its copy ",
                copy->sizes());
    *out = new at::Tensor(Copy::apply(*weight, *copy));
  });
}

char* palette_wide_product(TensorPointer a, TensorPointer b, TensorPointer* out) {
  return guarded([&] { *out = new at::Tensor(WideProduct::apply(*a, *b)); });
}

}  // extern "C"
