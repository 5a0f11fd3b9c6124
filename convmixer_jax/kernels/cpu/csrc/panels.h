// Products with a small matrix from the right, by one thread, in float32:
//
//   y[row, column] = sum_i x[row, i] matrix[i, column]
//
// The matrix is packed in panels of a few Vecs of columns, as in pack.h, but x
// and y may be any rows of larger arrays.

#ifndef CONVMIXER_JAX_KERNELS_CPU_PANELS_H_
#define CONVMIXER_JAX_KERNELS_CPU_PANELS_H_

#include <algorithm>

#include "linear.h"
#include "pack.h"
#include "room.h"

namespace {

// The sums of a tile fill the registers. Panels are wider than those of
// linear.h: 64 channels, which heads have as a rule, are whole ones.
constexpr int kVectorsOfTile = kRegisters / 8;
constexpr int kRowsOfTile = 6;

// Rows of a matrix, `stride` apart.
struct Strided {
  const float* data;
  int64_t stride;

  const float* Row(int64_t row) const { return data + row * stride; }
};

// The values x[i, row] of a tile, that is those of the transpose of x.
struct Columns {
  const float* x;
  int64_t stride;

  float operator()(int64_t row, int64_t i) const INLINE {
    return x[i * stride + row];
  }
};

inline int64_t Padded(int64_t columns) {
  return CeilDiv(columns, kLanes) * kLanes;
}

// A matrix [inner, columns] to multiply with from the right, in panels.
class Panels {
 public:
  Panels(int64_t inner, int64_t columns)
      : inner_(inner), columns_(columns), data_(inner * Padded(columns)) {}

  void Pack(const Strided& from) {
    ForPanels([&](int64_t begin, int vectors, float* to) {
      for (int64_t i = 0; i < inner_; ++i) {
        for (int v = 0; v < vectors; ++v, to += kLanes) {
          const int64_t c = begin + v * kLanes;
          Narrow(Load(from.Row(i) + c, Lanes(c)), to);
        }
      }
    });
  }

  // Packs the transpose of a matrix [columns, inner].
  void PackTransposed(const Strided& from) {
    ForPanels([&](int64_t begin, int vectors, float* to) {
      ::PackTransposed(from.Row(begin), from.stride, columns_ - begin, inner_,
                       vectors * kLanes, to);
    });
  }

  // Multiplies rows [begin, end) of x, of which column i is this matrix's row
  // `first` + i, and writes y or adds to it. With `is_padded`, rows of y have
  // room for whole Vecs.
  template <typename X>
  void Multiply(const X& x, int64_t begin, int64_t end, int64_t first,
                int64_t count, bool adds, bool is_padded, float* y,
                int64_t stride) {
    ForPanels([&](int64_t column, int vectors, const float* panel) {
      const int64_t last = column + (vectors - 1) * kLanes;
      const int lanes = is_padded ? kLanes : Lanes(last);
      panel += first * vectors * kLanes;
      Unroll<kVectorsOfTile>([&](auto v) {
        if (vectors != v + 1) return;
        for (int64_t row = begin; row < end; row += kRowsOfTile) {
          // Rows of the last tile may have been in the one before.
          const int64_t from =
              std::max<int64_t>(std::min(row, end - kRowsOfTile), 0);
          MultiplyRows<v + 1>(x, from, end, panel, count, adds, row - from,
                              lanes, stride, y + column);
        }
      });
    });
  }

 private:
  template <int vectors, typename X>
  void MultiplyRows(const X& x, int64_t row, int64_t end, const float* panel,
                    int64_t count, bool adds, int64_t first, int lanes,
                    int64_t stride, float* y) {
    const auto multiply = [&](auto rows, int64_t row, int first) INLINE {
      const auto here = [&](int64_t r, int64_t i) INLINE {
        return x(row + r, i);
      };
      const Tile to{y + row * stride, stride, first, lanes};
      const Tile from{adds ? to.sums : nullptr, stride, first, lanes};
      MultiplyTile<rows, vectors>(here, panel, count, from, to);
    };
    if (row + kRowsOfTile <= end) {
      multiply(std::integral_constant<int, kRowsOfTile>(), row, first);
    } else {
      for (; row < end; ++row) {
        multiply(std::integral_constant<int, 1>(), row, 0);
      }
    }
  }

  template <typename F>
  void ForPanels(F run) {
    constexpr int64_t width = kVectorsOfTile * kLanes;
    for (int64_t begin = 0; begin < columns_; begin += width) {
      const int64_t vectors = CeilDiv(columns_ - begin, kLanes);
      run(begin, std::min<int64_t>(kVectorsOfTile, vectors),
          data_.data() + begin * inner_);
    }
  }

  int Lanes(int64_t column) const {
    return std::clamp<int64_t>(columns_ - column, 0, kLanes);
  }

  const int64_t inner_, columns_;
  Room data_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_PANELS_H_
