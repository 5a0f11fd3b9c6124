// The transposes of matrices, in float32: y[column, row] = x[row, column].
//
// A block of both is a few lines of memory, which stay in the level 1 cache
// while they are read and written element by element.

#ifndef CONVMIXER_JAX_KERNELS_CPU_TRANSPOSE_H_
#define CONVMIXER_JAX_KERNELS_CPU_TRANSPOSE_H_

#include <algorithm>

#include "vectors.h"

namespace {

constexpr int64_t kTransposedSide = 16;  // a line

// x is [batch, rows, columns]; a task is some columns of a matrix.
struct Transposed {
  int64_t batch, rows, columns;

  int64_t strips() const { return CeilDiv(columns, kTransposedSide); }
  int64_t tasks() const { return batch * strips(); }
};

class TransposeWorker {
 public:
  struct Arguments : Transposed {
    const float* x;
    float* y;
  };

  explicit TransposeWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const int64_t column = task % a_.strips() * kTransposedSide;
    const int64_t size = task / a_.strips() * a_.rows * a_.columns;
    const float* x = a_.x + size + column;
    float* y = a_.y + size + column * a_.rows;
    const int64_t width = std::min(kTransposedSide, a_.columns - column);
    for (int64_t row = 0; row < a_.rows; row += kTransposedSide) {
      const int64_t height = std::min(kTransposedSide, a_.rows - row);
      const float* from = x + row * a_.columns;
      if (width == kTransposedSide && height == kTransposedSide) {
        Block(from, kTransposedSide, kTransposedSide, y + row);
      } else {
        Block(from, height, width, y + row);
      }
    }
  }

 private:
  INLINE void Block(const float* from, int64_t height, int64_t width,
                    float* to) const {
    float block[kTransposedSide * kTransposedSide];
    for (int64_t r = 0; r < height; ++r) {
      for (int64_t c = 0; c < width; ++c) {
        block[c * kTransposedSide + r] = from[r * a_.columns + c];
      }
    }
    for (int64_t c = 0; c < width; ++c) {
      std::copy_n(block + c * kTransposedSide, height, to + c * a_.rows);
    }
  }

  const Arguments a_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_TRANSPOSE_H_
