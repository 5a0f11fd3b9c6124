// Products of matrices in float32:
//
//   y[row, column] = sum_i x[row, i] kernel[i, column]
//
// The kernel is packed first, into panels of a few Vecs of columns, in the
// order in which they are read. Then the sums of kTileRows rows of a panel stay
// in registers while i runs over a part of x's row, at most kMostInner long;
// between two parts, y holds them. So the order of each sum does not depend on
// the number of threads or devices.

#ifndef CONVMIXER_JAX_KERNELS_CPU_LINEAR_H_
#define CONVMIXER_JAX_KERNELS_CPU_LINEAR_H_

#include <algorithm>
#include <vector>

#include "epilogue.h"
#include "matrices.h"
#include "vectors.h"
#include "windows.h"

namespace {

// A part of a panel stays in the level 2 cache while all rows of a task are
// multiplied with it, and so do these rows.
constexpr int64_t kMostInner = 768;

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
    float* to = a_.packed + shape.Packed(panel);
    if (a_.transposed) return PackTransposed(shape, panel, a_.kernel, to);
    PackRows(shape, panel, a_.kernel, shape.inner, to);
  }

  // Packs some rows of a panel of a kernel that is not transposed.
  static void PackRows(const Matrices& shape, int64_t panel,
                       const float* kernel, int64_t rows, float* to) {
    const int vectors = shape.VectorsOf(panel);
    const int last = shape.Lanes(panel, vectors - 1);
    const float* from = kernel + panel * kPanel;
    for (int64_t i = 0; i < rows; ++i, from += shape.columns) {
      for (int v = 0; v < vectors; ++v, to += kLanes) {
        const int lanes = v == vectors - 1 ? last : kLanes;
        Narrow(Load(from + v * kLanes, lanes), to);
      }
    }
  }

  // Packs a panel of a kernel [columns, inner]: a few columns of the result at
  // once, so that whole lines are written.
  static void PackTransposed(const Matrices& shape, int64_t panel,
                             const float* kernel, float* to) {
    const int64_t width = shape.VectorsOf(panel) * kLanes;
    for (int64_t begin = 0; begin < shape.inner; begin += kLanes) {
      const int64_t end = std::min(begin + kLanes, shape.inner);
      for (int64_t c = 0; c < width; ++c) {
        const int64_t column = panel * kPanel + c;
        const float* from = kernel + column * shape.inner;
        for (int64_t i = begin; i < end; ++i) {
          to[i * width + c] = column < shape.columns ? from[i] : 0.0f;
        }
      }
    }
  }

 private:
  const Arguments a_;
};

// The values x[row, i] of a tile: at x[row * row_stride + i * inner_stride].
template <int row_stride_or_none, int inner_stride>
struct Rows {
  const float* x;
  int64_t row_stride;

  float operator()(int64_t row, int64_t i) const INLINE {
    const int64_t stride =
        row_stride_or_none ? row_stride_or_none : row_stride;
    return x[row * stride + i * inner_stride];
  }
};

// Adds a part of the sums of a tile of y, or begins with it. Rows before
// `first` are computed, but neither read nor written.
template <int rows, int vectors, typename X>
inline void MultiplyTile(const X& x, const float* packed, int64_t inner,
                         bool begins, int first, int last_lanes,
                         int64_t columns, float* y) {
  const bool is_whole = first == 0 && last_lanes == kLanes;
  const auto lanes = [&](int v) INLINE {
    return v == vectors - 1 ? last_lanes : kLanes;
  };
  Vec sums[rows][vectors] = {};
  if (!begins && is_whole) {
    Unroll<rows>([&](auto r) INLINE {
      Unroll<vectors>([&](auto v) INLINE {
        sums[r][v] = Widen(y + r * columns + v * kLanes);
      });
    });
  } else if (!begins) {
    Unroll<rows>([&](auto r) INLINE {
      if (r < first) return;
      Unroll<vectors>([&](auto v) INLINE {
        sums[r][v] = Load(y + r * columns + v * kLanes, lanes(v));
      });
    });
  }
  for (int64_t i = 0; i < inner; ++i) {
    Vec kernel[vectors];
    Unroll<vectors>([&](auto v) INLINE {
      kernel[v] = Widen(packed + (i * vectors + v) * kLanes);
    });
    Unroll<rows>([&](auto r) INLINE {
      const float value = x(r, i);
      Unroll<vectors>([&](auto v) INLINE { sums[r][v] += value * kernel[v]; });
    });
  }
  if (is_whole) {
    Unroll<rows>([&](auto r) INLINE {
      Unroll<vectors>([&](auto v) INLINE {
        Narrow(sums[r][v], y + r * columns + v * kLanes);
      });
    });
  } else {
    Unroll<rows>([&](auto r) INLINE {
      if (r < first) return;
      Unroll<vectors>([&](auto v) INLINE {
        Store(sums[r][v], y + r * columns + v * kLanes, lanes(v));
      });
    });
  }
}

// Multiplies blocks of rows of x with groups of panels, and computes what
// follows.
template <typename X>
class MultiplyWorker {
 public:
  struct Arguments {
    Matrices shape;
    int64_t part;  // of a sum
    Grid grid;
    X x;
    const float* packed;
    float* y;
    Epilogue epilogue;

    Arguments(const Matrices& shape, int64_t threads, const X& x,
              const float* packed, float* y, const Epilogue& epilogue = {})
        : shape(shape), part(shape.InnerPart(kMostInner)),
          grid(shape, part, threads), x(x), packed(packed), y(y),
          epilogue(epilogue) {}

    int64_t tasks() const { return grid.tasks(); }
  };

  explicit MultiplyWorker(const Arguments& arguments)
      : a_(arguments),
        room_(X::kInMemory ? 0 : a_.grid.block_rows * a_.part) {}

  void Run(int64_t task) {
    const Grid& grid = a_.grid;
    const int64_t begin = task / grid.groups * grid.block_rows;
    const int64_t end = std::min(begin + grid.block_rows, a_.shape.rows);
    const int64_t first = task % grid.groups * grid.group_panels;
    const int64_t last =
        std::min(first + grid.group_panels, a_.shape.panels());
    int64_t i = 0;
    do {
      const Rows<0, 1> x = Gather(begin, end, i);
      for (int64_t panel = first; panel < last; ++panel) {
        const int vectors = a_.shape.VectorsOf(panel);
        Unroll<kPanelVectors>([&](auto v) {
          if (vectors == v + 1) MultiplyPanel<v + 1>(x, begin, end, panel, i);
        });
      }
    } while ((i += a_.part) < a_.shape.inner);
  }

 private:
  // Returns a part of the block's rows.
  Rows<0, 1> Gather(int64_t begin, int64_t end, int64_t i) {
    const int64_t last = std::min(i + a_.part, a_.shape.inner);
    if (X::kInMemory) {
      return {a_.x.Get(begin, i, last, nullptr), a_.shape.inner};
    }
    for (int64_t row = begin; row < end; ++row) {
      a_.x.Get(row, i, last, room_.data() + (row - begin) * a_.part);
    }
    return {room_.data(), a_.part};
  }

  template <int vectors>
  void MultiplyPanel(const Rows<0, 1>& x, int64_t begin, int64_t end,
                     int64_t panel, int64_t i) {
    const Matrices& shape = a_.shape;
    const int64_t part = std::min(a_.part, shape.inner - i);
    const float* packed = a_.packed + shape.Packed(panel) + i * vectors * kLanes;
    const int last_lanes = shape.Lanes(panel, vectors - 1);
    // The next panel is fetched meanwhile, a piece with each tile.
    const float* next = packed + shape.Packed(panel + 1) - shape.Packed(panel);
    const int64_t piece =
        CeilDiv(part * kPanel, CeilDiv(end - begin, kTileRows));
    const bool ends = i + part >= shape.inner && !a_.epilogue.is_empty();
    const auto multiply = [&](auto rows, int64_t row, int first) INLINE {
      const int64_t column = panel * kPanel;
      const int64_t at = row * shape.columns + column;
      if (ends) a_.epilogue.Fetch(rows, vectors, at, shape.columns);
      MultiplyTile<rows, vectors>(
          Rows<0, 1>{x.x + (row - begin) * x.row_stride, x.row_stride}, packed,
          part, i == 0, first, last_lanes, shape.columns, a_.y + at);
      if (ends) {
        a_.epilogue.Run(first, rows, vectors, last_lanes, at, column,
                        shape.columns, a_.y);
      }
    };
    for (int64_t row = begin; row < end; row += kTileRows) {
      if (panel + 1 < shape.panels()) {
        Fetch(next + (row - begin) / kTileRows * piece, piece);
      }
      constexpr std::integral_constant<int, kTileRows> tile{};
      constexpr std::integral_constant<int, 1> one{};
      if (row + kTileRows <= end) {
        multiply(tile, row, 0);
      } else if (end - begin >= kTileRows) {
        multiply(tile, end - kTileRows, kTileRows - (end - row));
      } else {
        for (int64_t r = row; r < end; ++r) multiply(one, r, 0);
      }
    }
  }

  static void Fetch(const float* from, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / sizeof(float)) {
      __builtin_prefetch(from + i, 0, 2);  // to the level 2 cache
    }
  }

  const Arguments a_;
  std::vector<float> room_;  // for rows that are not in memory
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_LINEAR_H_
