// Shared by the programs that check the CPU kernels against plain loops.
// test_cpu_kernels.py compiles them with sanitizers.

#ifndef CONVMIXER_JAX_TESTS_KERNELS_CPU_DRIVER_H_
#define CONVMIXER_JAX_TESTS_KERNELS_CPU_DRIVER_H_

#include <cmath>
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

#include "vectors.h"

namespace {

// Starts a thread for each scheduled task.
class Threads {
 public:
  ~Threads() {
    for (auto& thread : threads_) thread.join();
  }
  int64_t num_threads() const { return 3; }
  void Schedule(std::function<void()> f) { threads_.emplace_back(f); }

 private:
  std::vector<std::thread> threads_;
};

inline float Value(float x) { return x; }
inline float Value(BFloat16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void Set(float value, float* x) { *x = value; }
inline void Set(float value, BFloat16* x) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  x->bits = bits >> 16;
}

// Multiples of 1/8, at most 1: they are exact in bfloat16, and their sums in
// float32. The array has no spare capacity, so that sanitizers find an access
// outside of it.
template <typename T>
std::vector<T> Make(int64_t size, uint32_t seed) {
  std::vector<T> values(size);
  for (auto& value : values) {
    seed = seed * 1664525 + 1013904223;
    Set((static_cast<int>(seed >> 28) - 8) / 8.0f, &value);
  }
  return values;
}

int64_t wrong = 0;

void Compare(const char* what, const std::vector<int64_t>& sizes, float found,
             float expected, float tolerance) {
  if (std::abs(found - expected) <= tolerance * std::abs(expected)) return;
  if (++wrong >= 5) return;
  std::printf("%s [", what);
  for (const int64_t size : sizes) std::printf(" %d", static_cast<int>(size));
  std::printf(" ]: %g instead of %g\n", found, expected);
}

}  // namespace

#endif  // CONVMIXER_JAX_TESTS_KERNELS_CPU_DRIVER_H_
