// NCCL by its C API: the functions of `libnccl.so.2`, which libtorch_cuda brings along, found when they
// are first asked for. No header of NCCL or CUDA is needed, and a program without a GPU never looks.
#pragma once

#include <c10/core/ScalarType.h>

#include <array>
#include <cstddef>
#include <string>

namespace nccl {

using Communicator = struct Communicator_*;
using Status = int;

// ncclUniqueId: passed by value, as NCCL has it.
struct Id {
  std::array<char, 128> bytes;
};

struct Library {
  Status (*new_id)(Id*);
  Status (*join)(Communicator*, int size, Id, int rank);
  Status (*reduce)(const void*, void*, size_t, int type, int operation, Communicator, void* stream);
  Status (*broadcast)(const void*, void*, size_t, int type, int root, Communicator, void* stream);
  Status (*gather)(const void*, void*, size_t, int type, Communicator, void* stream);
  Status (*send)(const void*, size_t, int type, int to, Communicator, void* stream);
  Status (*receive)(void*, size_t, int type, int from, Communicator, void* stream);
  Status (*group_start)();
  Status (*group_end)();
  Status (*error_of)(Communicator, Status*);
  Status (*abort)(Communicator);
  const char* (*text)(Status);

  // Throws c10::Error with NCCL's own words.
  void check(Status status, const char* what) const;
};

// Throws c10::Error where NCCL does not load.
const Library& library();

// NCCL's number of a type; throws for those that nothing here sends.
int type_of(c10::ScalarType type);

// ncclSum.
constexpr int kSum = 0;

}  // namespace nccl
