// The block of threads that is being run.

#ifndef CONVMIXER_JAX_TESTS_GPU_EMULATOR_STATE_H_
#define CONVMIXER_JAX_TESTS_GPU_EMULATOR_STATE_H_

#include <setjmp.h>

#include <utility>
#include <vector>

#include "emulator.h"
#include "launch.h"

namespace emulator {

// Of an H100 and a B200: what no GPU has more of.
constexpr int kSharedBytes = 227 * 1024, kStackBytes = 64 * 1024;
constexpr u32 kPoison = 0xffffffff;  // NaN, as float32 and as two bfloat16

struct Barrier {
  int waiting = 0, generation = 0;
};

struct Copy {
  char* to;
  const char* from;  // null: zeros
};

struct Thread {
  jmp_buf state;
  bool started = false;
  std::vector<char> stack = std::vector<char>(kStackBytes);
  bool done = false;
  int accesses = 0;   // since the last barrier of the block
  int exchanges = 0;  // of values within the warp
  std::vector<std::vector<Copy>> groups;
};

// What lanes of a warp show each other. The next exchange may begin before all
// have read the last one, so there are two.
struct Exchange {
  u32 a[32][4], b[32][2];
  const u32* row[32];
  float value[32];
};
struct Warp {
  Barrier barrier;
  int syncs = 0;  // calls of SyncWarp; the instructions of a warp order nothing
  Exchange exchanges[2];
};

extern std::vector<Thread> threads;
extern std::vector<Warp> warps;
alignas(128) extern u32 shared[kSharedBytes / 4];
extern Barrier block;
extern int current, num_threads, block_x, block_y, shared_words;
extern Report report;
extern std::vector<std::pair<const char*, const char*>> arrays;

inline Warp& ThisWarp() { return warps[current / 32]; }
inline int Lane() { return current % 32; }

// Notes an error of this thread, if it is the first.
void Fail(const char* what);

// Poisons shared memory, and forgets all accesses.
void ClearSharedMemory();
// Counts the cycles of the accesses since the last barrier.
void CountCycles();

}  // namespace emulator

#endif  // CONVMIXER_JAX_TESTS_GPU_EMULATOR_STATE_H_
