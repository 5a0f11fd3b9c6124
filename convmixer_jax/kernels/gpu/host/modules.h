// The compiled kernels of this process, loaded once for each context.

#ifndef CONVMIXER_JAX_KERNELS_GPU_HOST_MODULES_H_
#define CONVMIXER_JAX_KERNELS_GPU_HOST_MODULES_H_

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "driver.h"

namespace {

// Code by name, and its functions by context. Each GPU of a process has a
// context; its functions are never unloaded, since programs that XLA keeps may
// call them until the process ends. Several threads may use it at once.
class Modules {
 public:
  static Modules& Get() {
    static Modules* const modules = new Modules;  // outlives all threads
    return *modules;
  }

  void Add(const std::string& name, const void* code, size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    code_.emplace(name, std::string(static_cast<const char*>(code), size));
  }

  // Sets `function` to the entry of a module in the current context, which
  // `context` has to be. Returns an error, or an empty string.
  std::string Find(const Driver& driver, CUcontext context,
                   const std::string& module, const std::string& entry,
                   int shared_bytes, CUfunction* function) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto key = std::make_pair(context, module + ':' + entry);
    const auto found = functions_.find(key);
    if (found != functions_.end()) {
      *function = found->second;
      return "";
    }
    const auto code = code_.find(module);
    if (code == code_.end()) {
      return "its code is not in this process: a program that was compiled by "
             "another process cannot call it";
    }
    CUmodule& loaded = modules_[{context, module}];
    if (loaded == nullptr) {
      const CUresult result =
          driver.load_module(&loaded, code->second.data());
      if (result != 0) {
        loaded = nullptr;
        return driver.Describe("cuModuleLoadData", result);
      }
    }
    CUresult result = driver.get_function(function, loaded, entry.c_str());
    if (result != 0) return driver.Describe("cuModuleGetFunction", result);
    // Without this, a launch may use at most 48 KiB.
    result =
        driver.set_attribute(*function, kMaxDynamicSharedMemory, shared_bytes);
    if (result != 0) return driver.Describe("cuFuncSetAttribute", result);
    functions_.emplace(key, *function);
    return "";
  }

 private:
  Modules() = default;

  std::mutex mutex_;
  std::map<std::string, std::string> code_;
  std::map<std::pair<CUcontext, std::string>, CUmodule> modules_;
  std::map<std::pair<CUcontext, std::string>, CUfunction> functions_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_GPU_HOST_MODULES_H_
