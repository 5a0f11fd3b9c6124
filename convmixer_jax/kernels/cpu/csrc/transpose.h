// The transposes of matrices, in float32: y[column, row] = x[row, column].
//
// Blocks of kLanes rows and columns are transposed in registers.

#ifndef CONVMIXER_JAX_KERNELS_CPU_TRANSPOSE_H_
#define CONVMIXER_JAX_KERNELS_CPU_TRANSPOSE_H_

#include <algorithm>

#include "vectors.h"

namespace {

constexpr int64_t kStrip = 32;  // two lines of memory

// x is [batch, rows, columns]; a task is some columns of a matrix.
struct Transposed {
  int64_t batch, rows, columns;

  int64_t strips() const { return CeilDiv(columns, kStrip); }
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
    const int64_t size = task / a_.strips() * a_.rows * a_.columns;
    const int64_t first = task % a_.strips() * kStrip;
    const int64_t last = std::min(first + kStrip, a_.columns);
    for (int64_t row = 0; row < a_.rows; row += kLanes) {
      for (int64_t column = first; column < last; column += kLanes) {
        Block(a_.x + size + row * a_.columns + column,
              std::min<int64_t>(kLanes, a_.rows - row),
              std::min<int64_t>(kLanes, last - column),
              a_.y + size + column * a_.rows + row);
      }
    }
  }

 private:
  void Block(const float* x, int64_t rows, int64_t columns, float* y) const {
    if (rows == kLanes && columns == kLanes) {
      Vec vectors[kLanes];
      Unroll<kLanes>([&](auto r) INLINE {
        vectors[r] = Widen(x + r * a_.columns);
      });
      TransposeLanes(vectors);
      Unroll<kLanes>([&](auto c) INLINE {
        Narrow(vectors[c], y + c * a_.rows);
      });
      return;
    }
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = 0; r < rows; ++r) {
        y[c * a_.rows + r] = x[r * a_.columns + c];
      }
    }
  }

  const Arguments a_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_TRANSPOSE_H_
