// One module of csrc/ (KERNEL_SOURCE), with its macros, for the emulator.

#include <cstring>
#include <type_traits>
#include <utility>

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

}  // namespace

extern "C" {

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
