// What a product multiplies: the rows of a matrix, or those that a convolution
// makes of images.

#ifndef CONVMIXER_JAX_KERNELS_CPU_WINDOWS_H_
#define CONVMIXER_JAX_KERNELS_CPU_WINDOWS_H_

#include <algorithm>
#include <cstdint>

namespace {

// The rows of a matrix.
struct MatrixRows {
  static constexpr bool kInMemory = true;  // one after the other
  const float* x;
  int64_t length;

  // Returns the values begin to end of a row; `room` is for as many.
  const float* Get(int64_t row, int64_t begin, int64_t end, float* room) const {
    (void)end, (void)room;
    return x + row * length + begin;
  }
};

// The windows of a convolution: x is [B, height, width, channels], and a window
// [..., size, channels], one for each of [B, out_height, out_width] positions.
// The first one begins `above` rows above x and `left` columns left of it.
// Beyond its sides x is 0.
struct Windows {
  static constexpr bool kInMemory = false;
  const float* x;
  int64_t height, width, channels, out_height, out_width;
  int64_t size, stride, above, left;

  const float* Get(int64_t row, int64_t begin, int64_t end, float* room) const {
    if (begin == end) return room;  // of no channels
    const int64_t image = row / (out_height * out_width);
    const int64_t top = row / out_width % out_height * stride - above;
    const int64_t column = row % out_width * stride - left;
    // A line of a window lies in memory as it lies in x.
    const int64_t length = size * channels, line_length = width * channels;
    for (int64_t y = begin / length; y * length < end; ++y) {
      const int64_t first = std::max(y * length, begin);
      const int64_t last = std::min((y + 1) * length, end);
      // The value i is that at i + shift of the line of x.
      const int64_t shift = column * channels - y * length;
      const bool is_inside = top + y >= 0 && top + y < height;
      const int64_t a =
          std::clamp(is_inside ? -shift : last, first, last);
      const int64_t b = std::clamp(line_length - shift, a, last);
      float* to = room - begin;
      std::fill(to + first, to + a, 0.0f);
      if (a < b) {
        const float* line = x + (image * height + top + y) * line_length;
        std::copy(line + shift + a, line + shift + b, to + a);
      }
      std::fill(to + b, to + last, 0.0f);
    }
    return room;
  }
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_WINDOWS_H_
