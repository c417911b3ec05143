// Gradients that are added up over the ranks while the backward pass still computes others (as PyTorch's
// DistributedDataParallel does, Li et al. 2020).
//
// The gradients lie in buckets. A bucket's sum begins when the last of its gradients is there and the sums of
// all buckets before it have begun: so all ranks begin them in one order. The last bucket waits for the
// caller, who has more to put into it.
#include "boundary.h"
#include "group.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace {

class Buckets {
 public:
  Buckets(Group* group, Milliseconds limit, std::vector<size_t> places, size_t count)
      : group_(group), limit_(limit), places_(std::move(places)), sizes_(count, 0) {
    for (const size_t place : places_) {
      TORCH_CHECK(place < count, "a gradient lies in bucket ", place, " of ", count);
      ++sizes_[place];
    }
  }

  // The next backward pass is the last one before the sum. `spans` are the buckets' numbers.
  void open(std::vector<at::Tensor> spans) {
    const std::lock_guard<std::mutex> lock(mutex_);
    take(std::move(spans));
    open_ = true;
  }

  // Begins the sums that have not begun, and waits for all.
  void finish(std::vector<at::Tensor> spans) {
    std::vector<std::unique_ptr<Work>> works;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!open_) {
        take(std::move(spans));
      }
      open_ = false;
      if (failure_) {
        std::rethrow_exception(std::exchange(failure_, nullptr));
      }
      while (works_.size() < spans_.size()) {
        begin_next();
      }
      works = std::exchange(works_, {});
      spans_.clear();
    }
    for (const auto& work : works) {
      work->wait();
    }
  }

  // A backward pass has added to a gradient. Called from libtorch's threads.
  void arrived(size_t parameter) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!open_ || failure_) {
      return;
    }
    TORCH_CHECK(!there_[parameter], "a gradient was added to after it was given to the sum over the ranks");
    there_[parameter] = true;
    --missing_[places_[parameter]];
    // What is wrong with other ranks is no fault of this pass.
    try {
      while (works_.size() + 1 < spans_.size() && missing_[works_.size()] == 0) {
        begin_next();
      }
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

 private:
  void take(std::vector<at::Tensor> spans) {
    TORCH_CHECK(spans.size() == sizes_.size(), spans.size(), " spans of ", sizes_.size(), " buckets");
    spans_ = std::move(spans);
    missing_ = sizes_;
    there_.assign(places_.size(), false);
    works_.clear();
    failure_ = nullptr;
  }

  void begin_next() { works_.push_back(group_->sum(spans_[works_.size()], limit_)); }

  Group* group_;
  Milliseconds limit_;
  // The bucket of each parameter, and how many parameters each bucket has.
  std::vector<size_t> places_, sizes_;
  std::mutex mutex_;
  bool open_ = false;
  std::vector<at::Tensor> spans_;
  std::vector<size_t> missing_;
  std::vector<bool> there_;
  // Of the first buckets, whose sums have begun.
  std::vector<std::unique_ptr<Work>> works_;
  std::exception_ptr failure_;
};

// Belongs to a parameter, which may live longer than the buckets.
struct Arrival final : torch::autograd::PostAccumulateGradHook {
  std::weak_ptr<Buckets> buckets;
  size_t parameter;

  Arrival(const std::shared_ptr<Buckets>& of, size_t number) : buckets(of), parameter(number) {}

  void operator()(const torch::autograd::Variable&) override {
    if (const auto there = buckets.lock()) {
      there->arrived(parameter);
    }
  }
};

std::vector<at::Tensor> flat(const TensorPointer* tensors, size_t count) {
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < count; ++i) {
    check_flat(*tensors[i]);
    result.push_back(*tensors[i]);
  }
  return result;
}

std::shared_ptr<Buckets>& of(void* buckets) { return *static_cast<std::shared_ptr<Buckets>*>(buckets); }

}  // namespace

extern "C" {

// Watches the gradients of parameters; the i-th lies in bucket `places[i]` of `buckets`. The group must live
// as long.
char* palette_buckets_new(void* group, const TensorPointer* parameters, const size_t* places, size_t count,
                          size_t buckets, int64_t limit_ms, void** out) {
  return guarded([&] {
    auto made = std::make_shared<Buckets>(static_cast<Group*>(group), Milliseconds(limit_ms),
                                          std::vector<size_t>(places, places + count), buckets);
    for (size_t i = 0; i < count; ++i) {
      torch::autograd::impl::set_post_acc_grad_hooks(*parameters[i], std::make_unique<Arrival>(made, i));
    }
    *out = new std::shared_ptr<Buckets>(std::move(made));
  });
}

void palette_buckets_free(void* buckets) { delete &of(buckets); }

char* palette_buckets_open(void* buckets, const TensorPointer* spans, size_t count) {
  return guarded([&] { of(buckets)->open(flat(spans, count)); });
}

char* palette_buckets_finish(void* buckets, const TensorPointer* spans, size_t count) {
  return guarded([&] { of(buckets)->finish(flat(spans, count)); });
}

}  // extern "C"
