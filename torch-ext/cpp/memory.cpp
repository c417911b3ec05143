// What libtorch's allocator of a GPU knows and can be told. See boundary.h for what every function
// promises.
#include "boundary.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>

#include <cstdint>

namespace {

constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

// Before its first tensor the allocator knows no device.
c10::DeviceIndex ready(int index) {
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  return static_cast<c10::DeviceIndex>(index);
}

}  // namespace

extern "C" {

// Bytes of a GPU's memory in tensors, now and at most so far.
char* palette_device_memory(int index, uint64_t* used, uint64_t* peak) {
  return guarded([&] {
    const auto stats = at::accelerator::getDeviceStats(ready(index));
    *used = static_cast<uint64_t>(stats.allocated_bytes[kAll].current);
    *peak = static_cast<uint64_t>(stats.allocated_bytes[kAll].peak);
  });
}

// Bytes of a GPU's memory that nobody uses, and those that this process holds but does not use.
char* palette_device_free_memory(int index, uint64_t* free, uint64_t* held) {
  return guarded([&] {
    const auto device = ready(index);
    const auto stats = at::accelerator::getDeviceStats(device);
    *free = static_cast<uint64_t>(at::accelerator::getMemoryInfo(device).first);
    *held = static_cast<uint64_t>(stats.reserved_bytes[kAll].current -
                                  stats.allocated_bytes[kAll].current);
  });
}

// The most bytes that the allocator took from the driver so far, and the bytes of the whole GPU that are
// in use now, by this process and others.
char* palette_device_reserved(int index, uint64_t* peak, uint64_t* in_use) {
  return guarded([&] {
    const auto device = ready(index);
    *peak = static_cast<uint64_t>(at::accelerator::getDeviceStats(device).reserved_bytes[kAll].peak);
    const auto [free, total] = at::accelerator::getMemoryInfo(device);
    *in_use = static_cast<uint64_t>(total - free);
  });
}

// Peaks count from now on.
char* palette_device_reset_peak(int index) {
  return guarded([&] { at::accelerator::resetPeakStats(ready(index)); });
}

// Gives unused blocks back to the driver.
char* palette_device_release() {
  return guarded([&] { at::accelerator::emptyCache(); });
}

}  // extern "C"
