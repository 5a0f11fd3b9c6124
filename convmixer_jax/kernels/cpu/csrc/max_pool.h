// The maximum of 3 x 3 positions around every second one, and its gradient, in
// float32.

#ifndef CONVMIXER_JAX_KERNELS_CPU_MAX_POOL_H_
#define CONVMIXER_JAX_KERNELS_CPU_MAX_POOL_H_

#include <algorithm>
#include <limits>

#include "vectors.h"

namespace {

// Channels of a task, so that the rows of a window stay in the level 1 cache.
constexpr int64_t kPoolChannels = 64;

// x is [batch, height, width, channels]; a task is a strip of an image's.
struct Pooling {
  int64_t batch, height, width, channels;

  int64_t out_height() const { return CeilDiv(height, 2); }
  int64_t out_width() const { return CeilDiv(width, 2); }
  int64_t strips() const { return CeilDiv(channels, kPoolChannels); }
  int64_t tasks() const { return batch * strips(); }

  // Calls f(where in y, lanes, window) for each Vec of the strip's results.
  // window(visit) calls visit(where in x) for the positions of its window.
  template <typename F>
  INLINE void ForWindows(int64_t task, int64_t row, F f) const {
    const int64_t image = task / strips();
    const int64_t first = task % strips() * kPoolChannels;
    const int64_t last = std::min(first + kPoolChannels, channels);
    const int64_t top = std::max<int64_t>(2 * row - 1, 0);
    const int64_t bottom = std::min(2 * row + 2, height);
    for (int64_t column = 0; column < out_width(); ++column) {
      const int64_t left = std::max<int64_t>(2 * column - 1, 0);
      const int64_t right = std::min(2 * column + 2, width);
      const int64_t to =
          ((image * out_height() + row) * out_width() + column) * channels;
      for (int64_t c = first; c < last; c += kLanes) {
        const auto window = [&](auto visit) INLINE {
          for (int64_t h = top; h < bottom; ++h) {
            for (int64_t w = left; w < right; ++w) {
              visit(((image * height + h) * width + w) * channels + c);
            }
          }
        };
        f(to + c, std::min<int64_t>(kLanes, last - c), window);
      }
    }
  }
};

class MaxPoolWorker {
 public:
  struct Arguments : Pooling {
    const float* x;
    float* y;
  };

  explicit MaxPoolWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    for (int64_t row = 0; row < a_.out_height(); ++row) {
      a_.ForWindows(task, row, [&](int64_t to, int lanes, auto window) INLINE {
        Vec most = Vec{} - std::numeric_limits<float>::infinity();
        window([&](int64_t at) INLINE {
          const Vec x = Load(a_.x + at, lanes);
          const auto is_not_greater = x <= most;  // not if one of them is a NaN
          const auto is_nan = most != most;
          most = (is_not_greater | is_nan) ? most : x;
        });
        Store(most, a_.y + to, lanes);
      });
    }
  }

 private:
  const Arguments a_;
};

// The gradient goes to the first maximum of a window.
class MaxPoolGradientWorker {
 public:
  struct Arguments : Pooling {
    const float *x, *y, *g;
    float* dx;
  };

  explicit MaxPoolGradientWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const int64_t image = task / a_.strips();
    const int64_t first = task % a_.strips() * kPoolChannels;
    const int64_t count = std::min(kPoolChannels, a_.channels - first);
    for (int64_t row = 0; row < a_.out_height(); ++row) {
      // The rows that no window before has reached.
      const int64_t end = std::min(2 * row + 2, a_.height) * a_.width;
      for (int64_t at = 2 * row * a_.width; at < end; ++at) {
        float* to = a_.dx + (image * a_.height * a_.width + at) * a_.channels;
        std::fill_n(to + first, count, 0.0f);
      }
      a_.ForWindows(task, row, [&](int64_t from, int lanes,
                                   auto window) INLINE {
        const Vec y = Load(a_.y + from, lanes);
        Vec g = Load(a_.g + from, lanes);
        window([&](int64_t at) INLINE {
          const auto is_maximum = Load(a_.x + at, lanes) == y;
          const Vec dx = Load(a_.dx + at, lanes);
          Store(dx + (is_maximum ? g : Vec{}), a_.dx + at, lanes);
          g = is_maximum ? Vec{} : g;
        });
      });
    }
  }

 private:
  const Arguments a_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_MAX_POOL_H_
