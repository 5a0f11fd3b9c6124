// Launches one kernel, as an XLA call describes it.

#ifndef CONVMIXER_JAX_KERNELS_GPU_HOST_LAUNCH_H_
#define CONVMIXER_JAX_KERNELS_GPU_HOST_LAUNCH_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "driver.h"
#include "modules.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

using Numbers = ffi::Span<const int64_t>;

constexpr uintptr_t kAlignment = 16;  // of copies by cp.async

inline ffi::Error Fail(ffi::ErrorCode code, std::string_view entry,
                       const std::string& reason) {
  return ffi::Error(code,
                    "GPU kernel " + std::string(entry) + ": " + reason);
}

// Whether these are three sizes from 1 to what every GPU allows.
inline bool AreSizes(const Numbers& sizes, int64_t x, int64_t y, int64_t z) {
  return sizes.size() == 3 && sizes[0] >= 1 && sizes[0] <= x &&
         sizes[1] >= 1 && sizes[1] <= y && sizes[2] >= 1 && sizes[2] <= z;
}

// The addresses of all operands, then of all results. Sets `error` if they are
// not as many, or not as large, as `bytes` says, or not aligned as kernels
// need: a GPU that finds an address misaligned ends all work of the process.
inline std::vector<void*> Addresses(const ffi::RemainingArgs& operands,
                                    const ffi::RemainingRets& results,
                                    const Numbers& bytes, std::string* error) {
  std::vector<void*> addresses;
  const size_t count = operands.size() + results.size();
  if (count != bytes.size()) {
    *error = "it takes " + std::to_string(bytes.size()) + " arrays, not " +
             std::to_string(count);
    return addresses;
  }
  const auto add = [&](const ffi::AnyBuffer& buffer) {
    const size_t i = addresses.size();
    addresses.push_back(buffer.untyped_data());
    if (reinterpret_cast<uintptr_t>(addresses[i]) % kAlignment) {
      *error = "array " + std::to_string(i) + " is not aligned to " +
               std::to_string(kAlignment) + " bytes";
    }
    if (buffer.size_bytes() != static_cast<size_t>(bytes[i])) {
      *error = "array " + std::to_string(i) + " has " +
               std::to_string(buffer.size_bytes()) + " bytes, not " +
               std::to_string(bytes[i]);
    }
  };
  for (size_t i = 0; i < operands.size(); ++i) {
    add(*operands.get<ffi::AnyBuffer>(i));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    auto result = results.get<ffi::AnyBuffer>(i);
    add(**result);
  }
  return addresses;
}

// Launches `entry` of a module on XLA's stream, and does not wait for it.
//
// The kernel's parameters are addresses, then numbers. An address is that of
// the operand or result with a number of `pointers` (results follow operands),
// or null for -1; `bytes` has the size of each operand and result, so that who
// wrote the call and who wrote the kernel mean the same arrays. The numbers are
// passed as int32.
inline ffi::Error Launch(CUstream stream, ffi::RemainingArgs operands,
                         ffi::RemainingRets results, std::string_view module,
                         std::string_view entry, Numbers grid, Numbers block,
                         int64_t shared_bytes, Numbers pointers, Numbers bytes,
                         Numbers numbers) {
  const auto wrong = [&](const std::string& reason) {
    return Fail(ffi::ErrorCode::kInvalidArgument, entry, reason);
  };
  std::string error;
  auto addresses = Addresses(operands, results, bytes, &error);
  if (!error.empty()) return wrong(error);
  if (!AreSizes(grid, INT32_MAX, 65535, 65535)) {
    return wrong("no GPU can start this grid");
  }
  if (!AreSizes(block, 1024, 1024, 64) ||
      block[0] * block[1] * block[2] > 1024 || shared_bytes < 0 ||
      shared_bytes > INT32_MAX) {
    return wrong("no GPU can start this block");
  }
  void* null = nullptr;
  std::vector<void*> parameters;
  for (const int64_t pointer : pointers) {
    if (pointer < -1 || pointer >= static_cast<int64_t>(addresses.size())) {
      return wrong("there is no array " + std::to_string(pointer));
    }
    parameters.push_back(pointer < 0 ? &null : &addresses[pointer]);
  }
  std::vector<int32_t> narrow;
  for (const int64_t number : numbers) {
    if (number < INT32_MIN || number > INT32_MAX) {
      return wrong(std::to_string(number) + " has more than 32 bits");
    }
    narrow.push_back(static_cast<int32_t>(number));
  }
  for (auto& number : narrow) parameters.push_back(&number);

  const auto failed = [&](const std::string& reason) {
    return Fail(ffi::ErrorCode::kInternal, entry, reason);
  };
  const Driver& driver = Driver::Get();
  if (!driver.missing.empty()) return failed(driver.missing);
  CUcontext context;
  CUresult result = driver.stream_get_context(stream, &context);
  if (result != 0) return failed(driver.Describe("cuStreamGetCtx", result));
  const CurrentContext current(driver, context);
  if (current.result != 0) {
    return failed(driver.Describe("cuCtxPushCurrent", current.result));
  }
  CUfunction function;
  error = Modules::Get().Find(driver, context, std::string(module),
                              std::string(entry),
                              static_cast<int>(shared_bytes), &function);
  if (!error.empty()) return failed(error);
  const auto size = [](int64_t value) { return static_cast<unsigned>(value); };
  result = driver.launch(function, size(grid[0]), size(grid[1]), size(grid[2]),
                         size(block[0]), size(block[1]), size(block[2]),
                         size(shared_bytes), stream, parameters.data(),
                         nullptr);
  if (result != 0) return failed(driver.Describe("cuLaunchKernel", result));
  return ffi::Error::Success();
}

// The attributes of a call, bound to the parameters of Launch that follow the
// stream.
template <typename Binding>
auto BindLaunch(Binding binding) {
  return std::move(binding)
      .RemainingArgs()
      .RemainingRets()
      .template Attr<std::string_view>("module")
      .template Attr<std::string_view>("entry")
      .template Attr<Numbers>("grid")
      .template Attr<Numbers>("block")
      .template Attr<int64_t>("shared_bytes")
      .template Attr<Numbers>("pointers")
      .template Attr<Numbers>("bytes")
      .template Attr<Numbers>("numbers");
}

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_GPU_HOST_LAUNCH_H_
