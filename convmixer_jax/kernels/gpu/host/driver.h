// NVIDIA's driver, libcuda, found when a kernel is first launched.
//
// Neither its headers nor the library are needed to build: the few types and
// functions that are used are declared here, as in cuda.h, which has kept them
// since CUDA 4 (the names with _v2 are those to which its macros expand).

#ifndef CONVMIXER_JAX_KERNELS_GPU_HOST_DRIVER_H_
#define CONVMIXER_JAX_KERNELS_GPU_HOST_DRIVER_H_

#include <dlfcn.h>

#include <string>

#ifndef CUDA_DRIVER  // tests have another
#define CUDA_DRIVER "libcuda.so.1"
#endif

namespace {

using CUresult = int;  // 0 is success
using CUdevice = int;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;

constexpr int kMaxDynamicSharedMemory = 8;  // a CUfunction_attribute

struct Driver {
  CUresult (*init)(unsigned flags);
  CUresult (*get_error_name)(CUresult, const char**);
  CUresult (*get_error_string)(CUresult, const char**);
  CUresult (*device_get)(CUdevice*, int ordinal);
  CUresult (*retain_primary_context)(CUcontext*, CUdevice);
  CUresult (*stream_get_context)(CUstream, CUcontext*);
  CUresult (*push_context)(CUcontext);
  CUresult (*pop_context)(CUcontext*);
  CUresult (*load_module)(CUmodule*, const void* image);
  CUresult (*get_function)(CUfunction*, CUmodule, const char* name);
  CUresult (*set_attribute)(CUfunction, int attribute, int value);
  CUresult (*launch)(CUfunction, unsigned grid_x, unsigned grid_y,
                     unsigned grid_z, unsigned block_x, unsigned block_y,
                     unsigned block_z, unsigned shared_bytes, CUstream,
                     void** parameters, void** extra);

  std::string missing;  // why it cannot be used; empty if it can

  // Returns the driver, which is looked for once.
  static const Driver& Get() {
    static const Driver driver = Load();
    return driver;
  }

  // Describes a failed call in one line.
  std::string Describe(const char* call, CUresult result) const {
    const char *name = nullptr, *text = nullptr;
    get_error_name(result, &name);
    get_error_string(result, &text);
    return std::string(call) + ": " + (text ? text : "unknown error") + " (" +
           (name ? name : std::to_string(result)) + ")";
  }

 private:
  static Driver Load() {
    Driver driver{};
    void* library = dlopen(CUDA_DRIVER, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      driver.missing = "NVIDIA's driver was not found: ";
      driver.missing += dlerror();
      return driver;
    }
    const auto find = [&](auto& function, const char* name) {
      void* found = dlsym(library, name);
      if (found == nullptr && driver.missing.empty()) {
        driver.missing = std::string("NVIDIA's driver has no ") + name;
      }
      function = reinterpret_cast<std::decay_t<decltype(function)>>(found);
    };
    find(driver.init, "cuInit");
    find(driver.get_error_name, "cuGetErrorName");
    find(driver.get_error_string, "cuGetErrorString");
    find(driver.device_get, "cuDeviceGet");
    find(driver.retain_primary_context, "cuDevicePrimaryCtxRetain");
    find(driver.stream_get_context, "cuStreamGetCtx");
    find(driver.push_context, "cuCtxPushCurrent_v2");
    find(driver.pop_context, "cuCtxPopCurrent_v2");
    find(driver.load_module, "cuModuleLoadData");
    find(driver.get_function, "cuModuleGetFunction");
    find(driver.set_attribute, "cuFuncSetAttribute");
    find(driver.launch, "cuLaunchKernel");
    return driver;
  }
};

// Makes a context the current one of this thread while it exists.
class CurrentContext {
 public:
  CurrentContext(const Driver& driver, CUcontext context)
      : driver_(driver), result(driver.push_context(context)) {}
  ~CurrentContext() {
    CUcontext popped;
    if (result == 0) driver_.pop_context(&popped);
  }
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  const Driver& driver_;

 public:
  const CUresult result;  // of making it so
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_GPU_HOST_DRIVER_H_
