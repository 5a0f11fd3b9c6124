// The shapes of a product, and how it is divided into tasks.

#ifndef CONVMIXER_JAX_KERNELS_CPU_MATRICES_H_
#define CONVMIXER_JAX_KERNELS_CPU_MATRICES_H_

#include <algorithm>
#include <cstdint>

#include "vectors.h"

namespace {

// The sums, the Vecs of a panel and a value of x fill the registers.
constexpr int kPanelVectors = 3;
constexpr int kPanel = kPanelVectors * kLanes;
constexpr int kTileRows = kRegisters / 4;
// The rows of a task stay in the level 2 cache, with a part of a panel.
constexpr int64_t kRowsBytes = 640 << 10;
// What a task costs besides its products, as rows and columns of products: a
// panel is loaded from afar for each block of rows, and rows for each group.
constexpr int64_t kRowsToLoad = 24, kColumnsToLoad = 64;
constexpr int64_t kMostTasksPerThread = 8;

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
  // The length of equal parts of a sum, at most `most`, but not 0.
  int64_t InnerPart(int64_t most) const {
    const int64_t parts = std::max<int64_t>(CeilDiv(inner, most), 1);
    return std::max<int64_t>(CeilDiv(inner, parts), 1);
  }
};

// How y is divided into tasks: blocks of rows times groups of panels.
struct Grid {
  int64_t block_rows = 1, group_panels = 1, blocks = 0, groups = 0;

  // Finds the grid that should take the least time, for parts of a sum of this
  // length. To load a panel takes as long as products with `rows_to_load` rows.
  Grid(const Matrices& shape, int64_t part, int64_t threads,
       int64_t rows_to_load = kRowsToLoad) {
    if (shape.rows == 0 || shape.columns == 0) return;
    const int64_t tiles = CeilDiv(shape.rows, kTileRows);
    const int64_t panels = shape.panels();
    const int64_t fit =
        std::max<int64_t>(kRowsBytes / 4 / part / kTileRows, 1);
    const int64_t fewest = CeilDiv(tiles, fit);
    const int64_t more = kMostTasksPerThread * threads;
    int64_t least = INT64_MAX;
    for (int64_t b = fewest; b <= std::min(tiles, fewest + more);) {
      const int64_t block = CeilDiv(tiles, b);
      for (int64_t g = 1; g <= std::min(panels, more);) {
        const int64_t group = CeilDiv(panels, g);
        const int64_t work = Work(b, g, threads) *
                             (block * kTileRows + rows_to_load) *
                             (group * kPanel + kColumnsToLoad);
        if (work < least) {
          least = work;
          block_rows = block * kTileRows, group_panels = group;
          blocks = b, groups = g;
        }
        g = NextDivision(panels, group);
      }
      b = NextDivision(tiles, block);
    }
  }

  int64_t tasks() const { return blocks * groups; }

 private:
  // The tasks of the thread that has the most, in halves: one half more, for
  // threads that are busy when the others begin.
  static int64_t Work(int64_t blocks, int64_t groups, int64_t threads) {
    return 2 * CeilDiv(blocks * groups, threads) + 1;
  }

  // The least number of pieces that are shorter than `length`.
  static int64_t NextDivision(int64_t total, int64_t length) {
    return length == 1 ? total + 1 : CeilDiv(total, length - 1);
  }
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_MATRICES_H_
