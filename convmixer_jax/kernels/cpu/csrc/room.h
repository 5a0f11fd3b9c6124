// Memory of a task for its own copies.

#ifndef CONVMIXER_JAX_KERNELS_CPU_ROOM_H_
#define CONVMIXER_JAX_KERNELS_CPU_ROOM_H_

#include <cstdint>
#include <memory>
#include <new>

#include "vectors.h"

namespace {

// Room for floats. It begins with a line of the cache, since to load a vector
// from two takes twice the time; and it is not initialized, which would be one
// more pass.
class Room {
 public:
  explicit Room(int64_t size)
      : data_(static_cast<float*>(
            ::operator new[](size * sizeof(float), kAlignment))) {}

  float* data() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};

  struct Free {
    void operator()(float* data) const {
      ::operator delete[](data, kAlignment);
    }
  };

  std::unique_ptr<float[], Free> data_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_ROOM_H_
