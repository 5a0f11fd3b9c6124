// Runs the kernels of convolutions, windows.h and conv_transposed.h, on odd
// shapes; exits with 1 if they are wrong.

#include "conv_transposed.h"
#include "cpu_driver.h"
#include "linear_gradient.h"
#include "tasks.h"

namespace {

// Computes a convolution with a residual, and its gradients.
void CheckConv(const Windows& s, int64_t batch, int64_t columns) {
  const auto x = Make<float>(batch * s.height * s.width * s.channels, 1);
  const int64_t positions = batch * s.out_height * s.out_width;
  const auto dy = Make<float>(positions * columns, 2);
  const Matrices m{s.size * s.size * s.channels, positions, columns};
  std::vector<float> dkernel(m.rows * columns, 7), expected(dkernel.size());
  const auto kernel = Make<float>(m.rows * columns, 3);
  const Matrices p{positions, m.rows, columns};
  std::vector<float> packed(p.inner * p.vectors() * kLanes);
  std::vector<float> y(positions * columns, 7), expected_y(y.size());
  std::vector<float> packed_phase(s.size * s.size * columns *
                                  Matrices{0, 0, s.channels}.vectors() *
                                  kLanes);
  std::vector<float> phases(x.size()), dx(x.size(), 7), expected_dx(x.size());
  Epilogue epilogue;
  epilogue.residual = dy.data();
  Windows windows = s;
  windows.x = x.data();
  {
    Threads threads;
    RunAll<PackWorker>(threads,
                       {Kernel{p, false, kernel.data()}, packed.data()});
  }
  {
    Threads threads;
    RunAll<MultiplyWorker<Windows>>(
        threads,
        {p, threads.num_threads(), windows, packed.data(), y.data(),
         epilogue});
  }
  {
    Threads threads;
    RunAll<LinearGradientWorker<Windows>>(
        threads,
        {m, threads.num_threads(), windows, dy.data(), dkernel.data()});
  }
  {
    Threads threads;
    ConvTransposed(
        threads,
        {batch, s.height, s.width, s.channels, s.out_height, s.out_width,
         columns, s.size, s.stride, s.above},
        dy.data(), kernel.data(), packed_phase.data(), phases.data(),
        dx.data());
  }
  for (int64_t at = 0; at < positions; ++at) {
    const int64_t b = at / (s.out_height * s.out_width);
    for (int64_t i = 0; i < m.rows; ++i) {
      const int64_t tap = i / s.channels;
      const int64_t row = at / s.out_width % s.out_height * s.stride -
                          s.above + tap / s.size;
      const int64_t column =
          at % s.out_width * s.stride - s.left + tap % s.size;
      if (row < 0 || row >= s.height || column < 0 || column >= s.width) {
        continue;
      }
      const int64_t from =
          ((b * s.height + row) * s.width + column) * s.channels +
          i % s.channels;
      const float value = x[from];
      for (int64_t c = 0; c < columns; ++c) {
        expected[i * columns + c] += value * dy[at * columns + c];
        expected_y[at * columns + c] += value * kernel[i * columns + c];
        expected_dx[from] += dy[at * columns + c] * kernel[i * columns + c];
      }
    }
  }
  for (size_t at = 0; at < dkernel.size(); ++at) {
    Compare("the convolution's gradient", {m.rows, positions, columns},
            dkernel[at], expected[at], 0);
  }
  for (size_t at = 0; at < dx.size(); ++at) {
    Compare("the image's gradient", {m.rows, positions, columns}, dx[at],
            expected_dx[at], 0);
  }
  for (size_t at = 0; at < y.size(); ++at) {
    Compare("convolution", {m.rows, positions, columns}, y[at],
            expected_y[at] + dy[at], 0);
  }
}

}  // namespace

int main() {
  // height, width, channels, those of the result, size, stride, padding twice
  for (const Windows& s : {Windows{nullptr, 9, 7, 5, 9, 7, 3, 1, 1, 1},
                           // A stride of more than the kernel.
                           Windows{nullptr, 8, 7, 3, 3, 3, 2, 3, 0, 0},
                           Windows{nullptr, 15, 14, 3, 8, 7, 7, 2, 3, 3},
                           Windows{nullptr, 4, 6, 16, 2, 3, 3, 2, 1, 1},
                           Windows{nullptr, 2, 2, 8, 6, 6, 1, 1, 2, 2},
                           Windows{nullptr, 5, 5, 1, 1, 1, 5, 1, 0, 0},
                           Windows{nullptr, 3, 4, 0, 3, 4, 3, 1, 1, 1}}) {
    CheckConv(s, 3, 19);
    CheckConv(s, 0, 4);
  }
  return wrong != 0;
}
