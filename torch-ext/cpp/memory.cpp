// What libtorch's allocator of a GPU knows and can be told. See boundary.h for what every function
// promises.
#include "boundary.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>

#include <cstdint>

extern "C" {

// The most bytes that the allocator ever took from the driver, and the bytes of the whole GPU that are
// in use now, by whom ever.
char* palette_device_reserved(int index, uint64_t* peak, uint64_t* in_use) {
  return guarded([&] {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    const auto device = static_cast<c10::DeviceIndex>(index);
    const auto stats = at::accelerator::getDeviceStats(device);
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *peak = static_cast<uint64_t>(stats.reserved_bytes[all].peak);
    const auto [free, total] = at::accelerator::getMemoryInfo(device);
    *in_use = static_cast<uint64_t>(total - free);
  });
}

// From now on peaks are those from now on.
char* palette_device_reset_peak(int index) {
  return guarded([&] {
    // Before its first tensor the allocator knows no device.
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    at::accelerator::resetPeakStats(static_cast<c10::DeviceIndex>(index));
  });
}

// Gives the blocks that no tensor lies in back to the driver.
char* palette_device_release() {
  return guarded([&] { at::accelerator::emptyCache(); });
}

}  // extern "C"
