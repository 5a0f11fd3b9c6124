// Runs the CPU kernels on odd shapes against plain loops; exits with 1 when
// they differ. tests/test_native.py compiles it with sanitizers.

#include <cmath>
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

#include "correlate.h"
#include "correlate_kernel.h"
#include "tasks.h"

namespace {

// Starts a thread for each task it is given.
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

float Value(float x) { return x; }
float Value(BFloat16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void Set(float value, float* x) { *x = value; }
void Set(float value, BFloat16* x) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  x->bits = bits >> 16;
}

// Multiples of 1/8 no larger than 1: exact in bfloat16, and so are their sums
// in float32. No room to spare, so that an access beside the array shows.
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

void Compare(const char* what, const Shape& s, float found, float expected,
             float tolerance) {
  if (std::abs(found - expected) <= tolerance * std::abs(expected)) return;
  if (++wrong < 5) {
    std::printf("%s [%d,%d,%d,%d] k=%d: %g instead of %g\n", what,
                static_cast<int>(s.batch), static_cast<int>(s.height),
                static_cast<int>(s.width), static_cast<int>(s.channels), kSize,
                found, expected);
  }
}

template <typename T>
void Check(const Shape& s, int64_t low, int64_t groups) {
  const auto x = Make<T>(s.batch * s.image(), 1);
  const auto dy = Make<T>(s.batch * s.image(), 2);
  const auto kernel = Make<T>(kSize * kSize * s.channels, 3);
  const auto bias = Make<T>(s.channels, 4);
  std::vector<T> y(x.size());
  const int64_t row = s.channels, rows = kSize * kSize + 1;
  std::vector<float> sums(groups * rows * row), expected_sums(rows * row);
  {
    Threads threads;
    RunAll<CorrelateWorker<T>>(threads, {s, low, x.data(), kernel.data(),
                                         bias.data(), y.data()});
    RunAll<CorrelateKernelWorker<T>>(
        threads, {s, low, groups, x.data(), dy.data(), sums.data()});
  }
  const float tolerance = sizeof(T) == 2 ? 1 / 256.0f : 0;
  for (int64_t at = 0; at < static_cast<int64_t>(x.size()); ++at) {
    const int64_t c = at % row, w = at / row % s.width;
    const int64_t h = at / s.row() % s.height, b = at / s.image();
    float expected = Value(bias[c]);
    for (int i = 0; i < kSize; ++i) {
      for (int j = 0; j < kSize; ++j) {
        const int64_t from_h = h + i - low, from_w = w + j - low;
        if (from_h < 0 || from_h >= s.height) continue;
        if (from_w < 0 || from_w >= s.width) continue;
        const float value = Value(
            x[b * s.image() + from_h * s.row() + from_w * row + c]);
        const int64_t tap = (i * kSize + j) * row + c;
        expected += value * Value(kernel[tap]);
        expected_sums[tap] += value * Value(dy[at]);
      }
    }
    expected_sums[(rows - 1) * row + c] += Value(dy[at]);
    Compare("correlate", s, Value(y[at]), expected, tolerance);
  }
  for (int64_t at = 0; at < rows * row; ++at) {
    float found = 0;
    for (int64_t g = 0; g < groups; ++g) found += sums[g * rows * row + at];
    Compare("correlate_kernel", s, found, expected_sums[at], 0);
  }
}

}  // namespace

int main() {
  for (const Shape& s : {Shape{1, 1, 1, 1}, Shape{3, 5, 7, 19},
                         Shape{2, 16, 16, 64}, Shape{1, 3, 33, 130},
                         Shape{5, 17, 2, 70}, Shape{0, 4, 4, 4}}) {
    for (const int64_t low : {(kSize - 1) / 2, kSize / 2}) {
      const int64_t groups = std::max<int64_t>(1, (s.batch + 1) / 2);
      Check<float>(s, low, groups);
      Check<BFloat16>(s, low, groups);
    }
  }
  return wrong != 0;
}
