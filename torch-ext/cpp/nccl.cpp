// See nccl.h.
#include "nccl.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <type_traits>

namespace nccl {

namespace {

Library load() {
  void* handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  TORCH_CHECK(handle != nullptr, "NCCL does not load: ", dlerror());
  Library all{};
  const auto find = [&](auto& place, const char* name) {
    void* symbol = dlsym(handle, name);
    TORCH_CHECK(symbol != nullptr, "NCCL has no ", name);
    place = reinterpret_cast<std::decay_t<decltype(place)>>(symbol);
  };
  find(all.new_id, "ncclGetUniqueId");
  find(all.join, "ncclCommInitRank");
  find(all.reduce, "ncclAllReduce");
  find(all.broadcast, "ncclBroadcast");
  find(all.gather, "ncclAllGather");
  find(all.send, "ncclSend");
  find(all.receive, "ncclRecv");
  find(all.group_start, "ncclGroupStart");
  find(all.group_end, "ncclGroupEnd");
  find(all.error_of, "ncclCommGetAsyncError");
  find(all.abort, "ncclCommAbort");
  find(all.text, "ncclGetErrorString");
  return all;
}

}  // namespace

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

void Library::check(Status status, const char* what) const {
  TORCH_CHECK(status == 0, "NCCL: ", what, ": ", text(status));
}

int type_of(c10::ScalarType type) {
  switch (type) {
    case c10::kByte:
      return 1;
    case c10::kLong:
      return 4;
    case c10::kFloat:
      return 7;
    case c10::kDouble:
      return 8;
    default:
      TORCH_CHECK(false, "a collective over ", c10::toString(type), " is not foreseen");
  }
}

}  // namespace nccl
