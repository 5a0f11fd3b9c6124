// Gradients of the kernel and the bias of correlate.cu, on tensor cores:
//
//   sums[i*k+j,c] = sum_nhw x[n,h+i-p,w+j-p,c] dy[n,h,w,c]
//   sums[k*k,c]   = sum_nhw dy[n,h,w,c]
//
// The 16 strips are what is summed over: x^T dy, 16 columns of x by 8 of dy,
// where the products that belong to one j are a diagonal. With p = 1, k = 3:
//
//                         columns of dy: 0 1 2 3 4 5 6 7
//   columns of x   -4 .. -2              . . . . . . . .
//                  -1                    0 . . . . . . .
//                   0                    1 0 . . . . . .
//                   1                    2 1 0 . . . . .    j of the
//                   2                    . 2 1 0 . . . .    products
//                   ...                  . . ... . . . .    that count
//                   7                    . . . . . . 2 1
//                   8                    . . . . . . . 2
//                   9 .. 11              . . . . . . . .
//
// It is the same for all tiles and rows, so a product for each row i of the
// kernel stays in registers for the whole band; the diagonals are summed at its
// end. The k last rows of dy stay in registers, too:
//
//   step r   row r of dy, and row r - p of x: products i with row r - i of dy
//
// Each block writes its sums, `sum_partial_sums` adds them in order. So equal
// shapes have equal bits. Macros: those of tiles.cuh.

#include "tiles.cuh"

// Two more words turn the banks of the next channel by 8 bytes.
constexpr int kProductWords = 16 * 8;
constexpr int kChannelWords = (kSize + 1) * kProductWords + 2;

// A warp's channel. A lane has what `Multiply` gives it.
struct Channel {
  float products[kSize + 1][4];  // the last: sums of dy
  u32 dy[kSize][2][2];           // rows of dy, by slot, tile of 8 columns

  DEVICE Channel() {
    UNROLL
    for (int i = 0; i <= kSize; ++i) {
      UNROLL
      for (int e = 0; e < 4; ++e) products[i][e] = 0;
    }
    UNROLL
    for (int i = 0; i < kSize; ++i) ClearRow(i);
  }

  DEVICE void ClearRow(int phase) {
    UNROLL
    for (int tile = 0; tile < 2; ++tile) {
      dy[phase][tile][0] = dy[phase][tile][1] = 0;
    }
  }

  // Takes a row of dy. `phase` is the step modulo kSize.
  DEVICE void LoadRow(const u32* plane, int phase) {
    const int lane = ThreadIndex() % 32;
    u32 r[4];  // strips 0 to 7, 8 to 15 of columns 0 to 7; of columns 8 to 15
    LoadTransposed(r, plane + StripOffset(lane % 16) + lane / 16 * 4);
    // Ones in all rows: each row of the product has the sums over strips.
    const u32 ones[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
    UNROLL
    for (int tile = 0; tile < 2; ++tile) {
      dy[phase][tile][0] = r[2 * tile];
      dy[phase][tile][1] = r[2 * tile + 1];
      Multiply(products[kSize], ones, dy[phase][tile]);
    }
  }

  // Adds the products of a row of x with the rows of dy.
  DEVICE void AddRow(const u32* plane, int phase) {
    const int lane = ThreadIndex() % 32;
    const u32* strip = plane + StripOffset(lane % 8 + lane / 16 * 8) +
                       lane / 8 % 2 * 4;
    u32 left[4], right[4];  // of the 24 columns of a strip: 0 to 15, 8 to 23
    LoadTransposed(left, strip);
    LoadTransposed(right, strip + 4);
    UNROLL
    for (int i = 0; i < kSize; ++i) {
      const u32(&row)[2][2] = dy[(phase - i + kSize) % kSize];
      Multiply(products[i], left, row[0]);
      Multiply(products[i], right, row[1]);
    }
  }

  DEVICE void StoreProducts(float* to) const {
    const int g = ThreadIndex() % 32 / 4, t = ThreadIndex() % 4;
    UNROLL
    for (int i = 0; i <= kSize; ++i) {
      UNROLL
      for (int e = 0; e < 4; e += 2) {
        float* two = to + i * kProductWords + (g + 4 * e) * 8 + 2 * t;
        StoreShared(reinterpret_cast<Pair*>(two),
                    {Bits(products[i][e]), Bits(products[i][e + 1])});
      }
    }
  }
};

// Sums a diagonal of the products: row i, column j of the kernel.
DEVICE float SumDiagonal(const float* products, int i, int j) {
  float sum = 0;
  UNROLL
  for (int n = 0; n < 8; ++n) {
    const int m = n + kBorder - kPadBefore + j;
    sum += LoadShared(products + i * kProductWords + m * 8 + n);
  }
  return sum;
}

DEVICE float SumRow(const float* products, int i) {
  float sum = 0;
  UNROLL
  for (int n = 0; n < 8; ++n) {
    sum += LoadShared(products + i * kProductWords + n);
  }
  return sum;
}

// Thread blocks and steps as in correlate.cu. partial: `[blocks in y * column
// blocks, kSize * kSize + 1, channels]`.
KERNEL(512) kernel_gradient(const u16* x, const u16* dy, float* partial,
                            int batch, int height, int width, int channels,
                            int bands) {
  SHARED_MEMORY(memory);
  const Shape shape = {batch, height, width, channels, bands};
  const Steps steps(shape);
  const int warp = ThreadIndex() / 32;

  u32* planes = memory;
  u32* dy_planes = planes + 2 * kPlanesWords;
  u32* stages = dy_planes + 2 * kPlanesWords;
  const Rows<true> rows(shape, kPadBefore);
  const Rows<false> dy_rows(shape, 0);
  constexpr int stage_words = Rows<true>::kWords + Rows<false>::kWords;
  auto start_row = [&](int step, int stage) {
    u32* to = stages + stage * stage_words;
    rows.StartRow(step, to, x);
    dy_rows.StartRow(step, to + Rows<true>::kWords, dy);
    EndGroup();
  };
  auto place_row = [&](int step, int stage, int odd) {
    const u32* from = stages + stage * stage_words;
    if (step >= steps.first && step < steps.last) {
      rows.PlaceRow(from, planes + odd, kBorder / 2);
    }
    if (step < shape.rows()) {
      dy_rows.PlaceRow(from + Rows<true>::kWords, dy_planes + odd, 0);
    }
  };
  UNROLL
  for (int step = 0; step < kStages - 1; ++step) start_row(step, step);

  Channel channel;
  ClearShared(planes, 2 * kPlanesWords);  // what is beyond the image stays zero
  SyncBlock();
  WaitForGroups<kStages - 2>();
  SyncWarp();
  place_row(0, 0, 0);
  SyncBlock();

  int stage = 0, odd = 0;  // of this step; step % 2, as an offset in planes
  int phase = 0;           // step % kSize
  NO_UNROLL
  for (int step = 0; step < steps.last; ++step) {
    const int next = NextStage(stage);
    start_row(step + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    const bool is_there = step >= steps.first, has_dy = step < shape.rows();
    UNROLL
    for (int i = 0; i < kSize; ++i) {  // as in correlate.cu
      if (i == phase) {
        if (has_dy) {
          channel.LoadRow(dy_planes + odd + PlaneOffset(warp), i);
        } else {
          channel.ClearRow(i);
        }
        if (is_there) channel.AddRow(planes + odd + PlaneOffset(warp), i);
      }
    }
    WaitForGroups<kStages - 2>();
    SyncWarp();
    place_row(step + 1, next, kPlanesWords - odd);
    SyncBlock();
    stage = next;
    odd = kPlanesWords - odd;
    phase = phase + 1 == kSize ? 0 : phase + 1;
  }

  // The products of all channels take the place of the stages.
  WaitForGroups<0>();
  SyncBlock();
  float* products = reinterpret_cast<float*>(memory);
  channel.StoreProducts(products + warp * kChannelWords);
  SyncBlock();
  const int block = BlockY() * shape.column_blocks() +
                    BlockX() % shape.column_blocks();
  constexpr int sums = kSize * kSize + 1;
  partial += i64(block) * sums * channels + shape.first_channel();
  for (int k = ThreadIndex(); k < sums * kChannels; k += kThreads) {
    const int c = k % kChannels, i = k / kChannels / kSize;
    const int j = k / kChannels % kSize;
    const float* of_channel = products + c * kChannelWords;
    StoreGlobal(partial + k / kChannels * channels + c,
                i < kSize ? SumDiagonal(of_channel, i, j)
                          : SumRow(of_channel, i));
  }
}
