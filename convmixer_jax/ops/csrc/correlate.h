// The convolution's output, and with a turned kernel the input's gradient:
//
//   y[b,h,w,c] = bias[c] + sum_ij x[b,h+i-low,w+j-low,c] kernel[i,j,c]
//
// kColumns sums stay in registers, as does a row of the kernel; each Vec of x
// is loaded once for all of them. Rows outside the image are left out.

#ifndef CONVMIXER_JAX_OPS_CSRC_CORRELATE_H_
#define CONVMIXER_JAX_OPS_CSRC_CORRELATE_H_

#include "rows.h"

namespace {

constexpr int kColumns = kRegisters / 2;

// Adds the products with a row of the kernel, from its column `first` on.
template <int first = 0>
INLINE inline void AddRow(const Vec* x, const Vec* kernel,
                          Vec (&sums)[kColumns]) {
  constexpr int taps = std::min(kTaps, kSize - first);
  Vec tap[taps];
  Unroll<taps>([&](auto j) INLINE { tap[j] = kernel[first + j]; });
  Unroll<kColumns + taps - 1>([&](auto column) INLINE {
    const Vec v = x[first + column];
    Unroll<taps>([&](auto j) INLINE {
      constexpr int w = column - j;
      if constexpr (w >= 0 && w < kColumns) sums[w] += v * tap[j];
    });
  });
  if constexpr (first + taps < kSize) AddRow<first + taps>(x, kernel, sums);
}

template <typename T>
struct CorrelateArguments {
  Shape shape;
  int64_t low;
  const T *x, *kernel, *bias;
  T* y;

  // A task is a block of channels of an image.
  int64_t blocks() const { return CeilDiv(shape.channels, kBlock); }
  int64_t tasks() const { return shape.batch * blocks(); }
};

template <typename T>
class CorrelateWorker {
 public:
  using Arguments = CorrelateArguments<T>;

  explicit CorrelateWorker(const Arguments& a)
      : a_(a),
        ring_(a.shape, a.low, CeilDiv(a.shape.width, kColumns) * kColumns),
        kernel_(new Vec[kVectors * kSize * kSize]) {}

  void Run(int64_t task) {
    const Shape& shape = a_.shape;
    const int64_t c = task % a_.blocks() * kBlock;
    const int64_t at = task / a_.blocks() * shape.image() + c;
    const Block block(std::min<int64_t>(kBlock, shape.channels - c));
    LoadKernel(c, block);
    ring_.Start(a_.x + at, &block);
    for (int64_t h = 0; h < shape.height; ++h) {
      T* y = a_.y + at + h * shape.row();
      PrefetchRow<true>(y, shape, block);
      ring_.Advance(h + kSize - 1 - a_.low);
      for (int64_t w = 0; w < shape.width; w += kColumns) {
        for (int v = 0; v < block.vectors; ++v) {
          WriteColumns(h, w, v, block.lanes(v), y + v * kLanes);
        }
      }
    }
  }

 private:
  void LoadKernel(int64_t c, const Block& block) {
    for (int v = 0; v < block.vectors; ++v, c += kLanes) {
      bias_[v] = Load(a_.bias + c, block.lanes(v));
      for (int i = 0; i < kSize * kSize; ++i) {
        kernel_[v * kSize * kSize + i] =
            Load(a_.kernel + i * a_.shape.channels + c, block.lanes(v));
      }
    }
  }

  void WriteColumns(int64_t h, int64_t w, int v, int lanes, T* y) {
    Vec sums[kColumns];
    Unroll<kColumns>([&](auto column) INLINE { sums[column] = bias_[v]; });
    const KernelRows rows(h, a_.shape.height, a_.low);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      AddRow(ring_.Row(v, h + i - a_.low) + w,
             kernel_.get() + (v * kSize + i) * kSize, sums);
    }
    Unroll<kColumns>([&](auto column) INLINE {
      if (w + column < a_.shape.width) {
        Store(sums[column], y + (w + column) * a_.shape.channels, lanes);
      }
    });
  }

  const Arguments a_;
  Ring<T> ring_;
  std::unique_ptr<Vec[]> kernel_;
  Vec bias_[kVectors];
};

}  // namespace

#endif  // CONVMIXER_JAX_OPS_CSRC_CORRELATE_H_
