// A driver without a GPU: records launches, and fails where it is asked to.
//
// "Code" is a text with a line for each entry: its name, and how many addresses
// and numbers of it to record. Where that is followed by the path of a library,
// the library's function `emulate` is called with the launch.

#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Entry {
  std::string name, library;
  int addresses, numbers;
};
struct Module {
  std::map<std::string, Entry> entries;
};
using Emulate = void (*)(const char* entry, const unsigned* grid,
                         const unsigned* block, unsigned shared_bytes,
                         void** parameters);

std::mutex mutex;
std::string failing, log;
int loads = 0;

int Fail(const char* function) { return failing == function ? 999 : 0; }

}  // namespace

extern "C" {

void fake_fail(const char* function) { failing = function; }

// Returns the launches since the last call, a line each.
const char* fake_launches() {
  std::lock_guard<std::mutex> lock(mutex);
  static std::string found;
  found = log;
  log.clear();
  return found.c_str();
}

int fake_loads() { return loads; }

int cuInit(unsigned) { return Fail("cuInit"); }
int cuGetErrorName(int, const char** name) {
  *name = "CUDA_ERROR_FAKE";
  return 0;
}
int cuGetErrorString(int, const char** text) {
  *text = "asked to fail";
  return 0;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return Fail("cuDeviceGet");
}
int cuDevicePrimaryCtxRetain(intptr_t* context, int device) {
  *context = 100 + device;
  return Fail("cuDevicePrimaryCtxRetain");
}
int cuStreamGetCtx(intptr_t stream, intptr_t* context) {
  *context = 100 + stream;
  return Fail("cuStreamGetCtx");
}
int cuCtxPushCurrent_v2(intptr_t) { return Fail("cuCtxPushCurrent"); }
int cuCtxPopCurrent_v2(intptr_t*) { return 0; }

int cuModuleLoadData(Module** module, const void* image) {
  if (int status = Fail("cuModuleLoadData")) return status;
  ++loads;
  *module = new Module;
  std::istringstream lines(static_cast<const char*>(image));
  for (std::string line; std::getline(lines, line);) {
    Entry entry;
    std::istringstream(line) >> entry.name >> entry.addresses >>
        entry.numbers >> entry.library;
    (*module)->entries[entry.name] = entry;
  }
  return 0;
}
int cuModuleGetFunction(Entry** function, Module* module, const char* name) {
  const auto found = module->entries.find(name);
  if (found == module->entries.end()) return 500;
  *function = &found->second;
  return 0;
}
int cuFuncSetAttribute(Entry*, int attribute, int) {
  return attribute == 8 ? Fail("cuFuncSetAttribute") : 1;
}

int cuLaunchKernel(Entry* entry, unsigned gx, unsigned gy, unsigned gz,
                   unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   intptr_t stream, void** parameters, void**) {
  if (int status = Fail("cuLaunchKernel")) return status;
  std::lock_guard<std::mutex> lock(mutex);
  const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
  std::ostringstream line;
  line << entry->name << " grid " << gx << " " << gy << " " << gz << " block "
       << bx << " " << by << " " << bz << " shared " << shared << " context "
       << 100 + stream << " addresses";
  for (int i = 0; i < entry->addresses; ++i) {
    const void* address = *static_cast<void**>(parameters[i]);
    // What is there shows which array it is.
    if (address == nullptr) {
      line << " null";
    } else {
      line << " " << static_cast<int>(*static_cast<const uint8_t*>(address));
    }
  }
  line << " numbers";
  for (int i = 0; i < entry->numbers; ++i) {
    line << " " << *static_cast<int32_t*>(parameters[entry->addresses + i]);
  }
  log += line.str() + "\n";
  if (!entry->library.empty()) {
    void* library = dlopen(entry->library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return 500;
    reinterpret_cast<Emulate>(dlsym(library, "emulate"))(
        entry->name.c_str(), grid, block, shared, parameters);
  }
  return 0;
}

}  // extern "C"
