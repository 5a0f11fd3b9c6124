// Depthwise convolution of bfloat16 images on tensor cores:
//
//   y[n,h,w,c] = bias[c] + sum_ij kernel[i,j,c] x[n,h+i-p,w+j-p,c]
//
// A row of the kernel is a banded (Toeplitz) matrix that turns 16 columns of x
// into 8 of y, for 16 strips at once. With p = 1 and a kernel row (a b c):
//
//                         columns of y: 0 1 2 3 4 5 6 7
//   columns of x  -4 .. 3               . . . . . . . .   <- rows of the
//   (tile 0 of y)                       . . . . . . . .      matrix, one a
//                                       . . . . . . . .      column of x
//                 -1                    a . . . . . . .
//                  0                    b a . . . . . .
//                  1                    c b a . . . . .
//                  2                    . c b a . . . .
//                  3                    . . c b a . . .
//                  4                    . . . c b a . .
//                  5                    . . . . c b a .
//                  6                    . . . . . c b a
//                  7                    . . . . . . c b
//                  8                    . . . . . . . c
//                  9 .. 11              . . . . . . . .
//
// Tile 1, columns 8 to 15 of y, takes columns 4 to 19 of x and the same matrix.
// 8 columns and the 8 around them are 16 for all kernels up to 9x9. Most of the
// matrix is zero, but tensor cores are 16 times as fast as multiply-adds.
//
// The k rows of y to which a row of x contributes stay in registers:
//
//   row of x (step)     0    1    2    3    4     k = 3
//   slot 0  row of y    0 -- 0 -- 0    3 -- 3     each step: k products, with
//   slot 1                   1 -- 1 -- 1    4     the k rows of the kernel;
//   slot 2                        2 -- 2 -- 2     one row of y is complete
//
// The order of the sums of a pixel depends neither on the batch nor on where
// the pixel is in a block.
//
// Macros, beside those of tiles.cuh: ACTIVATION (0 none, 1 ReLU, 2 GELU),
// SUMS, SCALE, RESIDUAL, GRADIENT. See `Epilogue` in instances.py.

#include "activations.cuh"
#include "output.cuh"
#include "prologue.cuh"
#include "tiles.cuh"

// A stage has a row of x, of z and of the residual, as far as they are used.
// The residual's is that of the row of y which the step completes.
constexpr int kResidual = (1 + GRADIENT) * Rows<true>::kWords;
constexpr int kStageWords = kResidual + RESIDUAL * kCopies * kCopyWords;
constexpr int kResidualDelay = kSize - 1 - kPadBefore;

DEVICE void SetZero(float (&sum)[2][4]) {
  UNROLL
  for (int e = 0; e < 4; ++e) sum[0][e] = sum[1][e] = 0;
}

// A warp's channel: its kernel as banded matrices, and the rows of y under
// construction. A lane has the elements that `Multiply` gives it: strips g and
// g + 8, of two tiles columns 2 t and 2 t + 1.
struct Channel {
  u32 kernel[kSize][2];
  float sums[kSize][2][4];  // of slots and tiles of 8 columns
  float bias, factor;

  DEVICE Channel(const u16* weights, const u16* biases, const float* factors,
                 int channel, int channels) {
    const int g = ThreadIndex() % 32 / 4, t = ThreadIndex() % 4;
    bias = biases ? LowFloat(biases[channel]) : 0;
    factor = SCALE ? factors[channel] : 1;
    UNROLL
    for (int i = 0; i < kSize; ++i) {
      UNROLL
      for (int part = 0; part < 2; ++part) {
        kernel[i][part] = 0;
        UNROLL
        for (int e = 0; e < 2; ++e) {
          const int j = 8 * part + 2 * t + e - kBorder - g + kPadBefore;
          if (j >= 0 && j < kSize) {
            const u32 bits = weights[(i * kSize + j) * channels + channel];
            kernel[i][part] |= bits << 16 * e;
          }
        }
      }
      SetZero(sums[i]);
    }
  }

  // Adds a row of x, of all strips. `phase` is the step modulo kSize.
  DEVICE void AddRow(const u32* plane, int phase) {
    const int lane = ThreadIndex() % 32;
    u32 left[4], right[4];  // of the 24 columns of a strip: 0 to 15, 8 to 23
    const u32* strip = plane + StripOffset(lane % 16) + lane / 16 * 4;
    LoadMatrices(left, strip);
    LoadMatrices(right, strip + 4);  // again 8 to 15: cheaper than to move them
    UNROLL
    for (int i = 0; i < kSize; ++i) {
      float(&sum)[2][4] = sums[(phase - i + kSize) % kSize];
      // Row 0 of the kernel is the first that contributes to a row of y, except
      // at the top of an image, where it falls on padding; sums are zero there.
      if (i == 0) SetZero(sum);
      Multiply(sum[0], left, kernel[i]);
      Multiply(sum[1], right, kernel[i]);
    }
  }

  // Takes the complete row of y.
  DEVICE void TakeRow(float (&y)[2][4], int phase) const {
    const float(&sum)[2][4] = sums[(phase + 1) % kSize];
    UNROLL
    for (int e = 0; e < 4; ++e) {
      y[0][e] = sum[0][e] + bias;
      y[1][e] = sum[1][e] + bias;
    }
  }

  // Writes it, rounded, to this channel's plane.
  DEVICE void FinishRow(u32* plane, float (&y)[2][4]) const {
    const int g = ThreadIndex() % 32 / 4, t = ThreadIndex() % 4;
    u32* strip = plane + StripOffset(g) + t;
    constexpr int next = TILES == 1 ? 8 * kRowWords : 8;  // to strip g + 8
    UNROLL
    for (int tile = 0; tile < 2; ++tile) {
      if (!SUMS && !GRADIENT) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
          y[tile][e] = Activate<ACTIVATION>(y[tile][e]) * factor;
        }
      }
      StoreShared(strip + tile * 4, Pack(y[tile][0], y[tile][1]));
      StoreShared(strip + tile * 4 + next, Pack(y[tile][2], y[tile][3]));
    }
  }
};

// A thread block of 512, for 16 channels (and a part of the columns) in x and
// kBands bands of images in y. factors, residual, z, coefficients, dy and
// partial, `[blocks in y * column blocks, 2, channels]`, are only arguments
// where they are used. With GRADIENT the residual is x, before dy takes its
// place.
//
//   step r   copy row r + kStages - 1 of x from global memory
//            multiply row r (row r - kPadBefore of the band), in planes
//            finish row r - kSize + 1 of y
//            form dy of row r + 1, if GRADIENT
//            place row r + 1 of x in the other planes
//            --- all warps meet ---
//            write the finished row
//
// So one barrier a row is enough: planes of x and y are used by turns.
KERNEL(512) correlate(const u16* x, const u16* weights, const u16* biases,
#if SCALE
                      const float* factors,
#endif
#if GRADIENT
                      const u16* z, const float* coefficients,
#elif RESIDUAL
                      const u16* residual,
#endif
                      u16* y,
#if GRADIENT
                      u16* dy,
#endif
#if SUMS
                      float* partial,
#endif
                      int batch, int height, int width, int channels,
                      int bands) {
#if !SCALE
  const float* factors = nullptr;
#endif
#if GRADIENT
  const u16* residual = x;
#elif !RESIDUAL
  const u16* residual = nullptr;
#endif
  SHARED_MEMORY(memory);
  const Shape shape = {batch, height, width, channels, bands};
  const Steps steps(shape);
  const int warp = ThreadIndex() / 32;
  const int channel_index = shape.first_channel() + warp;

  u32* planes = memory;
  u32* results = planes + 2 * kPlanesWords;
  u32* stages = results + 2 * kPlanesWords;
  const Rows<true> rows(shape, kPadBefore);
#if GRADIENT
  float* shared = reinterpret_cast<float*>(stages + kStages * kStageWords);
  const Prologue prologue(rows, coefficients, shape, shared, dy);
#endif
  auto start_row = [&](int step, int stage) {
    u32* to = stages + stage * kStageWords;
    rows.StartRow(step, to, x);
#if GRADIENT
    rows.StartRow(step, to + Rows<true>::kWords, z);
#endif
    if (RESIDUAL) {
      rows.StartStrip(step - kResidualDelay, to + kResidual, residual);
    }
    EndGroup();
  };
  // Waits for the row of a step, and takes it to planes.
  auto place_row = [&](int step, int stage, u32* to) {
    const bool is_there = step >= steps.first && step < steps.last;
    u32* from = stages + stage * kStageWords;
    WaitForGroups<kStages - 2>();
#if GRADIENT
    if (is_there) prologue.FormRow(step, from);
#endif
    SyncWarp();
    if (is_there) rows.PlaceRow(from, to, kBorder / 2);
  };
  UNROLL
  for (int step = 0; step < kStages - 1; ++step) start_row(step, step);

  Channel channel(weights, biases, factors, channel_index, channels);
  Output output(y, shape);
#if SUMS
  ActivationSums activation_sums(shape);
#endif
  ClearShared(planes, 2 * kPlanesWords);  // what is beyond the image stays zero
  SyncBlock();
  place_row(0, 0, planes);
  SyncBlock();

  int stage = 0, odd = 0;  // of this step; step % 2, as an offset in planes
  int phase = 0;           // step % kSize
  NO_UNROLL
  for (int step = 0; step < steps.all; ++step) {
    const int row = step - (kSize - 1), next = NextStage(stage);
    start_row(step + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    u32* result = results + odd + PlaneOffset(warp);
    const u32* plane = planes + odd + PlaneOffset(warp);
    const bool is_there = step >= steps.first && step < steps.last;
    // Registers have no index, so there is code for each phase; and only for
    // what depends on it, since a GPU holds few instructions close to it.
    float y[2][4];
    UNROLL
    for (int i = 0; i < kSize; ++i) {
      if (i == phase) {
        if (is_there) channel.AddRow(plane, i);
        channel.TakeRow(y, i);
      }
    }
    if (row >= 0) {
      channel.FinishRow(result, y);
#if SUMS
      activation_sums.AddRow(result, row);
#endif
    }
    place_row(step + 1, next, planes + (kPlanesWords - odd));
    SyncBlock();
    if (row >= 0) {
      output.StoreRow(results + odd, row,
                      stages + stage * kStageWords + kResidual);
    }
    stage = next;
    odd = kPlanesWords - odd;
    phase = phase + 1 == kSize ? 0 : phase + 1;
  }
#if SUMS
  const int block = BlockY() * shape.column_blocks() +
                    BlockX() % shape.column_blocks();
  activation_sums.Store(partial + i64(block) * 2 * channels, channel_index,
                        channels);
#endif
}
