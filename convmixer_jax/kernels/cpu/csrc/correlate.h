// The convolution's output, and with a rotated kernel the input's gradient,
// where z is pad_before, the number of zeros before the image:
//
//   y[b,h,w,c] = bias[c] + sum_ij x[b,h+i-z,w+j-z,c] kernel[i,j,c]
//
// and for inference, fused with everything between two matrix products:
//
//   x = activation(p + p_bias) p_factor + p_shift
//   y[b,h,w,c] = x[b,h,w,c] + factor[c] activation(bias[c] + sum_ij ...)
//
// kColumns sums and a row of the kernel stay in registers; each Vec of x is
// loaded once for all of them. Rows outside the image are skipped.

#ifndef CONVMIXER_JAX_KERNELS_CPU_CORRELATE_H_
#define CONVMIXER_JAX_KERNELS_CPU_CORRELATE_H_

#include "activations.h"
#include "rows.h"

namespace {

constexpr int kColumns = kRegisters / 2;

// Adds the products with a row of the kernel, starting at its column `first`.
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

// A CorrelateWorker applies a fusion to each x before the convolution, and to
// each sum after it. This one does nothing.
struct NoFusion {
  struct Arguments {};

  void Start(const Arguments&, int64_t, const Block&) {}
  INLINE Vec operator()(int, Vec x) const { return x; }
  INLINE Vec After(int, Vec sum, const Vec&) const { return sum; }
};

// The fused mixer: x is computed from the product p.
template <typename Activation>
class MixerFusion {
 public:
  struct Arguments {
    const float *p_bias, *p_factor, *p_shift, *factor;
  };

  void Start(const Arguments& a, int64_t c, const Block& block) {
    for (int v = 0; v < block.vectors; ++v, c += kLanes) {
      const int lanes = block.lanes(v);
      p_bias_[v] = Load(a.p_bias + c, lanes);
      p_factor_[v] = Load(a.p_factor + c, lanes);
      p_shift_[v] = Load(a.p_shift + c, lanes);
      factor_[v] = Load(a.factor + c, lanes);
    }
  }

  INLINE Vec operator()(int v, Vec p) const {
    return Activation::Value(p + p_bias_[v]) * p_factor_[v] + p_shift_[v];
  }

  INLINE Vec After(int v, Vec sum, const Vec& x) const {
    return x + Activation::Value(sum) * factor_[v];
  }

 private:
  Vec p_bias_[kVectors], p_factor_[kVectors], p_shift_[kVectors];
  Vec factor_[kVectors];
};

template <typename T, typename Fusion>
struct CorrelateArguments {
  Shape shape;
  int64_t pad_before;
  const T *x, *kernel, *bias;
  T* y;
  typename Fusion::Arguments fusion;

  // A task is a block of channels of an image.
  int64_t blocks() const { return CeilDiv(shape.channels, kBlock); }
  int64_t tasks() const { return shape.batch * blocks(); }
};

template <typename T, typename Fusion = NoFusion>
class CorrelateWorker {
 public:
  using Arguments = CorrelateArguments<T, Fusion>;

  explicit CorrelateWorker(const Arguments& a)
      : a_(a),
        ring_(a.shape, a.pad_before,
              CeilDiv(a.shape.width, kColumns) * kColumns),
        kernel_(new Vec[kVectors * kSize * kSize]) {}

  void Run(int64_t task) {
    const Shape& shape = a_.shape;
    const int64_t c = task % a_.blocks() * kBlock;
    const int64_t at = task / a_.blocks() * shape.image() + c;
    const Block block(std::min<int64_t>(kBlock, shape.channels - c));
    LoadKernel(c, block);
    fusion_.Start(a_.fusion, c, block);
    ring_.Start(a_.x + at, &block);
    for (int64_t h = 0; h < shape.height; ++h) {
      T* y = a_.y + at + h * shape.row();
      PrefetchRow<true>(y, shape, block);
      ring_.Advance(h + kSize - 1 - a_.pad_before, fusion_);
      for (int v = 0; v < block.vectors; ++v) {
        for (int64_t w = 0; w < shape.width; w += kColumns) {
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
    const KernelRows rows(h, a_.shape.height, a_.pad_before);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      AddRow(ring_.Row(v, h + i - a_.pad_before) + w,
             kernel_.get() + (v * kSize + i) * kSize, sums);
    }
    const Vec* x = ring_.Row(v, h) + a_.pad_before + w;
    Unroll<kColumns>([&](auto column) INLINE {
      if (w + column < a_.shape.width) {
        Store(fusion_.After(v, sums[column], x[column]),
              y + (w + column) * a_.shape.channels, lanes);
      }
    });
  }

  const Arguments a_;
  Ring<T> ring_;
  Fusion fusion_;
  std::unique_ptr<Vec[]> kernel_;
  Vec bias_[kVectors];
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_CORRELATE_H_
