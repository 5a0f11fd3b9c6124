// The gradient of the kernel and, in one more row, of the bias:
//
//   sums[g,i*k+j,c] = sum_bhw x[b,h+i-z,w+j-z,c] dy[b,h,w,c]
//   sums[g,k*k,c]   = sum_bhw dy[b,h,w,c]
//
// for the images b of group g, where z is pad_before, the number of zeros
// before the image. The groups depend on the shape only, so that the bits of
// the result depend neither on the number of threads nor on their timing.
//
// The sums of kRows rows of the kernel stay in registers while a window of
// kWindow columns of dy moves over a row of the image.

#ifndef CONVMIXER_JAX_KERNELS_CPU_KERNEL_GRADIENT_H_
#define CONVMIXER_JAX_KERNELS_CPU_KERNEL_GRADIENT_H_

#include "rows.h"

namespace {

constexpr int kWindow = 4;
constexpr int kRows = std::min(kSize, (kRegisters - kWindow - 2) / kTaps);

// Adds a row's products to `rows` rows of sums, starting at kernel column
// `first`.
template <int rows, int first = 0>
void AddRows(const Vec* const (&x)[kRows], const Vec* dy, int64_t columns,
             Vec* sums) {
  constexpr int taps = std::min(kTaps, kSize - first);
  Vec sum[rows][taps];
  Unroll<rows>([&](auto i) INLINE {
    Unroll<taps>([&](auto j) INLINE {
      sum[i][j] = sums[i * kSize + first + j];
    });
  });
  for (int64_t w = 0; w < columns; w += kWindow) {
    Vec window[kWindow];
    Unroll<kWindow>([&](auto q) INLINE { window[q] = dy[w + q]; });
    Unroll<rows>([&](auto i) INLINE {
      Unroll<kWindow + taps - 1>([&](auto column) INLINE {
        const Vec v = x[i][w + first + column];
        Unroll<kWindow>([&](auto q) INLINE {
          constexpr int j = column - q;
          if constexpr (j >= 0 && j < taps) sum[i][j] += v * window[q];
        });
      });
    });
  }
  Unroll<rows>([&](auto i) INLINE {
    Unroll<taps>([&](auto j) INLINE {
      sums[i * kSize + first + j] = sum[i][j];
    });
  });
  if constexpr (first + taps < kSize) {
    AddRows<rows, first + taps>(x, dy, columns, sums);
  }
}

template <typename T>
struct KernelGradientArguments {
  Shape shape;
  int64_t pad_before, groups;
  const T *x, *dy;
  float* sums;

  // A task is a block of channels of a group of images.
  int64_t blocks() const { return CeilDiv(shape.channels, kBlock); }
  int64_t tasks() const { return groups * blocks(); }
};

template <typename T>
class KernelGradientWorker {
 public:
  using Arguments = KernelGradientArguments<T>;

  explicit KernelGradientWorker(const Arguments& a)
      : a_(a), columns_(CeilDiv(a.shape.width, kWindow) * kWindow),
        ring_(a.shape, a.pad_before, columns_),
        dy_(new Vec[kVectors * columns_]()),
        sums_(new Vec[kVectors * kSums]) {}

  void Run(int64_t task) {
    const Shape& shape = a_.shape;
    const int64_t c = task % a_.blocks() * kBlock;
    const int64_t group = task / a_.blocks();
    const Block block(std::min<int64_t>(kBlock, shape.channels - c));
    std::fill_n(sums_.get(), kVectors * kSums, Vec{});
    for (int64_t b = group * shape.batch / a_.groups;
         b < (group + 1) * shape.batch / a_.groups; ++b) {
      AddImage(b * shape.image() + c, block);
    }
    for (int v = 0; v < block.vectors; ++v) {
      float* to = a_.sums + group * kSums * shape.channels + c + v * kLanes;
      for (int i = 0; i < kSums; ++i) {
        Store(sums_[v * kSums + i], to + i * shape.channels, block.lanes(v));
      }
    }
  }

 private:
  static constexpr int kSums = kSize * kSize + 1;

  void AddImage(int64_t at, const Block& block) {
    ring_.Start(a_.x + at, &block);
    for (int64_t h = 0; h < a_.shape.height; ++h) {
      ring_.Advance(h + kSize - 1 - a_.pad_before);
      const T* dy = a_.dy + at + h * a_.shape.row();
      PackRow(dy, a_.shape, block, columns_, Identity(), dy_.get());
      if (h + 1 < a_.shape.height) {
        PrefetchRow<false>(dy + a_.shape.row(), a_.shape, block);
      }
      for (int v = 0; v < block.vectors; ++v) {
        AddImageRow(h, v, dy_.get() + v * columns_,
                    sums_.get() + v * kSums);
      }
    }
  }

  void AddImageRow(int64_t h, int v, const Vec* dy, Vec* sums) {
    const KernelRows rows(h, a_.shape.height, a_.pad_before);
    for (int64_t i = rows.begin; i < rows.end; i += kRows) {
      const Vec* x[kRows] = {};
      const int64_t count = std::min<int64_t>(kRows, rows.end - i);
      for (int64_t r = 0; r < count; ++r) {
        x[r] = ring_.Row(v, h + i + r - a_.pad_before);
      }
      Unroll<kRows>([&](auto r) {
        if (count == r + 1) AddRows<r + 1>(x, dy, columns_, sums + i * kSize);
      });
    }
    Vec sum = {};
    for (int64_t w = 0; w < columns_; ++w) sum += dy[w];
    sums[kSums - 1] += sum;
  }

  const Arguments a_;
  const int64_t columns_;
  Ring<T> ring_;
  std::unique_ptr<Vec[]> dy_, sums_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_KERNEL_GRADIENT_H_
