// Our CUDA kernels, loaded through the driver: nothing of CUDA is linked, so that one program runs with
// and without a GPU.
#pragma once

#include <c10/core/Device.h>

namespace device {

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

// Queues a kernel on libtorch's current stream of `place`, a CUDA device. `module` names a file of
// cuda/ ("norm", "random"), `arguments` point to the values, as cuLaunchKernel takes them. Throws
// c10::Error.
void launch(c10::Device place, const char* module, const char* kernel, Grid blocks, unsigned threads,
            unsigned shared_bytes, void** arguments);

// Whether a module's kernels run there: a CUDA device that is not older than they ask for.
bool runs(c10::Device place, const char* module);

}  // namespace device
