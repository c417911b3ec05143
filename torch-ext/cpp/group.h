// What a group of processes does together, whichever library does it.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <memory>

using Milliseconds = std::chrono::milliseconds;

// An operation that is queued.
struct Work {
  virtual ~Work() = default;
  virtual void wait() = 0;
};

struct Group {
  // Where the ranks met: the first one's is the server, which the others may still be asking.
  c10::intrusive_ptr<c10d::Store> store;
  virtual ~Group() = default;
  // In each, `limit` is how long the operation may stand still before it is an error.
  virtual std::unique_ptr<Work> sum(at::Tensor tensor, Milliseconds limit) = 0;
  virtual std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, Milliseconds limit) = 0;
  // The i-th of `size` equal parts of `from` goes to rank i; `to` has those that came, by rank.
  virtual std::unique_ptr<Work> exchange(at::Tensor to, at::Tensor from, Milliseconds limit) = 0;
  // `to` has what every rank gave, by rank.
  virtual std::unique_ptr<Work> gather(at::Tensor to, at::Tensor from, Milliseconds limit) = 0;
};

inline void check_flat(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous(), "a collective takes tensors that lie in one piece");
}
