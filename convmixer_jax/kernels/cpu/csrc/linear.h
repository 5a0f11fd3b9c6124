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

#include "epilogue.h"
#include "matrices.h"
#include "room.h"
#include "vectors.h"
#include "windows.h"

namespace {

// A part of a panel stays in the level 2 cache while all rows of a task are
// multiplied with it, and so do these rows.
constexpr int64_t kMostInner = 768;
constexpr int64_t kLine = 64 / sizeof(float);  // of the caches

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

// Where the sums of a tile are, in rows `stride` apart. Those of rows before
// `first`, and those beyond the last Vec's lanes, are neither read nor written.
struct Tile {
  float* sums;
  int64_t stride;
  int first = 0;
  int last_lanes = kLanes;

  bool is_whole() const { return first == 0 && last_lanes == kLanes; }
};

// What is fetched while a tile is multiplied: a tile of each array that is not
// null, whose rows are `stride` apart, and `count` floats of a packed panel.
struct Fetched {
  const float* arrays[2];
  int64_t stride;
  const float* panel = nullptr;
  int64_t count = 0;
};

// Adds products to the sums `from`, or to zeros if it is null, and writes `to`.
// What is to be fetched is divided among the products: while many lines are on
// their way, those of the level 2 cache have to wait too.
template <int rows, int vectors, typename X>
inline void MultiplyTile(const X& x, const float* packed, int64_t inner,
                         const Tile& from, const Tile& to,
                         const Fetched* fetched = nullptr) {
  const auto lanes = [](const Tile& tile, int v) INLINE {
    return v == vectors - 1 ? tile.last_lanes : kLanes;
  };
  Vec sums[rows][vectors] = {};
  if (from.sums != nullptr && from.is_whole()) {
    Unroll<rows>([&](auto r) INLINE {
      Unroll<vectors>([&](auto v) INLINE {
        sums[r][v] = Widen(from.sums + r * from.stride + v * kLanes);
      });
    });
  } else if (from.sums != nullptr) {
    Unroll<rows>([&](auto r) INLINE {
      if (r < from.first) return;
      Unroll<vectors>([&](auto v) INLINE {
        sums[r][v] =
            Load(from.sums + r * from.stride + v * kLanes, lanes(from, v));
      });
    });
  }
  constexpr int pieces = rows * vectors;
  const int64_t step =
      fetched == nullptr ? inner : std::max<int64_t>(inner / pieces, 1);
  for (int64_t begin = 0, piece = 0; begin < inner; begin += step, ++piece) {
    if (fetched != nullptr && piece < pieces) {
      const int64_t at =
          piece / vectors * fetched->stride + piece % vectors * kLanes;
      for (const float* array : fetched->arrays) {
        if (array != nullptr) __builtin_prefetch(array + at);
      }
      for (int64_t n = piece * kLine; n < fetched->count; n += pieces * kLine) {
        __builtin_prefetch(fetched->panel + n, 0, 2);  // to the level 2 cache
      }
    }
    const int64_t end = std::min(begin + step, inner);
    for (int64_t i = begin; i < end; ++i) {
      Vec kernel[vectors];
      Unroll<vectors>([&](auto v) INLINE {
        kernel[v] = Widen(packed + (i * vectors + v) * kLanes);
      });
      Unroll<rows>([&](auto r) INLINE {
        const float value = x(r, i);
        Unroll<vectors>([&](auto v) INLINE {
          sums[r][v] += value * kernel[v];
        });
      });
    }
  }
  if (to.is_whole()) {
    Unroll<rows>([&](auto r) INLINE {
      Unroll<vectors>([&](auto v) INLINE {
        Narrow(sums[r][v], to.sums + r * to.stride + v * kLanes);
      });
    });
  } else {
    Unroll<rows>([&](auto r) INLINE {
      if (r < to.first) return;
      Unroll<vectors>([&](auto v) INLINE {
        Store(sums[r][v], to.sums + r * to.stride + v * kLanes, lanes(to, v));
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
    const float* packed =
        a_.packed + shape.Packed(panel) + i * vectors * kLanes;
    const int last_lanes = shape.Lanes(panel, vectors - 1);
    // The next panel is fetched meanwhile, a piece with each tile.
    const float* next = packed + shape.Packed(panel + 1) - shape.Packed(panel);
    const int64_t piece = panel + 1 == shape.panels()
                              ? 0
                              : CeilDiv(part * kPanel,
                                        CeilDiv(end - begin, kTileRows));
    const bool ends = i + part >= shape.inner && !a_.epilogue.is_empty();
    const auto multiply = [&](auto rows, int64_t row, int first) INLINE {
      const int64_t column = panel * kPanel;
      const int64_t at = row * shape.columns + column;
      const Tile y{a_.y + at, shape.columns, first, last_lanes};
      const Tile from{i == 0 ? nullptr : y.sums, y.stride, first, last_lanes};
      const Rows<0, 1> tile{x.x + (row - begin) * x.row_stride, x.row_stride};
      const int64_t ahead = CeilDiv(row - begin, kTileRows) * piece;
      const Fetched fetched{
          {y.sums, ends ? a_.epilogue.OfTile(at) : nullptr},
          y.stride,
          next + ahead,
          std::clamp<int64_t>(part * kPanel - ahead, 0, piece)};
      if (!ends) {
        return MultiplyTile<rows, vectors>(tile, packed, part, from, y,
                                           &fetched);
      }
      // Whatever follows is computed of a copy, so that y is written once.
      alignas(kVectorBytes) float sums[rows * vectors * kLanes];
      MultiplyTile<rows, vectors>(tile, packed, part, from,
                                  Tile{sums, vectors * kLanes}, &fetched);
      a_.epilogue.template Run<rows, vectors>(
          sums, first, last_lanes, at, column, shape.columns, a_.y);
    };
    for (int64_t row = begin; row < end; row += kTileRows) {
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

  const Arguments a_;
  const Room room_;  // for rows that are not in memory
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_LINEAR_H_
