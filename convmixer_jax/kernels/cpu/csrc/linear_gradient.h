// The gradient of the kernel of a product (linear.h), in float32:
//
//   dkernel[i, column] = sum_row x[row, i] dy[row, column]
//
// This is a product too, whose sums run over the rows. Each thread packs a part
// of them: of x the values that a tile reads together, of dy panels. That of a
// convolution's kernel is the same, where a row of x is what a position of dy
// was computed from. The gradient of a bias after the product, which is the sum
// of dy's rows, is taken of the panels on the way.

#ifndef CONVMIXER_JAX_KERNELS_CPU_LINEAR_GRADIENT_H_
#define CONVMIXER_JAX_KERNELS_CPU_LINEAR_GRADIENT_H_

#include <algorithm>

#include "linear.h"
#include "pack.h"
#include "room.h"
#include "windows.h"

namespace {

// Shorter parts than those of linear.h, since a task's own copies of x and of a
// panel of dy have to stay in the level 2 cache.
constexpr int64_t kMostRowsOfSum = 192;
// A panel of dy is packed for each block of i: see `Grid`.
constexpr int64_t kRowsToPack = 56;

template <typename X>
class LinearGradientWorker {
 public:
  struct Arguments {
    Matrices shape;  // its rows are i, and its inner axis the rows of x
    int64_t part;
    Grid grid;
    X x;
    const float* dy;
    float* dkernel;
    float* dbias;  // takes the sums of dy over its rows; or null

    Arguments(const Matrices& shape, int64_t threads, const X& x,
              const float* dy, float* dkernel, float* dbias = nullptr)
        : shape(shape), part(shape.InnerPart(kMostRowsOfSum)),
          grid(shape, part, threads, kRowsToPack), x(x), dy(dy),
          dkernel(dkernel), dbias(dbias) {}

    int64_t tasks() const { return grid.tasks(); }
  };

  explicit LinearGradientWorker(const Arguments& arguments)
      : a_(arguments),
        dy_{a_.shape, false, a_.dy},
        x_(a_.grid.block_rows * a_.part),
        panel_(kPanel * a_.part),
        room_(a_.grid.block_rows) {}

  void Run(int64_t task) {
    const Grid& grid = a_.grid;
    const int64_t begin = task / grid.groups * grid.block_rows;
    const int64_t end = std::min(begin + grid.block_rows, a_.shape.rows);
    const int64_t first = task % grid.groups * grid.group_panels;
    const int64_t last =
        std::min(first + grid.group_panels, a_.shape.panels());
    int64_t row = 0;
    do {
      const int64_t part = std::min(a_.part, a_.shape.inner - row);
      PackX(begin, end, row, part);
      for (int64_t panel = first; panel < last; ++panel) {
        dy_.Pack(panel, row, part, panel_.data());
        // Others of dkernel's rows pack the same panels.
        if (begin == 0 && a_.dbias != nullptr) AddPanel(panel, part, row == 0);
        const int vectors = a_.shape.VectorsOf(panel);
        const float* next = Next(first, last, panel, row);
        Unroll<kPanelVectors>([&](auto v) {
          if (vectors == v + 1) {
            MultiplyPanel<v + 1>(begin, end, panel, part, row == 0, next);
          }
        });
      }
    } while ((row += a_.part) < a_.shape.inner);
  }

 private:
  // Returns what of dy is packed after a part of a panel, if anything is.
  const float* Next(int64_t first, int64_t last, int64_t panel,
                    int64_t row) const {
    if (++panel == last) panel = first, row += a_.part;
    if (row >= a_.shape.inner) return nullptr;
    return a_.dy + row * a_.shape.columns + panel * kPanel;
  }

  // Packs x[row..., begin:end] in tiles; the last has its values at its end.
  void PackX(int64_t begin, int64_t end, int64_t row, int64_t part) {
    const int64_t size = kTileRows * part;
    for (int64_t r = 0; r < part; ++r) {
      const float* from = a_.x.Get(row + r, begin, end, room_.data());
      float* to = x_.data() + r * kTileRows;
      int64_t left = end - begin;
      for (; left >= kTileRows; left -= kTileRows, to += size) {
        std::copy_n(from, kTileRows, to);
        from += kTileRows;
      }
      if (left == 0) continue;
      std::fill_n(to, kTileRows - left, 0.0f);
      std::copy_n(from, left, to + kTileRows - left);
    }
  }

  // Adds the rows of a packed panel to dbias, or begins with them.
  void AddPanel(int64_t panel, int64_t part, bool begins) {
    const int vectors = a_.shape.VectorsOf(panel);
    Vec sums[kPanelVectors] = {};
    const float* from = panel_.data();
    for (int64_t r = 0; r < part; ++r, from += vectors * kLanes) {
      for (int v = 0; v < vectors; ++v) sums[v] += Widen(from + v * kLanes);
    }
    for (int v = 0; v < vectors; ++v) {
      const int lanes = a_.shape.Lanes(panel, v);
      float* to = a_.dbias + panel * kPanel + v * kLanes;
      Store(begins ? sums[v] : Load(to, lanes) + sums[v], to, lanes);
    }
  }

  // Multiplies x with the packed part of a panel, and fetches the next one.
  template <int vectors>
  void MultiplyPanel(int64_t begin, int64_t end, int64_t panel, int64_t part,
                     bool begins, const float* next) {
    const int64_t columns = a_.shape.columns;
    const int last_lanes = a_.shape.Lanes(panel, vectors - 1);
    const float* x = x_.data();
    for (int64_t i = begin; i < end; i += kTileRows, x += kTileRows * part) {
      const int first = std::max<int64_t>(kTileRows - (end - i), 0);
      const Tile result{a_.dkernel + (i - first) * columns + panel * kPanel,
                        columns, first, last_lanes};
      const int64_t row = (i - begin) * 2;  // two tiles of dy for each one
      const bool fetches = next != nullptr && row < part;
      const float* rows = next + (fetches ? row * columns : 0);
      const Fetched fetched{{rows, rows + (fetches ? kTileRows * columns : 0)},
                            columns};
      MultiplyTile<kTileRows, vectors>(
          Rows<1, kTileRows>{x, 1}, panel_.data(), part,
          begins ? Tile{nullptr, 0} : result, result,
          fetches ? &fetched : nullptr);
    }
  }

  const Arguments a_;
  const Kernel dy_;
  const Room x_, panel_, room_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_LINEAR_GRADIENT_H_
