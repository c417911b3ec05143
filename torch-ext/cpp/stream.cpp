// Copies between host and device that the host does not wait for.
//
// Written against libtorch's device-neutral streams and events, so that nothing of CUDA is linked: on a
// libtorch for CPUs these functions are there and say that there is no such device. Pinned memory is
// libtorch's own: its host allocator hands a block out again only when the copies from and to it are
// done. See boundary.h for what every function promises.
#include "boundary.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

namespace {

// The stream that operations on this device are queued on.
c10::Stream current(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

// The stream for copies to this device, of libtorch's pool, which computations are not queued on. Always
// the same one: libtorch keeps freed memory for each stream apart.
c10::Stream side_stream(c10::Device device) {
  static std::mutex mutex;
  static std::map<c10::DeviceIndex, c10::Stream> streams;
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = streams.find(device.index());
  if (found == streams.end()) {
    const c10::impl::VirtualGuardImpl guard(device.type());
    found = streams.emplace(device.index(), guard.getStreamFromGlobalPool(device)).first;
  }
  return found->second;
}

at::Tensor on_host(at::IntArrayRef sizes, at::ScalarType type, bool pinned) {
  return at::empty(sizes, at::TensorOptions(type).pinned_memory(pinned));
}

}  // namespace

extern "C" {

// Bytes on the host, u8 [n]: the parts one after another.
char* palette_on_host(const uint8_t* const* parts, const size_t* sizes, size_t count, bool pinned,
                      TensorPointer* out) {
  return guarded([&] {
    int64_t all = 0;
    for (size_t i = 0; i < count; ++i) {
      all += static_cast<int64_t>(sizes[i]);
    }
    at::Tensor host = on_host({all}, at::kByte, pinned);
    auto* to = host.mutable_data_ptr<uint8_t>();
    for (size_t i = 0; i < count; ++i) {
      if (sizes[i] > 0) {
        std::memcpy(to, parts[i], sizes[i]);
        to += sizes[i];
      }
    }
    *out = new at::Tensor(std::move(host));
  });
}

// A copy of pinned memory on a GPU, made on a stream of its own. What is queued on the current stream
// from here on waits for the copy; the host does not.
char* palette_upload(TensorPointer host, int index, TensorPointer* out) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    const c10::Stream computing = current(device);
    const c10::Stream side = side_stream(device);
    c10::Event copied(device.type());
    at::Tensor there;
    {
      c10::StreamGuard guard(side);
      there = at::empty(host->sizes(), at::TensorOptions(host->scalar_type()).device(device));
      there.copy_(*host, /*non_blocking=*/true);
      copied.record(side);
    }
    copied.block(computing);
    // The memory is the side stream's: it must not be handed out again before the computations that
    // read it are done.
    there.record_stream(computing);
    *out = new at::Tensor(std::move(there));
  });
}

// Begins to copy a GPU's tensor to pinned memory; `event` passes when the numbers are there.
char* palette_download(TensorPointer tensor, TensorPointer* out, c10::Event** event) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    const at::Tensor there = tensor->detach().contiguous();
    at::Tensor host = on_host(there.sizes(), there.scalar_type(), /*pinned=*/true);
    host.copy_(there, /*non_blocking=*/true);
    auto copied = std::make_unique<c10::Event>(there.device().type());
    copied->record(current(there.device()));
    *out = new at::Tensor(std::move(host));
    *event = copied.release();
  });
}

char* palette_event_passed(const c10::Event* event, bool* passed) {
  return guarded([&] { *passed = event->query(); });
}

char* palette_event_wait(const c10::Event* event) {
  return guarded([&] { event->synchronize(); });
}

void palette_event_free(c10::Event* event) { delete event; }

}  // extern "C"
