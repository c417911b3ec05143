#include "device.h"

#include "boundary.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <string>
#include <utility>

// The PTX of cuda/, embedded by build.rs.
struct Ptx {
  const char* module;
  // The first compute capability that it is for, times ten.
  int compute;
  const char* text;
};
extern const Ptx palette_ptx[];
extern const size_t palette_ptx_count;

namespace {

// The driver's interface, as far as it is needed. Its types are pointers and numbers; the names with
// _v2 are what cuda.h makes of those without.
using Status = int;
using Context = struct Context_*;
using Module = struct Module_*;
using Function = struct Function_*;
using DriverStream = struct Stream_*;

struct Driver {
  Status (*error)(Status, const char**);
  Status (*device)(int*, int);
  Status (*attribute)(int*, int, int);
  Status (*retain)(Context*, int);
  Status (*current)(Context*);
  Status (*set_current)(Context);
  Status (*load)(Module*, const void*, unsigned, int*, void**);
  Status (*function)(Function*, Module, const char*);
  Status (*launch)(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   DriverStream, void**, void**);

  Driver() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(library != nullptr, "the CUDA driver does not load: ", dlerror());
    const auto find = [&](auto& place, const char* name) {
      void* symbol = dlsym(library, name);
      TORCH_CHECK(symbol != nullptr, "the CUDA driver has no ", name);
      place = reinterpret_cast<std::decay_t<decltype(place)>>(symbol);
    };
    find(error, "cuGetErrorString");
    find(device, "cuDeviceGet");
    find(attribute, "cuDeviceGetAttribute");
    find(retain, "cuDevicePrimaryCtxRetain");
    find(current, "cuCtxGetCurrent");
    find(set_current, "cuCtxSetCurrent");
    find(load, "cuModuleLoadDataEx");
    find(function, "cuModuleGetFunction");
    find(launch, "cuLaunchKernel");
  }

  void check(Status status, const std::string& what) const {
    if (status == 0) {
      return;
    }
    const char* text = nullptr;
    error(status, &text);
    TORCH_CHECK(false, "CUDA: ", what, ": ", text != nullptr ? text : std::to_string(status));
  }
};

const Driver& driver() {
  static const Driver loaded;
  return loaded;
}

const Ptx& ptx_of(const std::string& module) {
  for (size_t i = 0; i < palette_ptx_count; ++i) {
    if (module == palette_ptx[i].module) {
      return palette_ptx[i];
    }
  }
  TORCH_CHECK(false, "there are no kernels `", module, "`");
}

// What was loaded for each device. Nothing is unloaded: the primary context lives as long as the process.
struct Loaded {
  std::mutex mutex;
  std::map<int, Context> contexts;
  std::map<std::pair<int, std::string>, Module> modules;
  std::map<std::pair<int, std::string>, Function> functions;

  Context context(int index) {
    auto [place, fresh] = contexts.try_emplace(index, nullptr);
    if (fresh) {
      int ordinal = 0;
      driver().check(driver().device(&ordinal, index), "cuDeviceGet");
      driver().check(driver().retain(&place->second, ordinal), "cuDevicePrimaryCtxRetain");
    }
    return place->second;
  }

  Function function(int index, const char* module, const char* kernel) {
    auto& found = functions[{index, kernel}];
    if (found == nullptr) {
      auto& loaded = modules[{index, module}];
      if (loaded == nullptr) {
        // CU_JIT_ERROR_LOG_BUFFER and CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES.
        char log[4096] = "";
        int options[] = {5, 6};
        void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
        const Status status = driver().load(&loaded, ptx_of(module).text, 2, options, values);
        driver().check(status, std::string("the kernels `") + module + "` do not load" +
                                   (log[0] != '\0' ? std::string(" (") + log + ")" : ""));
      }
      driver().check(driver().function(&found, loaded, kernel),
                     std::string("there is no kernel `") + kernel + "`");
    }
    return found;
  }
};

Loaded& loaded() {
  static Loaded everything;
  return everything;
}

}  // namespace

namespace device {

void launch(c10::Device place, const char* module, const char* kernel, Grid blocks, unsigned threads,
            unsigned shared_bytes, void** arguments) {
  const c10::DeviceGuard guard(place);
  Function function = nullptr;
  {
    const std::lock_guard<std::mutex> lock(loaded().mutex);
    const Context wanted = loaded().context(place.index());
    Context current = nullptr;
    driver().check(driver().current(&current), "cuCtxGetCurrent");
    // A thread that has not used CUDA yet has no context: libtorch's own is the device's primary one.
    if (current != wanted) {
      driver().check(driver().set_current(wanted), "cuCtxSetCurrent");
    }
    function = loaded().function(place.index(), module, kernel);
  }
  const c10::Stream stream = at::accelerator::getCurrentStream(place.index());
  driver().check(driver().launch(function, blocks.x, blocks.y, blocks.z, threads, 1, 1, shared_bytes,
                                 static_cast<DriverStream>(stream.native_handle()), arguments, nullptr),
                 kernel);
}

bool runs(c10::Device place, const char* module) {
  if (!place.is_cuda()) {
    return false;
  }
  int ordinal = 0, major = 0, minor = 0;
  driver().check(driver().device(&ordinal, place.index()), "cuDeviceGet");
  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
  driver().check(driver().attribute(&major, 75, ordinal), "cuDeviceGetAttribute");
  driver().check(driver().attribute(&minor, 76, ordinal), "cuDeviceGetAttribute");
  return 10 * major + minor >= ptx_of(module).compute;
}

}  // namespace device
