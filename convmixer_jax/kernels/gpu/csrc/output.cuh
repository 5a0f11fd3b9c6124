// What becomes of the rows of y that correlate.cu has finished: they are
// written to global memory, and the sums for BatchNorm are taken of them.

#ifndef CONVMIXER_JAX_KERNELS_GPU_OUTPUT_CUH_
#define CONVMIXER_JAX_KERNELS_GPU_OUTPUT_CUH_

#include "activations.cuh"
#include "tiles.cuh"

// A strip's pixels, as a warp writes them: a lane has channels 4 t to 4 t + 3
// of columns g and 8 + g.
class Output {
 public:
  DEVICE Output(u16* y, const Shape& shape) : stride_(shape.stride()) {
    const int warp = ThreadIndex() / 32, lane = ThreadIndex() % 32;
    const int g = lane / 4, t = lane % 4;
    const Band band(shape, warp / TILES);
    const int column = shape.first_column() + warp % TILES * 16 + g;
    row_ = y + band.offset + i64(column) * shape.channels +
             shape.first_channel() + 4 * t;
    next_ = 8 * shape.channels;
    rows_[0] = column < shape.width ? band.rows : 0;
    rows_[1] = column + 8 < shape.width ? band.rows : 0;
    // ldmatrix gives a lane two neighbouring rows of each matrix. So that it
    // gets four neighbouring channels, matrix 0 has channels 0, 1, 4, 5, 8 ...,
    // and matrix 1 channels 2, 3, 6, 7, 10 ... of columns 0 to 7; 2 and 3 are
    // the same of columns 8 to 15.
    const int matrix = lane / 8, row = lane % 8;
    plane_ = PlaneOffset(row / 2 * 4 + matrix % 2 * 2 + row % 2) +
             warp / TILES * kRowWords + warp % TILES * 8 + matrix / 2 * 4;
    // Of the residual, in the order in which `Rows` stages it.
    staged_ = (warp * 32 + t / 2 * 16 + Rows<true>::Turn(g, t / 2)) *
                  kCopyWords +
              t % 2 * 2;
  }

  // Stores the next row, `row`. residual: the same in a stage, if RESIDUAL.
  DEVICE void StoreRow(const u32* planes, int row, const u32* residual) {
    u32 r[4];
    LoadTransposed(r, planes + plane_);
    UNROLL
    for (int i = 0; i < 2; ++i) {
      Pair pair = {r[2 * i], r[2 * i + 1]};
      if (RESIDUAL) {
        const Pair x = LoadShared(reinterpret_cast<const Pair*>(
            residual + staged_ + i * 8 * kCopyWords));
        pair = {Add(pair.low, x.low), Add(pair.high, x.high)};
      }
      if (row < rows_[i]) {
        StoreGlobal(reinterpret_cast<Pair*>(row_ + i * next_), pair);
      }
    }
    row_ += stride_;
    if (RESIDUAL) SyncWarp();  // before other lanes copy to this stage again
  }

 private:
  DEVICE static u32 Add(u32 a, u32 b) {
    return Pack(LowFloat(a) + LowFloat(b), HighFloat(a) + HighFloat(b));
  }

  u16* row_;
  int stride_, next_, rows_[2], plane_, staged_;
};

// The sums of a and a^2 over the pixels of a warp's channel, a = activation(y).
class ActivationSums {
 public:
  DEVICE explicit ActivationSums(const Shape& shape) {
    const int g = ThreadIndex() % 32 / 4, t = ThreadIndex() % 4;
    UNROLL
    for (int i = 0; i < 2; ++i) {
      const int m = g + 8 * i;
      rows_[i] = Band(shape, m % kBands).rows;
      const int first = shape.first_column() +
                        (StripOffset(m) - m % kBands * kRowWords) * 2 + 2 * t;
      columns_[i] = shape.width - first;
    }
  }

  // Adds the row that `Channel::FinishRow` has just written.
  DEVICE void AddRow(const u32* plane, int row) {
    const int g = ThreadIndex() % 32 / 4, t = ThreadIndex() % 4;
    UNROLL
    for (int i = 0; i < 2; ++i) {
      const u32* strip = plane + StripOffset(g + 8 * i) + t;
      const int columns = row < rows_[i] ? columns_[i] : 0;
      UNROLL
      for (int tile = 0; tile < 2; ++tile) {
        const u32 pair = LoadShared(strip + tile * 4);
        // Each activation of 0 is 0. Branches would let one wait for another.
        Add(tile * 8 < columns ? LowFloat(pair) : 0);
        Add(tile * 8 + 1 < columns ? HighFloat(pair) : 0);
      }
    }
  }

  // Writes this block's sums, [2, channels].
  DEVICE void Store(float* partial, int channel, int channels) {
    UNROLL
    for (int mask = 16; mask; mask /= 2) {
      sum_ += ShuffleXor(sum_, mask);
      squares_ += ShuffleXor(squares_, mask);
    }
    if (ThreadIndex() % 32 == 0) {
      StoreGlobal(partial + channel, sum_);
      StoreGlobal(partial + channels + channel, squares_);
    }
  }

 private:
  DEVICE void Add(float y) {
    const float a = Activate<ACTIVATION>(y);
    sum_ += a;
    squares_ += a * a;
  }

  float sum_ = 0, squares_ = 0;
  int rows_[2], columns_[2];  // that there are, of this lane's strips
};

#endif  // CONVMIXER_JAX_KERNELS_GPU_OUTPUT_CUH_
