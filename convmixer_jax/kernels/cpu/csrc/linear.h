// Products of matrices in float32:
//
//   y[row, column] = sum_i x[row, i] kernel[i, column]
//
// The kernel is packed first, into panels of a few Vecs of columns, in the
// order in which they are read. Then the sums of kTileRows rows of a panel stay
// in registers while i runs over all of x, which is not packed. So the order of
// each sum does not depend on the number of threads or devices.

#ifndef CONVMIXER_JAX_KERNELS_CPU_LINEAR_H_
#define CONVMIXER_JAX_KERNELS_CPU_LINEAR_H_

#include <algorithm>

#include "vectors.h"

namespace {

// The sums, the Vecs of a panel and a value of x fill the registers.
constexpr int kPanelVectors = 3;
constexpr int kPanel = kPanelVectors * kLanes;
constexpr int kTileRows = kRegisters / 4;
// A thread's rows of x stay in its level 2 cache, together with a panel.
constexpr int64_t kBlockBytes = 352 << 10;
constexpr int64_t kTasksPerThread = 8;  // at least, for balance

struct Matrices {
  int64_t rows, inner, columns;

  int64_t panels() const { return CeilDiv(columns, kPanel); }
  int64_t vectors() const { return CeilDiv(columns, kLanes); }

  // The number of Vecs of a panel: fewer in the last.
  int VectorsOf(int64_t panel) const {
    return std::min<int64_t>(kPanelVectors,
                             vectors() - panel * kPanelVectors);
  }
  // The number of channels of Vec v of a panel: fewer in the last.
  int Lanes(int64_t panel, int v) const {
    return std::min<int64_t>(kLanes, columns - panel * kPanel - v * kLanes);
  }
  // The offset of a panel in the packed kernel.
  int64_t Packed(int64_t panel) const { return panel * kPanel * inner; }
};

// Packs the kernel, [inner, columns] or, transposed, [columns, inner].
class PackWorker {
 public:
  struct Arguments {
    Matrices shape;
    bool transposed;
    const float* kernel;
    float* packed;

    int64_t tasks() const { return shape.panels(); }
  };

  explicit PackWorker(const Arguments& arguments) : a_(arguments) {}

  void Run(int64_t panel) {
    const Matrices& shape = a_.shape;
    const int vectors = shape.VectorsOf(panel), width = vectors * kLanes;
    float* to = a_.packed + shape.Packed(panel);
    if (!a_.transposed) {
      const float* from = a_.kernel + panel * kPanel;
      for (int64_t i = 0; i < shape.inner; ++i) {
        for (int v = 0; v < vectors; ++v) {
          Narrow(Load(from + i * shape.columns + v * kLanes,
                      shape.Lanes(panel, v)),
                 to + i * width + v * kLanes);
        }
      }
      return;
    }
    for (int64_t c = 0; c < width; ++c) {
      const int64_t column = panel * kPanel + c;
      const float* from = a_.kernel + column * shape.inner;
      for (int64_t i = 0; i < shape.inner; ++i) {
        to[i * width + c] = column < shape.columns ? from[i] : 0.0f;
      }
    }
  }

 private:
  const Arguments a_;
};

// Multiplies blocks of rows of x with all panels.
class MultiplyWorker {
 public:
  struct Arguments {
    Matrices shape;
    int64_t threads;
    const float* x;
    const float* packed;
    float* y;

    int64_t block() const {
      const int64_t fit = kBlockBytes / 4 / std::max<int64_t>(shape.inner, 1);
      const int64_t rows =
          std::min(fit, CeilDiv(shape.rows, kTasksPerThread * threads));
      return std::max<int64_t>(rows / kTileRows, 1) * kTileRows;
    }
    int64_t tasks() const { return CeilDiv(shape.rows, block()); }
  };

  explicit MultiplyWorker(const Arguments& arguments) : a_(arguments) {}

  void Run(int64_t task) {
    const int64_t begin = task * a_.block();
    const int64_t end = std::min(begin + a_.block(), a_.shape.rows);
    for (int64_t panel = 0; panel < a_.shape.panels(); ++panel) {
      const int vectors = a_.shape.VectorsOf(panel);
      Unroll<kPanelVectors>([&](auto v) {
        if (vectors == v + 1) MultiplyPanel<v + 1>(begin, end, panel);
      });
    }
  }

 private:
  template <int vectors>
  void MultiplyPanel(int64_t begin, int64_t end, int64_t panel) {
    int64_t row = begin;
    for (; row + kTileRows <= end; row += kTileRows) {
      MultiplyTile<kTileRows, vectors>(row, panel);
    }
    for (; row < end; ++row) MultiplyTile<1, vectors>(row, panel);
  }

  template <int rows, int vectors>
  void MultiplyTile(int64_t row, int64_t panel) {
    const int64_t inner = a_.shape.inner, columns = a_.shape.columns;
    const float* x = a_.x + row * inner;
    const float* packed = a_.packed + a_.shape.Packed(panel);
    Vec sums[rows][vectors] = {};
    for (int64_t i = 0; i < inner; ++i) {
      Vec kernel[vectors];
      Unroll<vectors>([&](auto v) INLINE {
        kernel[v] = Widen(packed + (i * vectors + v) * kLanes);
      });
      Unroll<rows>([&](auto r) INLINE {
        const float value = x[r * inner + i];
        Unroll<vectors>(
            [&](auto v) INLINE { sums[r][v] += value * kernel[v]; });
      });
    }
    float* y = a_.y + row * columns + panel * kPanel;
    for (int v = 0; v < vectors; ++v) {
      const int lanes = a_.shape.Lanes(panel, v);
      for (int r = 0; r < rows; ++r) {
        Store(sums[r][v], y + r * columns + v * kLanes, lanes);
      }
    }
  }

  const Arguments a_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_LINEAR_H_
