// The gradient of a convolution's images, in float32.
//
// With a stride, only some positions of the kernel reach a position of x: those
// whose distance to it is a multiple of the stride. They are the same for all
// positions [y0 + i stride, x0 + j stride], which are a phase of x. The
// gradient of each phase is a convolution of dy with this part of the kernel,
// rotated and transposed, and with stride 1. So no product is with a zero
// between two positions of dy. The phases are interleaved at last.

#ifndef CONVMIXER_JAX_KERNELS_CPU_CONV_TRANSPOSED_H_
#define CONVMIXER_JAX_KERNELS_CPU_CONV_TRANSPOSED_H_

#include <algorithm>

#include "linear.h"
#include "pack.h"
#include "tasks.h"
#include "windows.h"

namespace {

// A convolution of x [batch, height, width, inputs] to dy [batch, out_height,
// out_width, outputs], with a kernel [size, size, inputs, outputs].
struct Convolution {
  int64_t batch, height, width, inputs, out_height, out_width, outputs;
  int64_t size, stride, padding;
};

// A phase along one axis of x, whose length is `length`.
struct AxisPhase {
  AxisPhase(const Convolution& c, int64_t length, int64_t phase)
      : first((phase + c.padding) % c.stride),
        taps(std::max<int64_t>(CeilDiv(c.size - first, c.stride), 0)),
        positions(CeilDiv(length - phase, c.stride)),
        padding(taps - 1 - (phase + c.padding) / c.stride) {}

  int64_t first;      // position of the kernel; the others are a stride apart
  int64_t taps;       // number of these positions
  int64_t positions;  // of x
  int64_t padding;    // zeros before dy, for the first position of x
};

// Packs the positions of the kernel of a phase, in the order of dy.
class PackPhaseWorker {
 public:
  struct Arguments {
    Convolution c;
    AxisPhase rows, columns;
    const float* kernel;
    float* packed;

    int64_t taps() const { return rows.taps * columns.taps; }
    Matrices shape() const { return {0, taps() * c.outputs, c.inputs}; }
    int64_t tasks() const { return shape().panels() * taps(); }
  };

  explicit PackPhaseWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const Convolution& c = a_.c;
    const int64_t panel = task / a_.taps(), tap = task % a_.taps();
    const auto position = [&](const AxisPhase& axis, int64_t i) {
      return axis.first + (axis.taps - 1 - i) * c.stride;
    };
    const int64_t row = position(a_.rows, tap / a_.columns.taps);
    const int64_t column = position(a_.columns, tap % a_.columns.taps);
    const Kernel kernel{
        {0, c.outputs, c.inputs},
        true,
        a_.kernel + (row * c.size + column) * c.inputs * c.outputs};
    kernel.Pack(panel, 0, c.outputs,
                a_.packed + a_.shape().Packed(panel) +
                    tap * c.outputs * kernel.shape.VectorsOf(panel) * kLanes);
  }

 private:
  const Arguments a_;
};

// Copies the phases, one after the other in `phases`, to x. A task is a row.
class InterleaveWorker {
 public:
  struct Arguments {
    Convolution c;
    const float* phases;
    float* x;

    int64_t tasks() const { return c.batch * c.height; }
  };

  explicit InterleaveWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const Convolution& c = a_.c;
    const int64_t image = task / c.height, y = task % c.height;
    const AxisPhase rows(c, c.height, y % c.stride);
    // The phases of the rows before have `above` rows, and those of the columns
    // before, of this row, have `left` columns.
    int64_t above = 0, left = 0;
    for (int64_t p = 0; p < y % c.stride; ++p) {
      above += AxisPhase(c, c.height, p).positions;
    }
    const int64_t row = image * rows.positions + y / c.stride;
    for (int64_t p = 0; p < std::min(c.stride, c.width); ++p) {
      const int64_t positions = AxisPhase(c, c.width, p).positions;
      const float* from =
          a_.phases + c.inputs * (c.batch * (above * c.width +
                                             rows.positions * left) +
                                  row * positions);
      float* to = a_.x + (task * c.width + p) * c.inputs;
      for (int64_t i = 0; i < positions; ++i) {
        std::copy_n(from, c.inputs, to);
        from += c.inputs, to += c.stride * c.inputs;
      }
      left += positions;
    }
  }

 private:
  const Arguments a_;
};

// Computes dx, like x. `packed` has room for the packed kernel, and `phases`
// for an array like x, if there is a stride.
template <typename Pool>
void ConvTransposed(Pool& pool, const Convolution& c, const float* dy,
                    const float* kernel, float* packed, float* phases,
                    float* dx) {
  float* to = c.stride == 1 ? dx : phases;
  for (int64_t y = 0; y < std::min(c.stride, c.height); ++y) {
    const AxisPhase rows(c, c.height, y);
    for (int64_t x = 0; x < std::min(c.stride, c.width); ++x) {
      const AxisPhase columns(c, c.width, x);
      RunAll<PackPhaseWorker>(pool, {c, rows, columns, kernel, packed});
      const Matrices shape{c.batch * rows.positions * columns.positions,
                           rows.taps * columns.taps * c.outputs, c.inputs};
      const Windows windows{dy,           c.out_height,      c.out_width,
                            c.outputs,    rows.positions,    columns.positions,
                            columns.taps, 1,                 rows.padding,
                            columns.padding};
      RunAll<MultiplyWorker<Windows>>(
          pool, {shape, pool.num_threads(), windows, packed, to});
      to += shape.rows * shape.columns;
    }
  }
  if (c.stride > 1) RunAll<InterleaveWorker>(pool, {c, phases, dx});
}

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_CONV_TRANSPOSED_H_
