// Runs the kernels of batch_norm.h on odd shapes; exits with 1 if they are
// wrong.

#include "batch_norm.h"

#include "cpu_driver.h"
#include "tasks.h"

namespace {

// Runs the kernels of batch_norm.h, with and without optional operands.
void CheckBatchNorm(const Images& s) {
  const std::vector<int64_t> sizes{s.batch, s.positions, s.channels};
  const int64_t size = s.batch * s.positions * s.channels;
  const auto x = Make<float>(size, 1), g = Make<float>(size, 2);
  const auto y = Make<float>(size, 3);
  const std::vector<float> one(s.batch * s.channels, 1.0f);
  const std::vector<float> two(one.size(), 2.0f);
  std::vector<float> moments(2 * one.size()), products(moments.size());
  std::vector<float> masked_products(moments.size()), mapped(size);
  std::vector<float> mapped_residual(size), masked = g, dx(size);
  std::vector<float> masked_dx = g;
  {
    Threads threads;
    RunAll<MomentsWorker>(threads, {s, x.data(), moments.data()});
    RunAll<BatchNormAffineWorker<false, true>>(
        threads, {s, x.data(), two.data(), one.data(), nullptr, mapped.data()});
    RunAll<BatchNormAffineWorker<true, false>>(threads,
                                   {s, x.data(), two.data(), one.data(),
                                    g.data(), mapped_residual.data()});
    RunAll<ProductsWorker<false, false>>(
        threads,
        {s, x.data(), g.data(), nullptr, products.data(), nullptr});
    RunAll<ProductsWorker<true, true>>(  // in place
        threads, {s, x.data(), masked.data(), y.data(), masked_products.data(),
                  masked.data()});
    RunAll<BatchNormGradientWorker<false>>(threads,
                               {s, x.data(), g.data(), nullptr, two.data(),
                                one.data(), one.data(), dx.data()});
    RunAll<BatchNormGradientWorker<true>>(  // in place
        threads, {s, x.data(), masked_dx.data(), y.data(), two.data(),
                  one.data(), one.data(), masked_dx.data()});
  }
  std::vector<float> expected(moments.size()), expected_products(expected);
  std::vector<float> expected_masked(expected);
  for (int64_t at = 0; at < size; ++at) {
    const int64_t c = at % s.channels, b = at / (s.positions * s.channels);
    const int64_t first = 2 * b * s.channels + c, second = first + s.channels;
    const float h = y[at] > 0 ? g[at] : 0;
    expected[first] += x[at];
    expected[second] += x[at] * x[at];
    expected_products[first] += g[at];
    expected_products[second] += g[at] * x[at];
    expected_masked[first] += h;
    expected_masked[second] += h * x[at];
    const float value = 2 * x[at] + 1;
    Compare("map", sizes, mapped[at], std::max(value, 0.0f), 0);
    Compare("map_residual", sizes, mapped_residual[at], value + g[at], 0);
    Compare("masked g", sizes, masked[at], h, 0);
    Compare("slope", sizes, dx[at], 2 * g[at] + x[at] + 1, 0);
    Compare("masked slope", sizes, masked_dx[at], 2 * h + x[at] + 1, 0);
  }
  for (size_t at = 0; at < moments.size(); ++at) {
    Compare("batch_norm's moments", sizes, moments[at], expected[at], 0);
    Compare("batch_norm's products", sizes, products[at],
            expected_products[at], 0);
    Compare("masked products", sizes, masked_products[at], expected_masked[at],
            0);
  }
}

}  // namespace

int main() {
  for (const Images& s :
       {Images{1, 1, 1}, Images{3, 35, 19}, Images{2, 256, 64},
        Images{5, 34, 70}, Images{0, 16, 4}, Images{2, 9, 300}}) {
    CheckBatchNorm(s);
  }
  return wrong != 0;
}
