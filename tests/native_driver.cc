// Runs the CPU kernels on odd shapes against plain loops; exits with 1 when
// they differ. tests/test_native.py compiles it with sanitizers.

#include <cmath>
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

#include "correlate.h"
#include "correlate_kernel.h"
#include "linear.h"
#include "norm.h"
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
                                         bias.data(), y.data(), {}});
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

// Compares the kernel that mixes with the convolution by itself.
template <typename T>
void CheckMixing(const Shape& s, int64_t low) {
  const auto p = Make<T>(s.batch * s.image(), 1);
  const auto kernel = Make<T>(kSize * kSize * s.channels, 3);
  const auto bias = Make<T>(s.channels, 4);
  const std::vector<float> one(s.channels, 1.0f), zero(s.channels);
  std::vector<T> x(p.size()), sums(p.size()), y(p.size());
  for (size_t at = 0; at < p.size(); ++at) {
    Set(std::max(Value(p[at]), 0.0f), &x[at]);
  }
  {
    Threads threads;
    RunAll<CorrelateWorker<T>>(threads, {s, low, x.data(), kernel.data(),
                                         bias.data(), sums.data(), {}});
    RunAll<CorrelateWorker<T, Mixing<Relu>>>(
        threads,
        {s, low, p.data(), kernel.data(), bias.data(), y.data(),
         {zero.data(), one.data(), zero.data(), one.data()}});
  }
  const float tolerance = sizeof(T) == 2 ? 1 / 64.0f : 0;
  for (size_t at = 0; at < p.size(); ++at) {
    const float expected = Value(x[at]) + std::max(Value(sums[at]), 0.0f);
    Compare("mixing", s, Value(y[at]), expected, tolerance);
  }
}

// Runs the kernels of norm.h, with and without what is optional. Sums of whole
// images are compared, which finds a value left out or taken twice.
template <typename T>
void CheckNorm(const Shape& s) {
  const Images images{s.batch, s.height * s.width, s.channels};
  const auto x = Make<T>(s.batch * s.image(), 1);
  const auto g = Make<T>(s.batch * s.image(), 2);
  std::vector<float> bias(s.channels, 0.125f), one(s.batch * s.channels, 1.0f);
  std::vector<float> zero(one.size()), moments(2 * one.size());
  std::vector<float> products(2 * one.size()), sums(one.size());
  std::vector<T> y(x.size()), y_residual(x.size()), dx(x.size());
  {
    Threads threads;
    RunAll<SumsWorker<T, Relu, false>>(
        threads, {images, x.data(), bias.data(), nullptr, moments.data()});
    RunAll<SumsWorker<T, Relu, true>>(
        threads, {images, x.data(), bias.data(), g.data(), products.data()});
    RunAll<AffineWorker<T, Relu, false>>(
        threads, {images, x.data(), bias.data(), one.data(), zero.data(),
                  nullptr, y.data()});
    RunAll<AffineWorker<T, Gelu, true>>(
        threads, {images, x.data(), bias.data(), zero.data(), one.data(),
                  g.data(), y_residual.data()});
    RunAll<GradientWorker<T, Relu>>(
        threads, {images, x.data(), bias.data(), g.data(), zero.data(),
                  zero.data(), one.data(), dx.data(), sums.data()});
  }
  std::vector<float> expected(moments.size()), expected_products(moments.size());
  std::vector<float> expected_sums(sums.size());
  const float tolerance = sizeof(T) == 2 ? 1 / 256.0f : 0;
  for (int64_t at = 0; at < static_cast<int64_t>(x.size()); ++at) {
    const int64_t c = at % s.channels, b = at / s.image();
    const int64_t first = 2 * b * s.channels + c, second = first + s.channels;
    const float a = std::max(Value(x[at]) + 0.125f, 0.0f);
    expected[first] += a;
    expected[second] += a * a;
    expected_products[first] += Value(g[at]);
    expected_products[second] += Value(g[at]) * a;
    expected_sums[b * s.channels + c] += a > 0;
    Compare("affine", s, Value(y[at]), a, tolerance);
    Compare("affine_residual", s, Value(y_residual[at]), 1 + Value(g[at]),
            tolerance);
    Compare("gradient", s, Value(dx[at]), a > 0, 0);
  }
  for (size_t at = 0; at < moments.size(); ++at) {
    Compare("moments", s, moments[at], expected[at], 0);
    Compare("products", s, products[at], expected_products[at], 0);
  }
  for (size_t at = 0; at < sums.size(); ++at) {
    Compare("gradient's sums", s, sums[at], expected_sums[at], 0);
  }
}

// Multiplies with a kernel and with its transpose.
void CheckLinear(const Matrices& m) {
  const auto x = Make<float>(m.rows * m.inner, 1);
  const auto kernel = Make<float>(m.inner * m.columns, 2);
  std::vector<float> turned(kernel.size());
  for (int64_t i = 0; i < m.inner; ++i) {
    for (int64_t c = 0; c < m.columns; ++c) {
      turned[c * m.inner + i] = kernel[i * m.columns + c];
    }
  }
  for (const bool transposed : {false, true}) {
    std::vector<float> packed(m.inner * m.vectors() * kLanes);
    std::vector<float> y(m.rows * m.columns);
    {
      Threads threads;
      RunAll<PackWorker>(threads, {m, transposed,
                                   (transposed ? turned : kernel).data(),
                                   packed.data()});
    }
    {
      Threads threads;
      RunAll<MultiplyWorker>(threads, {m, threads.num_threads(), x.data(),
                                       packed.data(), y.data()});
    }
    for (int64_t at = 0; at < static_cast<int64_t>(y.size()); ++at) {
      const int64_t row = at / m.columns, c = at % m.columns;
      float expected = 0;
      for (int64_t i = 0; i < m.inner; ++i) {
        expected += x[row * m.inner + i] * kernel[i * m.columns + c];
      }
      Compare("linear", {1, 1, m.rows, m.columns}, y[at], expected, 0);
    }
  }
}

}  // namespace

int main() {
  for (const Matrices& m : {Matrices{1, 1, 1}, Matrices{7, 5, 17},
                            Matrices{64, 12, 48}, Matrices{301, 33, 100},
                            Matrices{9, 0, 3}, Matrices{0, 4, 4},
                            Matrices{20, 100000, 2}}) {
    CheckLinear(m);
  }
  for (const Shape& s : {Shape{1, 1, 1, 1}, Shape{3, 5, 7, 19},
                         Shape{2, 16, 16, 64}, Shape{1, 3, 33, 130},
                         Shape{5, 17, 2, 70}, Shape{0, 4, 4, 4},
                         Shape{2, 3, 3, 300}}) {
    CheckNorm<float>(s);
    CheckNorm<BFloat16>(s);
    for (const int64_t low : {(kSize - 1) / 2, kSize / 2}) {
      const int64_t groups = std::max<int64_t>(1, (s.batch + 1) / 2);
      Check<float>(s, low, groups);
      Check<BFloat16>(s, low, groups);
      CheckMixing<float>(s, low);
      CheckMixing<BFloat16>(s, low);
    }
  }
  return wrong != 0;
}
