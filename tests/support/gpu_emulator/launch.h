// How a test launches a kernel in the emulator.

#ifndef CONVMIXER_JAX_TESTS_GPU_EMULATOR_LAUNCH_H_
#define CONVMIXER_JAX_TESTS_GPU_EMULATOR_LAUNCH_H_

namespace emulator {

struct Report {
  char error[200] = "";  // the first
  long long shared_cycles = 0, shared_accesses = 0;  // accesses: of 128 bytes
  long long products = 0, barriers = 0, bytes_copied = 0;
};

// An array in global memory that kernels may copy from, until `TakeReport`.
void AddArray(const void* begin, long long bytes);

// Runs all blocks, one after the other. order: that of the threads of a block:
// 0 ascending, 1 descending, 2 a permutation. Each calls kernel(arguments).
void Launch(int grid_x, int grid_y, int threads, int shared_bytes, int order,
            void (*kernel)(const void*), const void* arguments);

Report TakeReport();

}  // namespace emulator

#endif  // CONVMIXER_JAX_TESTS_GPU_EMULATOR_LAUNCH_H_
