// Runs the kernels of layer_norm.h on odd shapes; exits with 1 if they are
// wrong.

#include "layer_norm.h"
#include "cpu_driver.h"
#include "tasks.h"

namespace {

constexpr float kEpsilon = 1e-6f;

struct Sizes {
  int64_t rows, channels, blocks;
};

// Compares values that may be near 0, and are a few units at most.
void CompareNear(const char* what, const std::vector<int64_t>& sizes,
                 float found, double expected) {
  Compare(what, sizes, found + 8, expected + 8, 2e-6f);
}

void Check(const Sizes& s) {
  const std::vector<int64_t> sizes{s.rows, s.channels, s.blocks};
  const int64_t size = s.rows * s.channels;
  auto x = Make<float>(size, 1);
  const auto g = Make<float>(size, 2);
  const auto scale = Make<float>(s.channels, 3);
  const auto offset = Make<float>(s.channels, 4);
  // Rows of several channels vary, so that their deviation is not near 0.
  for (int64_t at = 0; at < size; ++at) x[at] += at % s.channels % 3;
  const TokenBlocks blocks{
      s.rows, s.channels, std::max<int64_t>(CeilDiv(s.rows, s.blocks), 1)};
  std::vector<float> y(size), mean(s.rows), inverse(s.rows), dx(size);
  std::vector<float> sums(2 * s.channels * s.blocks, 7);
  std::vector<float> dscale(s.channels, 7), doffset(s.channels, 7);
  {
    Threads threads;
    RunAll<LayerNormWorker>(
        threads, {blocks, kEpsilon, x.data(), scale.data(), offset.data(),
                  y.data(), mean.data(), inverse.data()});
  }
  {
    Threads threads;
    RunAll<LayerNormGradientWorker>(
        threads, {blocks, x.data(), mean.data(), inverse.data(), scale.data(),
                  g.data(), dx.data(), sums.data()});
  }
  AddBlocks(blocks.tasks(), s.channels, sums.data(), dscale.data(),
            doffset.data());
  std::vector<double> expected_scale(s.channels), expected_offset(s.channels);
  const double count = s.channels;
  for (int64_t row = 0; row < s.rows; ++row) {
    const int64_t begin = row * s.channels;
    double sum = 0, squares = 0, sum_s = 0, sum_sn = 0;
    for (int64_t c = 0; c < s.channels; ++c) sum += x[begin + c];
    for (int64_t c = 0; c < s.channels; ++c) {
      const double deviation = x[begin + c] - sum / count;
      squares += deviation * deviation;
    }
    const double scaled = 1 / std::sqrt(squares / count + kEpsilon);
    const auto normalized = [&](int64_t c) {
      return (x[begin + c] - sum / count) * scaled;
    };
    for (int64_t c = 0; c < s.channels; ++c) {
      const double slope = g[begin + c];
      sum_s += slope * scale[c];
      sum_sn += slope * scale[c] * normalized(c);
      expected_scale[c] += slope * normalized(c);
      expected_offset[c] += slope;
    }
    CompareNear("mean", sizes, mean[row], sum / count);
    Compare("inverse", sizes, inverse[row], scaled, 2e-6f);
    for (int64_t c = 0; c < s.channels; ++c) {
      const double n = normalized(c);
      CompareNear("y", sizes, y[begin + c], n * scale[c] + offset[c]);
      // Of a single channel it is 0, but for rounding.
      const double slope = double{g[begin + c]} * scale[c];
      const double expected = slope - sum_s / count - n * sum_sn / count;
      CompareNear("dx", sizes, dx[begin + c] / inverse[row], expected);
    }
  }
  for (int64_t c = 0; c < s.channels; ++c) {
    Compare("dscale", sizes, dscale[c] + s.rows, expected_scale[c] + s.rows,
            2e-6f);
    Compare("doffset", sizes, doffset[c], expected_offset[c], 0);
  }
}

}  // namespace

int main() {
  for (const Sizes& s : {Sizes{1, 1, 1}, Sizes{3, 5, 1}, Sizes{37, 33, 3},
                         Sizes{9, 130, 4}, Sizes{64, 64, 64},
                         Sizes{197, 100, 13}, Sizes{5, 300, 8},
                         Sizes{0, 8, 1}}) {
    Check(s);
  }
  return wrong != 0;
}
