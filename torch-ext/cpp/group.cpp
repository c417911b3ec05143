// Processes that compute together: Gloo for tensors on the CPU, NCCL for those on GPUs, both behind the
// same few functions. They find each other through libtorch's TCPStore.
//
// All ranks call the same functions in the same order, with tensors of the same sizes. Every operation is
// queued and gives a `Work`; its result is there after palette_group_wait: on the CPU when that returns, on
// a GPU for everything that is queued after it. See boundary.h for what every function promises.
#include "group.h"
#include "boundary.h"
#include "nccl.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Store = c10::intrusive_ptr<c10d::Store>;

// ---- Gloo

struct GlooWork final : Work {
  c10::intrusive_ptr<c10d::Work> work;
  explicit GlooWork(c10::intrusive_ptr<c10d::Work> queued) : work(std::move(queued)) {}
  void wait() override { work->wait(); }
};

struct GlooGroup final : Group {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;

  GlooGroup(const Store& store, int rank, int size, const std::string& address,
            const std::string& interface, Milliseconds patience) {
    // For the others to come; every operation has a limit of its own.
    auto options = c10d::ProcessGroupGloo::Options::create(patience);
    if (!interface.empty()) {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    } else if (!address.empty()) {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
    } else {
      options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
    }
    gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  }

  static std::unique_ptr<Work> queued(c10::intrusive_ptr<c10d::Work> work) {
    return std::make_unique<GlooWork>(std::move(work));
  }

  std::unique_ptr<Work> sum(at::Tensor tensor, Milliseconds limit) override {
    std::vector<at::Tensor> list{std::move(tensor)};
    c10d::AllreduceOptions options;
    options.timeout = limit;
    return queued(gloo->allreduce(list, options));
  }

  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, Milliseconds limit) override {
    std::vector<at::Tensor> list{std::move(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.timeout = limit;
    return queued(gloo->broadcast(list, options));
  }

  std::unique_ptr<Work> exchange(at::Tensor to, at::Tensor from, Milliseconds limit) override {
    std::vector<int64_t> equal;
    c10d::AllToAllOptions options;
    options.timeout = limit;
    return queued(gloo->alltoall_base(to, from, equal, equal, options));
  }

  std::unique_ptr<Work> gather(at::Tensor to, at::Tensor from, Milliseconds limit) override {
    c10d::AllgatherOptions options;
    options.timeout = limit;
    return queued(gloo->_allgather_base(to, from, options));
  }
};

// ---- NCCL

c10::Stream current(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

// What the watcher knows of an operation.
struct Queued {
  std::shared_ptr<c10::Event> done;
  Clock::time_point due;
};

// A communicator, and a thread that ends it where an operation fails or stands still: a GPU would wait
// for ever.
struct NcclState {
  const nccl::Library& library = nccl::library();
  nccl::Communicator communicator = nullptr;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Queued> queue;
  std::string failure;
  bool closing = false;

  void check() {
    const std::lock_guard<std::mutex> lock(mutex);
    TORCH_CHECK(failure.empty(), failure);
  }

  // Called with the lock.
  void fail(std::string reason) {
    failure = std::move(reason);
    queue.clear();
    library.abort(communicator);
    communicator = nullptr;
  }

  void watch() {
    std::unique_lock<std::mutex> lock(mutex);
    while (!closing && failure.empty()) {
      wake.wait_for(lock, Milliseconds(100));
      try {
        while (!queue.empty() && queue.front().done->query()) {
          queue.pop_front();
        }
        nccl::Status status = 0;
        // 7 is ncclInProgress.
        if (communicator != nullptr && library.error_of(communicator, &status) == 0 && status != 0 &&
            status != 7) {
          fail(std::string("NCCL: ") + library.text(status));
        } else if (!queue.empty() && Clock::now() > queue.front().due) {
          fail("a collective stood still (NCCL timeout)");
        }
      } catch (const std::exception& error) {
        fail(error.what());
      }
    }
  }
};

struct NcclWork final : Work {
  std::shared_ptr<NcclState> state;
  std::shared_ptr<c10::Event> done;
  c10::Device device;
  // Their memory is read and written on another stream until then.
  std::vector<at::Tensor> tensors;

  NcclWork(std::shared_ptr<NcclState> of, std::shared_ptr<c10::Event> event, c10::Device place,
           std::vector<at::Tensor> held)
      : state(std::move(of)), done(std::move(event)), device(place), tensors(std::move(held)) {}

  void wait() override {
    state->check();
    done->block(current(device));
  }
};

struct NcclGroup final : Group {
  std::shared_ptr<NcclState> state = std::make_shared<NcclState>();
  c10::Device device;
  c10::Stream stream;
  int size;
  std::thread watcher;

  NcclGroup(const Store& store, int rank, int ranks, c10::Device place)
      : device(place),
        stream(c10::impl::VirtualGuardImpl(place.type()).getStreamFromGlobalPool(place)),
        size(ranks) {
    nccl::Id id{};
    if (rank == 0) {
      state->library.check(state->library.new_id(&id), "ncclGetUniqueId");
      store->set("nccl", std::vector<uint8_t>(id.bytes.begin(), id.bytes.end()));
    } else {
      const std::vector<uint8_t> given = store->get("nccl");
      TORCH_CHECK(given.size() == id.bytes.size(), "the first rank gave no id of NCCL");
      std::copy(given.begin(), given.end(), id.bytes.begin());
    }
    const c10::DeviceGuard guard(device);
    state->library.check(state->library.join(&state->communicator, size, id, rank), "ncclCommInitRank");
    watcher = std::thread([shared = state, place] {
      const c10::DeviceGuard there(place);
      shared->watch();
    });
  }

  ~NcclGroup() override {
    {
      const std::lock_guard<std::mutex> lock(state->mutex);
      state->closing = true;
    }
    state->wake.notify_all();
    watcher.join();
    // ncclCommDestroy waits for what is queued, and with it for ranks that may be gone.
    if (state->communicator != nullptr) {
      state->library.abort(state->communicator);
    }
  }

  // Queues on a stream of its own, behind what is queued so far.
  template <typename Body>
  std::unique_ptr<Work> queued(std::vector<at::Tensor> tensors, Milliseconds limit, Body&& body) {
    state->check();
    const c10::DeviceGuard guard(device);
    c10::Event ready(device.type());
    ready.record(current(device));
    ready.block(stream);
    {
      const std::lock_guard<std::mutex> lock(state->mutex);
      TORCH_CHECK(state->failure.empty(), state->failure);
      body(stream.native_handle());
    }
    auto done = std::make_shared<c10::Event>(device.type());
    done->record(stream);
    for (const auto& tensor : tensors) {
      tensor.record_stream(stream);
    }
    {
      const std::lock_guard<std::mutex> lock(state->mutex);
      state->queue.push_back({done, Clock::now() + limit});
    }
    return std::make_unique<NcclWork>(state, done, device, std::move(tensors));
  }

  static size_t count(const at::Tensor& tensor) { return static_cast<size_t>(tensor.numel()); }

  std::unique_ptr<Work> sum(at::Tensor tensor, Milliseconds limit) override {
    return queued({tensor}, limit, [&](void* on) {
      state->library.check(
          state->library.reduce(tensor.const_data_ptr(), tensor.mutable_data_ptr(), count(tensor),
                                nccl::type_of(tensor.scalar_type()), nccl::kSum, state->communicator, on),
          "ncclAllReduce");
    });
  }

  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, Milliseconds limit) override {
    return queued({tensor}, limit, [&](void* on) {
      state->library.check(
          state->library.broadcast(tensor.const_data_ptr(), tensor.mutable_data_ptr(), count(tensor),
                                   nccl::type_of(tensor.scalar_type()), root, state->communicator, on),
          "ncclBroadcast");
    });
  }

  std::unique_ptr<Work> exchange(at::Tensor to, at::Tensor from, Milliseconds limit) override {
    return queued({to, from}, limit, [&](void* on) {
      const auto& library = state->library;
      const int type = nccl::type_of(from.scalar_type());
      const size_t each = count(from) / size, bytes = each * from.element_size();
      const auto* source = static_cast<const char*>(from.const_data_ptr());
      auto* target = static_cast<char*>(to.mutable_data_ptr());
      library.check(library.group_start(), "ncclGroupStart");
      for (int rank = 0; rank < size; ++rank) {
        library.check(library.send(source + rank * bytes, each, type, rank, state->communicator, on),
                      "ncclSend");
        library.check(library.receive(target + rank * bytes, each, type, rank, state->communicator, on),
                      "ncclRecv");
      }
      library.check(library.group_end(), "ncclGroupEnd");
    });
  }

  std::unique_ptr<Work> gather(at::Tensor to, at::Tensor from, Milliseconds limit) override {
    return queued({to, from}, limit, [&](void* on) {
      state->library.check(
          state->library.gather(from.const_data_ptr(), to.mutable_data_ptr(), count(from),
                                nccl::type_of(from.scalar_type()), state->communicator, on),
          "ncclAllGather");
    });
  }
};

}  // namespace

extern "C" {

// Reaches the place where processes meet, at `host`:`port`. `serves`: this one listens there, on `listener`, a
// socket that is bound already and is taken over, or where it is -1 on every address of this host. What is
// kept there is apart from that of other names.
char* palette_store_open(const char* host, uint16_t port, bool serves, int listener, const char* name,
                         int64_t meet_ms, void** out) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves;
    options.waitWorkers = false;
    options.timeout = Milliseconds(meet_ms);
    if (listener >= 0) {
      options.masterListenFd = listener;
    }
    auto all = c10::make_intrusive<c10d::TCPStore>(host, options);
    *out = new Store(c10::make_intrusive<c10d::PrefixStore>(name, std::move(all)));
  });
}

void palette_store_free(void* store) { delete static_cast<Store*>(store); }

// Adds to a number that begins at 0.
char* palette_store_add(void* store, const char* key, int64_t more, int64_t* out) {
  return guarded([&] { *out = (*static_cast<Store*>(store))->add(key, more); });
}

// Joins `size` processes as `rank`. `index` is the GPU, or -1 for the CPU. Gloo speaks over the network
// interface `interface` or, where that is empty, that of `address`; both empty: of this host's name.
char* palette_group_join(void* store, int rank, int size, int index, const char* address, const char* interface,
                         int64_t meet_ms, void** out) {
  return guarded([&] {
    const Store& met = *static_cast<Store*>(store);
    std::unique_ptr<Group> group;
    if (index < 0) {
      group = std::make_unique<GlooGroup>(met, rank, size, address, interface, Milliseconds(meet_ms));
    } else {
      const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
      group = std::make_unique<NcclGroup>(met, rank, size, device);
    }
    group->store = met;
    *out = group.release();
  });
}

void palette_group_free(void* group) { delete static_cast<Group*>(group); }

char* palette_group_sum(void* group, TensorPointer tensor, int64_t limit_ms, void** work) {
  return guarded([&] {
    check_flat(*tensor);
    *work = static_cast<Group*>(group)->sum(*tensor, Milliseconds(limit_ms)).release();
  });
}

char* palette_group_broadcast(void* group, TensorPointer tensor, int root, int64_t limit_ms, void** work) {
  return guarded([&] {
    check_flat(*tensor);
    *work = static_cast<Group*>(group)->broadcast(*tensor, root, Milliseconds(limit_ms)).release();
  });
}

char* palette_group_exchange(void* group, TensorPointer to, TensorPointer from, int64_t limit_ms,
                             void** work) {
  return guarded([&] {
    check_flat(*to);
    check_flat(*from);
    *work = static_cast<Group*>(group)->exchange(*to, *from, Milliseconds(limit_ms)).release();
  });
}

char* palette_group_gather(void* group, TensorPointer to, TensorPointer from, int64_t limit_ms, void** work) {
  return guarded([&] {
    check_flat(*to);
    check_flat(*from);
    *work = static_cast<Group*>(group)->gather(*to, *from, Milliseconds(limit_ms)).release();
  });
}

char* palette_group_wait(void* work) {
  return guarded([&] { static_cast<Work*>(work)->wait(); });
}

void palette_group_work_free(void* work) { delete static_cast<Work*>(work); }

}  // extern "C"
