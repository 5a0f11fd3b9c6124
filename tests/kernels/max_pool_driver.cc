// Runs the kernels of max_pool.h on odd shapes; exits with 1 if they are wrong.

#include "max_pool.h"

#include "cpu_driver.h"
#include "tasks.h"

namespace {

void Check(const Pooling& s) {
  const std::vector<int64_t> sizes{s.batch, s.height, s.width, s.channels};
  const auto x = Make<float>(s.batch * s.height * s.width * s.channels, 1);
  const int64_t size = s.batch * s.out_height() * s.out_width() * s.channels;
  const auto g = Make<float>(size, 2);
  std::vector<float> y(size, 7), dx(x.size(), 7), expected(x.size());
  {
    Threads threads;
    RunAll<MaxPoolWorker>(threads, {s, x.data(), y.data()});
  }
  {
    Threads threads;
    RunAll<MaxPoolGradientWorker>(
        threads, {s, x.data(), y.data(), g.data(), dx.data()});
  }
  for (int64_t at = 0; at < size; ++at) {
    const int64_t c = at % s.channels, position = at / s.channels;
    const int64_t column = position % s.out_width();
    const int64_t row = position / s.out_width() % s.out_height();
    const int64_t image = position / s.out_width() / s.out_height();
    int64_t found = -1;
    for (int64_t h = 2 * row - 1; h < 2 * row + 2; ++h) {
      for (int64_t w = 2 * column - 1; w < 2 * column + 2; ++w) {
        if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
        const int64_t here =
            ((image * s.height + h) * s.width + w) * s.channels + c;
        if (found < 0 || x[here] > x[found]) found = here;
      }
    }
    Compare("maximum", sizes, y[at], x[found], 0);
    expected[found] += g[at];
  }
  for (size_t at = 0; at < dx.size(); ++at) {
    Compare("its gradient", sizes, dx[at], expected[at], 0);
  }
}

}  // namespace

int main() {
  for (const Pooling& s :
       {Pooling{1, 1, 1, 1}, Pooling{2, 9, 8, 19}, Pooling{3, 6, 7, 64},
        Pooling{1, 1, 4, 130}, Pooling{0, 4, 4, 3}, Pooling{2, 5, 1, 70}}) {
    Check(s);
  }
  return wrong != 0;
}
