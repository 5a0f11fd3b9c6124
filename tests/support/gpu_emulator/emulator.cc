#include "emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "launch.h"
#include "state.h"

namespace emulator {

std::vector<Thread> threads;
std::vector<Warp> warps;
alignas(128) u32 shared[kSharedBytes / 4];
Barrier block;
int current, num_threads, block_x, block_y, shared_words;
Report report;
std::vector<std::pair<const char*, const char*>> arrays;

void Fail(const char* what) {
  if (*report.error) return;
  std::snprintf(report.error, sizeof(report.error),
                "%s, thread %d of block %d, %d", what, current, block_x,
                block_y);
}

namespace {

jmp_buf scheduler;
ucontext_t main_context;
void (*kernel)(const void*);
const void* kernel_arguments;

void Yield() {
  const int me = current;
  if (_setjmp(threads[me].state) == 0) _longjmp(scheduler, 1);
  current = me;
}

void Wait(Barrier& barrier, int count) {
  const int generation = barrier.generation;
  if (++barrier.waiting == count) {
    barrier.waiting = 0;
    ++barrier.generation;
  } else {
    while (barrier.generation == generation) Yield();
  }
}

Exchange& NextExchange() {
  return ThisWarp().exchanges[threads[current].exchanges++ % 2];
}

float Element(u32 pair, int index) {
  return FromBits(index % 2 ? pair & 0xffff0000u : pair << 16);
}

void RunThread() {
  kernel(kernel_arguments);
  threads[current].done = true;
  _longjmp(scheduler, 1);
}

// Runs a thread until it waits. Of ucontext only the first start is taken: it
// saves the signal mask, which takes a system call each time.
void Resume(int index) {
  current = index;
  Thread& thread = threads[index];
  if (_setjmp(scheduler)) return;
  if (thread.started) _longjmp(thread.state, 1);
  thread.started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = thread.stack.data();
  context.uc_stack.ss_size = thread.stack.size();
  context.uc_link = nullptr;
  makecontext(&context, RunThread, 0);
  swapcontext(&main_context, &context);
}

}  // namespace

u32* SharedMemory() { return shared; }
int ThreadIndex() { return current; }
int BlockX() { return block_x; }
int BlockY() { return block_y; }

void SyncBlock() {
  if (block.waiting + 1 == num_threads) {
    CountCycles();
    ++report.barriers;
  }
  threads[current].accesses = 0;
  Wait(block, num_threads);
}
void SyncWarp() {
  Warp& warp = ThisWarp();
  if (warp.barrier.waiting + 1 == 32) ++warp.syncs;
  Wait(warp.barrier, 32);
}

void LoadMatrices(u32* r, const u32* row, int count, bool transposed) {
  Exchange& exchange = NextExchange();
  const int lane = Lane(), g = lane / 4, t = lane % 4;
  exchange.row[lane] = row;
  if (lane < count * 8) {
    Access(row, 16, false);
  } else {
    ++threads[current].accesses;
  }
  Wait(ThisWarp().barrier, 32);
  for (int m = 0; m < count; ++m) {
    u16 pair[2];
    for (int e = 0; e < 2; ++e) {
      const int i = transposed ? 2 * t + e : g, j = transposed ? g : 2 * t + e;
      pair[e] = reinterpret_cast<const u16*>(exchange.row[8 * m + i])[j];
    }
    r[m] = pair[0] | static_cast<u32>(pair[1]) << 16;
  }
}

void Multiply(float* d, const u32* a, const u32* b) {
  Exchange& exchange = NextExchange();
  const int lane = Lane(), g = lane / 4, t = lane % 4;
  std::copy(a, a + 4, exchange.a[lane]);
  std::copy(b, b + 2, exchange.b[lane]);
  Wait(ThisWarp().barrier, 32);
  for (int i = 0; i < 4; ++i) {
    const int m = g + 8 * (i / 2), n = 2 * t + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) {
      const int part = k / 8, pair = k % 8 / 2;
      sum += Element(exchange.a[m % 8 * 4 + pair][m / 8 + 2 * part], k) *
             Element(exchange.b[n * 4 + pair][part], k);
    }
    d[i] += sum;
  }
  report.products += lane == 0;
}

float ShuffleXor(float value, int mask) {
  Exchange& exchange = NextExchange();
  exchange.value[Lane()] = value;
  Wait(ThisWarp().barrier, 32);
  return exchange.value[Lane() ^ mask];
}

void AddArray(const void* begin, i64 bytes) {
  const char* first = static_cast<const char*>(begin);
  arrays.emplace_back(first, first + bytes);
}

Report TakeReport() {
  Report result = report;
  report = Report();
  arrays.clear();
  return result;
}

void Launch(int grid_x, int grid_y, int block_threads, int shared_bytes,
            int order, void (*function)(const void*), const void* arguments) {
  num_threads = block_threads;
  if (shared_bytes > kSharedBytes) {
    Fail("more shared memory than a GPU has");
    return;
  }
  shared_words = shared_bytes / 4;
  kernel = function;
  kernel_arguments = arguments;
  threads.resize(std::max<size_t>(threads.size(), num_threads));
  for (block_y = 0; block_y < grid_y; ++block_y) {
    for (block_x = 0; block_x < grid_x; ++block_x) {
      warps.assign((num_threads + 31) / 32, Warp());
      ClearSharedMemory();
      block = Barrier();
      for (int i = 0; i < num_threads; ++i) {
        Thread& thread = threads[i];
        thread.done = thread.started = false;
        thread.accesses = thread.exchanges = 0;
        thread.groups.clear();
      }
      int left = num_threads;
      while (left) {
        for (int j = 0; j < num_threads; ++j) {
          const int i = order == 0   ? j
                        : order == 1 ? num_threads - 1 - j
                                     : static_cast<i64>(j) * 193 % num_threads;
          if (threads[i].done) continue;
          Resume(i);
          left -= threads[i].done;
        }
      }
      CountCycles();
    }
  }
}

}  // namespace emulator
