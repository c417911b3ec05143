// The few libtorch functions that tch does not bind.
//
// See boundary.h for what every function promises.
#include "boundary.h"

#include <ATen/ATen.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adam.h>
#include <c10/core/GradMode.h>
#include <torch/version.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

namespace {

std::vector<at::Tensor> list(const TensorPointer* tensors, size_t count) {
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    result.push_back(*tensors[i]);
  }
  return result;
}

// Whether both walk their storages in the same order: strides of sides of one number mean nothing.
bool laid_out_alike(const at::Tensor& a, const at::Tensor& b) {
  for (int64_t i = 0; i < a.dim(); ++i) {
    if (a.size(i) > 1 && a.stride(i) != b.stride(i)) {
      return false;
    }
  }
  return true;
}

// Gradients laid out as their parameters: the fused kernels walk storages, not indices.
std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> result;
  result.reserve(parameters.size());
  for (const auto& parameter : parameters) {
    at::Tensor gradient = parameter.grad();
    if (!gradient.defined()) {
      result.emplace_back();
    } else if (laid_out_alike(gradient, parameter)) {
      result.push_back(gradient);
    } else {
      result.push_back(at::empty_like(parameter).copy_(gradient));
    }
  }
  return result;
}

// libtorch's operations on lists do not count what they change; copies of weights go by that count.
void changed(const std::vector<at::Tensor>& tensors) {
  for (const auto& tensor : tensors) {
    tensor.unsafeGetTensorImpl()->bump_version();
  }
}

}  // namespace

extern "C" {

void palette_free(char* message) { std::free(message); }

char* palette_fused_adam(const TensorPointer* parameters, const TensorPointer* first,
                         const TensorPointer* second, size_t count, TensorPointer step, double lr,
                         double beta1, double beta2, double weight_decay, double epsilon) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    auto all = list(parameters, count);
    auto gradients = gradients_of(all);
    std::vector<at::Tensor> p, g, m, v, steps;
    for (size_t i = 0; i < count; ++i) {
      if (!gradients[i].defined()) {
        continue;
      }
      p.push_back(all[i]);
      g.push_back(gradients[i]);
      m.push_back(*first[i]);
      v.push_back(*second[i]);
      steps.push_back(*step);
    }
    if (!p.empty()) {
      at::_fused_adam_(p, g, m, v, {}, steps, lr, beta1, beta2, weight_decay, epsilon,
                       /*amsgrad=*/false, /*maximize=*/false);
      changed(p);
    }
  });
}

// target <- target + weight * (source - target), all tensors in one call.
char* palette_lerp(const TensorPointer* targets, const TensorPointer* sources, size_t count,
                   double weight) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    if (count > 0) {
      const auto all = list(targets, count);
      at::_foreach_lerp_(all, list(sources, count), weight);
      changed(all);
    }
  });
}

// The L2 norm of all gradients together, as a scalar tensor on their device.
char* palette_gradient_norm(const TensorPointer* parameters, size_t count, TensorPointer* out) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    std::vector<at::Tensor> gradients;
    for (const auto& gradient : gradients_of(list(parameters, count))) {
      if (gradient.defined()) {
        gradients.push_back(gradient);
      }
    }
    TORCH_CHECK(!gradients.empty(), "no parameter has a gradient: call backward first");
    *out = new at::Tensor(at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients, 2))));
  });
}

// Multiplies every gradient by `factor` (a scalar tensor on their device).
char* palette_scale_gradients(const TensorPointer* parameters, size_t count,
                              TensorPointer factor) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    std::vector<at::Tensor> gradients;
    for (const auto& parameter : list(parameters, count)) {
      if (parameter.grad().defined()) {
        gradients.push_back(parameter.grad());
      }
    }
    if (!gradients.empty()) {
      at::_foreach_mul_(gradients, *factor);
    }
  });
}

// Drops the gradients, so that the next backward pass writes instead of adding.
char* palette_drop_gradients(const TensorPointer* parameters, size_t count) {
  return guarded([&] {
    for (size_t i = 0; i < count; ++i) {
      parameters[i]->mutable_grad().reset();
    }
  });
}

// Gives each parameter its gradient; a backward pass adds to it.
char* palette_set_gradients(const TensorPointer* parameters, const TensorPointer* gradients,
                            size_t count) {
  return guarded([&] {
    for (size_t i = 0; i < count; ++i) {
      TORCH_CHECK(parameters[i]->sizes() == gradients[i]->sizes(), "a parameter ",
                  parameters[i]->sizes(), " and its gradient ", gradients[i]->sizes());
      parameters[i]->mutable_grad() = *gradients[i];
    }
  });
}

// Says that tensors were changed through others that share their memory.
char* palette_changed(const TensorPointer* tensors, size_t count) {
  return guarded([&] { changed(list(tensors, count)); });
}

char* palette_channels_last(TensorPointer tensor, TensorPointer* out) {
  return guarded([&] {
    *out = new at::Tensor(tensor->contiguous(at::MemoryFormat::ChannelsLast));
  });
}

// Gives a parameter channels-last storage in place: same values, other strides.
char* palette_set_channels_last(TensorPointer tensor) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    tensor->set_data(tensor->detach().contiguous(at::MemoryFormat::ChannelsLast));
  });
}

// The version of the libtorch that this was built with; a constant, never freed.
const char* palette_libtorch_version() {
  return TORCH_VERSION;
}

}  // extern "C"
