// What GRADIENT puts before the convolution. BatchNorm's gradient g, and z, the
// convolution's result of the forward pass, become the gradient of z, which is
// what the gradients of the layer convolve:
//
//   dy = activation'(z) (p g + q a + r),  a = activation(z)
//
// with p, q and r of a channel. A thread does it with the pixels it has copied,
// in the stage of g, before a warp transposes them.

#ifndef CONVMIXER_JAX_KERNELS_GPU_PROLOGUE_CUH_
#define CONVMIXER_JAX_KERNELS_GPU_PROLOGUE_CUH_

#include "activations.cuh"
#include "tiles.cuh"

class Prologue {
 public:
  // Takes p, q and r of the block's channels of `coefficients` `[3, channels]`
  // to shared memory.
  DEVICE Prologue(const Rows<true>& rows, const float* coefficients,
                  const Shape& shape, float* shared, u16* dy)
      : rows_(rows), shared_(shared), dy_(dy) {
    const int i = ThreadIndex();
    if (i < 3 * kChannels) {
      StoreShared(shared + i, coefficients[i / kChannels * shape.channels +
                                           shape.first_channel() +
                                           i % kChannels]);
    }
  }

  // Forms the row of a step, and writes what of it is of the band: other blocks
  // write the columns of the neighbours, and other bands the rows around.
  DEVICE void FormRow(int step, u32* stage) const {
    u32* own = stage + rows_.own_copy();
    Form(own, rows_.IsInside(step));
    if (rows_.IsOfBand(step)) {
      StoreGlobal(reinterpret_cast<Copy*>(dy_ + rows_.Offset(step)),
                  LoadShared(reinterpret_cast<const Copy*>(own)));
    }
    if (rows_.CopiesBorder()) {
      Form(stage + rows_.border_copy(), rows_.BorderIsInside(step));
    }
  }

 private:
  // Forms 8 channels of a pixel, in place. g: in a stage, which z follows. In
  // two turns of a loop, since registers are few; what a turn computes of 4
  // channels is interleaved.
  DEVICE void Form(u32* g, bool is_inside) const {
    const u32* z = g + Rows<true>::kWords;
    const float* coefficients = shared_ + ThreadIndex() % 2 * 8;  // this half's
    NO_UNROLL
    for (int i = 0; i < kCopyWords; i += 2) {
      Pair row = {0, 0};  // beyond the image the convolution pads with zeros
      if (is_inside) {
        row = LoadShared(reinterpret_cast<const Pair*>(g + i));
        const Pair zs = LoadShared(reinterpret_cast<const Pair*>(z + i));
        row.low = Form(row.low, zs.low, coefficients + 2 * i);
        row.high = Form(row.high, zs.high, coefficients + 2 * i + 2);
      }
      StoreShared(reinterpret_cast<Pair*>(g + i), row);
    }
  }

  // Forms two channels, whose p, q and r begin at `coefficients`.
  DEVICE static u32 Form(u32 g, u32 z, const float* coefficients) {
    const Two p = LoadTwo(coefficients), q = LoadTwo(coefficients + kChannels),
              r = LoadTwo(coefficients + 2 * kChannels);
    return Pack(ActivationGradient<ACTIVATION>(LowFloat(z), LowFloat(g), p.low,
                                               q.low, r.low),
                ActivationGradient<ACTIVATION>(HighFloat(z), HighFloat(g),
                                               p.high, q.high, r.high));
  }

  struct alignas(8) Two {
    float low, high;
  };
  DEVICE static Two LoadTwo(const float* p) {
    return LoadShared(reinterpret_cast<const Two*>(p));
  }

  const Rows<true>& rows_;
  const float* shared_;
  u16* dy_;
};

#endif  // CONVMIXER_JAX_KERNELS_GPU_PROLOGUE_CUH_
