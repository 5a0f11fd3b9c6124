// The layout in which products (linear.h) read a kernel: panels of a few Vecs
// of columns, each of which has its rows one after the other.

#ifndef CONVMIXER_JAX_KERNELS_CPU_PACK_H_
#define CONVMIXER_JAX_KERNELS_CPU_PACK_H_

#include <algorithm>
#include <cstdint>

#include "matrices.h"
#include "vectors.h"

namespace {

// Writes the transpose of a matrix [columns, count], whose rows are `stride`
// apart. After each row zeros follow, up to `width`, a multiple of kLanes.
inline void PackTransposed(const float* from, int64_t stride, int64_t columns,
                           int64_t count, int64_t width, float* to) {
  for (int64_t c = 0; c < width; c += kLanes) {
    for (int64_t i = 0; i < count; i += kLanes) {
      const float* block = from + c * stride + i;
      float* packed = to + i * width + c;
      if (i + kLanes <= count && c + kLanes <= columns) {
        Vec vectors[kLanes];
        Unroll<kLanes>([&](auto n) INLINE {
          vectors[n] = Widen(block + n * stride);
        });
        TransposeLanes(vectors);
        Unroll<kLanes>([&](auto n) INLINE {
          Narrow(vectors[n], packed + n * width);
        });
        continue;
      }
      const int64_t rows = std::min<int64_t>(kLanes, count - i);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t n = 0; n < kLanes; ++n) {
          packed[r * width + n] =
              c + n < columns ? block[n * stride + r] : 0.0f;
        }
      }
    }
  }
}

// A kernel to be packed: [inner, columns], or transposed [columns, inner].
struct Kernel {
  Matrices shape;
  bool transposed;
  const float* data;

  // Packs rows [i, i + count) of a panel.
  void Pack(int64_t panel, int64_t i, int64_t count, float* to) const {
    const int vectors = shape.VectorsOf(panel);
    const int64_t column = panel * kPanel;
    if (transposed) {
      return PackTransposed(data + column * shape.inner + i, shape.inner,
                            shape.columns - column, count, vectors * kLanes,
                            to);
    }
    const float* from = data + i * shape.columns + column;
    if (column + kPanel <= shape.columns) {
      for (int64_t r = 0; r < count; ++r, from += shape.columns) {
        Unroll<kPanelVectors>([&](auto v) INLINE {
          Narrow(Widen(from + v * kLanes), to + v * kLanes);
        });
        to += kPanel;
      }
      return;
    }
    for (int64_t r = 0; r < count; ++r, from += shape.columns) {
      for (int v = 0; v < vectors; ++v, to += kLanes) {
        Narrow(Load(from + v * kLanes, shape.Lanes(panel, v)), to);
      }
    }
  }
};

// Packs a whole kernel, to `packed`. A task is a panel.
class PackWorker {
 public:
  struct Arguments {
    Kernel kernel;
    float* packed;

    int64_t tasks() const { return kernel.shape.panels(); }
  };

  explicit PackWorker(const Arguments& arguments) : a_(arguments) {}

  void Run(int64_t panel) {
    const Matrices& shape = a_.kernel.shape;
    a_.kernel.Pack(panel, 0, shape.inner, a_.packed + shape.Packed(panel));
  }

 private:
  const Arguments a_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_PACK_H_
