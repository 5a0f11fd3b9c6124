// Runs the depthwise kernels on odd shapes; exits with 1 if they are wrong.

#include "correlate.h"
#include "cpu_driver.h"
#include "kernel_gradient.h"
#include "tasks.h"

namespace {

template <typename T>
void Check(const Shape& s, int64_t pad_before, int64_t groups) {
  const std::vector<int64_t> sizes{s.batch, s.height, s.width, s.channels,
                                   kSize};
  const auto x = Make<T>(s.batch * s.image(), 1);
  const auto dy = Make<T>(s.batch * s.image(), 2);
  const auto kernel = Make<T>(kSize * kSize * s.channels, 3);
  const auto bias = Make<T>(s.channels, 4);
  std::vector<T> y(x.size());
  const int64_t row = s.channels, rows = kSize * kSize + 1;
  std::vector<float> sums(groups * rows * row), expected_sums(rows * row);
  {
    Threads threads;
    RunAll<CorrelateWorker<T>>(threads, {s, pad_before, x.data(), kernel.data(),
                                         bias.data(), y.data(), {}});
    RunAll<KernelGradientWorker<T>>(
        threads, {s, pad_before, groups, x.data(), dy.data(), sums.data()});
  }
  const float tolerance = sizeof(T) == 2 ? 1 / 256.0f : 0;
  for (int64_t at = 0; at < static_cast<int64_t>(x.size()); ++at) {
    const int64_t c = at % row, w = at / row % s.width;
    const int64_t h = at / s.row() % s.height, b = at / s.image();
    float expected = Value(bias[c]);
    for (int i = 0; i < kSize; ++i) {
      for (int j = 0; j < kSize; ++j) {
        const int64_t from_h = h + i - pad_before, from_w = w + j - pad_before;
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
    Compare("correlate", sizes, Value(y[at]), expected, tolerance);
  }
  for (int64_t at = 0; at < rows * row; ++at) {
    float found = 0;
    for (int64_t g = 0; g < groups; ++g) found += sums[g * rows * row + at];
    Compare("kernel_gradient", sizes, found, expected_sums[at], 0);
  }
}

// Compares the fused mixer with a separate convolution.
template <typename T>
void CheckFusedMixer(const Shape& s, int64_t pad_before) {
  const std::vector<int64_t> sizes{s.batch, s.height, s.width, s.channels,
                                   kSize};
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
    RunAll<CorrelateWorker<T>>(threads, {s, pad_before, x.data(), kernel.data(),
                                         bias.data(), sums.data(), {}});
    RunAll<CorrelateWorker<T, MixerFusion<Relu>>>(
        threads,
        {s, pad_before, p.data(), kernel.data(), bias.data(), y.data(),
         {zero.data(), one.data(), zero.data(), one.data()}});
  }
  const float tolerance = sizeof(T) == 2 ? 1 / 64.0f : 0;
  for (size_t at = 0; at < p.size(); ++at) {
    const float expected = Value(x[at]) + std::max(Value(sums[at]), 0.0f);
    Compare("fused_mixer", sizes, Value(y[at]), expected, tolerance);
  }
}

}  // namespace

int main() {
  for (const Shape& s : {Shape{1, 1, 1, 1}, Shape{3, 5, 7, 19},
                         Shape{2, 16, 16, 64}, Shape{1, 3, 33, 130},
                         Shape{5, 17, 2, 70}, Shape{0, 4, 4, 4},
                         Shape{2, 3, 3, 300}}) {
    for (const int64_t pad_before : {(kSize - 1) / 2, kSize / 2}) {
      const int64_t groups = std::max<int64_t>(1, (s.batch + 1) / 2);
      Check<float>(s, pad_before, groups);
      Check<BFloat16>(s, pad_before, groups);
      CheckFusedMixer<float>(s, pad_before);
      CheckFusedMixer<BFloat16>(s, pad_before);
    }
  }
  return wrong != 0;
}
