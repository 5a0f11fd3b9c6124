// Checks the buffers that XLA passes, and calls a kernel for their dtype.

#ifndef CONVMIXER_JAX_KERNELS_CPU_BUFFERS_H_
#define CONVMIXER_JAX_KERNELS_CPU_BUFFERS_H_

#include <algorithm>
#include <vector>

#include "activations.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

inline ffi::Error Invalid(const char* message) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, message);
}

inline bool Is(const ffi::AnyBuffer& buffer, ffi::DataType dtype,
               const std::vector<int64_t>& dimensions) {
  const auto found = buffer.dimensions();
  return buffer.element_type() == dtype &&
         std::equal(found.begin(), found.end(), dimensions.begin(),
                    dimensions.end());
}

template <typename T>
const T* Data(const ffi::AnyBuffer& buffer) {
  return static_cast<const T*>(buffer.untyped_data());
}

// Calls run with a value of the dtype, of which only the type matters.
template <typename F>
ffi::Error WithDtype(ffi::DataType dtype, F run) {
  if (dtype == ffi::F32) {
    run(float{});
  } else if (dtype == ffi::BF16) {
    run(BFloat16{});
  } else {
    return Invalid("x is neither float32 nor bfloat16");
  }
  return ffi::Error::Success();
}

// The number of no activation, which only some functions take.
constexpr int64_t kNoActivation = 2;

// Calls run with the activation that has this number: 0 is GELU, 1 is ReLU.
template <typename F>
ffi::Error WithActivation(int64_t activation, F run) {
  if (activation == 0) return run(Gelu());
  if (activation == 1) return run(Relu());
  return Invalid("the activation is unknown");
}

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_BUFFERS_H_
