// One module of csrc/ (KERNEL_SOURCE), with its macros, for the emulator.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include KERNEL_SOURCE
#include "launch.h"

namespace {

template <typename... Arguments>
struct Call {
  void (*kernel)(Arguments...);
  void* const* pointers;
  const int* integers;

  static constexpr int kNumPointers = (std::is_pointer_v<Arguments> + ...);

  template <typename T>
  T Argument(int index) const {
    if constexpr (std::is_pointer_v<T>) {
      return static_cast<T>(pointers[index]);
    } else {
      return integers[index - kNumPointers];
    }
  }

  template <size_t... i>
  void Run(std::index_sequence<i...>) const {
    kernel(Argument<Arguments>(i)...);
  }

  static void Run(const void* call) {
    static_cast<const Call*>(call)->Run(
        std::index_sequence_for<Arguments...>());
  }
};

template <typename... Arguments>
void Run(void (*kernel)(Arguments...), const int* launch, int order,
         void* const* pointers, const int* integers) {
  const Call<Arguments...> call = {kernel, pointers, integers};
  emulator::Launch(launch[0], launch[1], launch[2], launch[3], order,
                   Call<Arguments...>::Run, &call);
}

// The same with the parameters of the driver's cuLaunchKernel.
template <typename... Arguments>
void RunLaunch(void (*kernel)(Arguments...), const int* launch,
               void** parameters) {
  constexpr int num_pointers = Call<Arguments...>::kNumPointers;
  std::vector<void*> pointers;
  std::vector<int> integers;
  for (size_t i = 0; i < sizeof...(Arguments); ++i) {
    if (i < num_pointers) {
      pointers.push_back(*static_cast<void**>(parameters[i]));
    } else {
      integers.push_back(*static_cast<int*>(parameters[i]));
    }
  }
  Run(kernel, launch, 0, pointers.data(), integers.data());
}

}  // namespace

extern "C" {

// Runs a launch of the fake driver, which knows no sizes of arrays.
void emulate(const char* entry, const unsigned* grid, const unsigned* block,
             unsigned shared_bytes, void** parameters) {
  const int launch[] = {static_cast<int>(grid[0]), static_cast<int>(grid[1]),
                        static_cast<int>(block[0]),
                        static_cast<int>(shared_bytes)};
  emulator::AddArray(nullptr, 1ll << 62);
  if (!std::strcmp(entry, "sum_partial_sums")) {
    RunLaunch(sum_partial_sums, launch, parameters);
  } else {
    RunLaunch(KERNEL_ENTRY, launch, parameters);
  }
  const emulator::Report report = emulator::TakeReport();
  if (*report.error) {
    std::fprintf(stderr, "%s: %s\n", entry, report.error);
    std::abort();
  }
}

// launch: blocks in x and y, threads, bytes of shared memory.
int run(const char* entry, const int* launch, int order,
        void* const* pointers, const int* integers) {
  if (!std::strcmp(entry, "sum_partial_sums")) {
    Run(sum_partial_sums, launch, order, pointers, integers);
  } else if (!std::strcmp(entry, KERNEL_NAME)) {
    Run(KERNEL_ENTRY, launch, order, pointers, integers);
  } else {
    return 1;
  }
  return 0;
}

void add_array(const void* begin, long long bytes) {
  emulator::AddArray(begin, bytes);
}

void take_report(char* error, int size, long long* counts) {
  const emulator::Report report = emulator::TakeReport();
  std::strncpy(error, report.error, size - 1);
  counts[0] = report.shared_cycles;
  counts[1] = report.shared_accesses;
  counts[2] = report.products;
  counts[3] = report.barriers;
  counts[4] = report.bytes_copied;
}

}  // extern "C"
