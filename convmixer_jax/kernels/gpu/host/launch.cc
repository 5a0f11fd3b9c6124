// The handler by which XLA launches kernels, and what Python calls before.

#include "launch.h"

#include <cstring>

// A call always launches the same kernel, allocates nothing and asks a stream
// for nothing but its context, so XLA may record it in a CUDA graph: then the
// launches of many small operations cost little. Modules are loaded before, by
// convmixer_gpu_load, since loading is not allowed while a graph is recorded.
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    convmixer_gpu_launch, Launch,
    BindLaunch(ffi::Ffi::Bind().Ctx<ffi::PlatformStream<CUstream>>()),
    {ffi::Traits::kCmdBufferCompatible});

extern "C" {

// Makes code known to the handler under a name, once.
void convmixer_gpu_add(const char* module, const void* code, size_t size) {
  Modules::Get().Add(module, code, size);
}

// Loads an entry on a GPU of this process. Writes why it cannot be, or an empty
// string, to `reason`, which has room for `size` bytes.
void convmixer_gpu_load(const char* module, const char* entry,
                        int shared_bytes, int ordinal, char* reason,
                        size_t size) {
  const auto load = [&]() -> std::string {
    const Driver& driver = Driver::Get();
    if (!driver.missing.empty()) return driver.missing;
    CUresult result = driver.init(0);
    if (result != 0) return driver.Describe("cuInit", result);
    CUdevice device;
    result = driver.device_get(&device, ordinal);
    if (result != 0) return driver.Describe("cuDeviceGet", result);
    // The context that XLA uses too, and keeps.
    CUcontext context;
    result = driver.retain_primary_context(&context, device);
    if (result != 0) {
      return driver.Describe("cuDevicePrimaryCtxRetain", result);
    }
    std::string error;
    {
      const CurrentContext current(driver, context);
      CUfunction function;
      error = current.result == 0
                  ? Modules::Get().Find(driver, context, module, entry,
                                        shared_bytes, &function)
                  : driver.Describe("cuCtxPushCurrent", current.result);
    }
    return error;
  };
  const std::string text = load();
  std::strncpy(reason, text.c_str(), size - 1);
  reason[size - 1] = '\0';
}

}  // extern "C"
