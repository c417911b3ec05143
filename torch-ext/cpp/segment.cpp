// Activation checkpointing (Chen et al. 2016): of a segment of the network only the inputs are kept;
// the backward pass computes its inside once more. The segment itself is a Rust closure.
#include "boundary.h"

#include <ATen/core/ivalue.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A closure from Rust: `call` reads `count` tensors and hands back a new one, or a message.
struct Closure : torch::CustomClassHolder {
  using Call = char* (*)(void* data, const TensorPointer* inputs, size_t count, TensorPointer* out);
  using Drop = void (*)(void* data);

  Closure(void* data, Call call, Drop drop) : data(data), call(call), drop(drop) {}
  Closure(const Closure&) = delete;
  ~Closure() override { drop(data); }

  at::Tensor run(variable_list& inputs) const {
    std::vector<TensorPointer> pointers;
    pointers.reserve(inputs.size());
    for (auto& input : inputs) {
      pointers.push_back(&input);
    }
    TensorPointer out = nullptr;
    char* message = call(data, pointers.data(), pointers.size(), &out);
    if (message != nullptr) {
      const std::string text(message);
      free(message);
      TORCH_CHECK(false, text);
    }
    at::Tensor result = *out;
    delete out;
    return result;
  }

  void* data;
  Call call;
  Drop drop;
};

struct Segment : torch::autograd::Function<Segment> {
  // libtorch calls this without gradients.
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<Closure>& closure,
                            at::TensorList inputs) {
    context->save_for_backward(inputs.vec());
    context->saved_data["closure"] = c10::IValue::make_capsule(closure);
    variable_list copies = inputs.vec();
    return closure->run(copies);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto capsule = context->saved_data["closure"].toCapsule();
    const auto& closure = static_cast<const Closure&>(*capsule);
    variable_list inputs;
    for (const auto& saved : context->get_saved_variables()) {
      inputs.push_back(saved.detach().requires_grad_(saved.requires_grad()));
    }
    at::Tensor output;
    {
      c10::AutoGradMode with_gradients(true);
      variable_list copies = inputs;
      output = closure.run(copies);
    }
    torch::autograd::backward({output}, {gradients[0]});
    // One for each argument of `forward`: the closure has none.
    variable_list result{at::Tensor()};
    for (const auto& input : inputs) {
      result.push_back(input.grad());
    }
    return result;
  }
};

}  // namespace

extern "C" {

// Runs the closure on the inputs; takes the closure over, whatever happens. Weights that it uses
// gather their gradients, though they are no inputs.
char* palette_segment(void* data, Closure::Call call, Closure::Drop drop,
                      const TensorPointer* inputs, size_t count, TensorPointer* out) {
  return guarded([&] {
    const auto closure = c10::make_intrusive<Closure>(data, call, drop);
    variable_list list;
    for (size_t i = 0; i < count; ++i) {
      list.push_back(*inputs[i]);
    }
    *out = new at::Tensor(Segment::apply(closure, at::TensorList(list)));
  });
}

}  // extern "C"
