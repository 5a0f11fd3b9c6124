// How a thread block holds images, and moves their rows.
//
// A block has 16 channels (one sector of memory, 32 bytes) of 16 strips. A
// strip is 16 columns of a band of rows of an image; TILES strips lie side by
// side. The block moves down all its bands together, one row a step:
//
//   global        StartRow       stage          PlaceRow       planes
//   [column]    ------------>  [strip]        ----------->   [channel]
//   [channel]   cp.async,      [half]         ldmatrix.      [band]
//               rows ahead     [column]       trans          [column]
//                              [8 channels]
//
// Memory has the channels of a pixel side by side, and the tensor cores want
// the columns of a channel: planes are rows of one channel. A warp moves one
// strip, and computes one channel of all of them.
//
// Planes have 4 more columns on either side: those of the neighbouring blocks,
// or zeros beyond the image. 4 is the largest padding of a 9x9 kernel.
//
// Macros, by instances.py: TILES (1, 2, 4), HAS_NEIGHBOURS (0, 1: several
// blocks lie side by side in an image), KERNEL_SIZE, PAD_BEFORE, STAGES.

#ifndef CONVMIXER_JAX_KERNELS_GPU_TILES_CUH_
#define CONVMIXER_JAX_KERNELS_GPU_TILES_CUH_

#include "device.cuh"

constexpr int kSize = KERNEL_SIZE;
constexpr int kPadBefore = PAD_BEFORE;
constexpr int kStages = STAGES;

constexpr int kThreads = 512;
constexpr int kChannels = 16;  // of a block, one a warp
constexpr int kStrips = 16;    // of a block, one a warp
constexpr int kBands = kStrips / TILES;
constexpr int kColumns = 16 * TILES;
constexpr int kBorder = 4;

// Copies of 16 bytes: 8 channels of a pixel. Stages begin with the block's own
// columns, 32 copies a strip, and end with the 8 columns of the neighbours.
constexpr int kCopies = kThreads;
constexpr int kBorderCopies = HAS_NEIGHBOURS ? kBands * 2 * kBorder * 2 : 0;
constexpr int kCopyWords = 4;

struct alignas(16) Copy {
  u32 words[kCopyWords];
};

// The row of a band, and all rows of a channel, in words of two columns. 4 more
// words turn the banks of the next channel by 16 bytes, and 8 more those of the
// upper 8 channels, so no access below has a bank conflict, but those of
// neighbours.
constexpr int kRowWords = (kColumns + 2 * kBorder) / 2;
constexpr int kPlaneWords = kBands * kRowWords + 4;
constexpr int kPlanesWords = kChannels * kPlaneWords + 8;

DEVICE int PlaneOffset(int channel) {
  return channel * kPlaneWords + (channel >= 8 ? 8 : 0);
}

// Where strip m, a row of the tensor cores' matrices, begins in a plane.
// ldmatrix reads 8 of them at once: bands, and tiles 0 and 2, are in different
// banks.
DEVICE int StripOffset(int m) {
  const int band = m % kBands;
  const int tile = TILES == 4 ? (m >> 3) + 2 * (m >> 2 & 1) : m / kBands;
  return band * kRowWords + tile * 8;
}

struct Shape {
  int batch, height, width, channels, bands;

  DEVICE int rows() const { return (height + bands - 1) / bands; }
  DEVICE int column_blocks() const { return (width + kColumns - 1) / kColumns; }
  DEVICE int stride() const { return width * channels; }  // from row to row
  DEVICE int first_channel() const {
    return BlockX() / column_blocks() * kChannels;
  }
  DEVICE int first_column() const {
    return BlockX() % column_blocks() * kColumns;
  }
};

// A band of the block.
struct Band {
  i64 offset;  // of its first row, in elements
  int first_row, rows;  // rows: 0 beyond the batch

  DEVICE Band(const Shape& shape, int index) {
    const int i = BlockY() * kBands + index;
    const int image = i / shape.bands;
    first_row = (i - image * shape.bands) * shape.rows();
    const int left = shape.height - first_row;
    rows = image >= shape.batch ? 0 : left < shape.rows() ? left : shape.rows();
    offset = (i64(image) * shape.height + first_row) * shape.stride();
  }
};

// 8 channels of a column, row by row, as a thread copies them. At `step`, a row
// is copied that is `lead` rows above row `step` of the band.
struct Column {
  i64 offset;  // in an array, at step 0
  int first, rows;   // steps in which there is one
  int rows_around;   // `rows`, were the column of the image
  int band_rows;     // `rows` of the band, without those around it

  // around: also the rows of the image above and below the band.
  DEVICE Column(const Shape& shape, int band_index, int column, int half,
                int lead, bool around) {
    const Band band(shape, band_index);
    const int x = shape.first_column() + column;
    offset = band.offset - i64(lead) * shape.stride() +
             i64(x) * shape.channels + shape.first_channel() + half * 8;
    first = around ? lead - band.first_row : lead;
    rows_around = around && band.rows > 0 ? shape.height : band.rows;
    rows = x < shape.width ? rows_around : 0;
    band_rows = x < shape.width ? band.rows : 0;
  }
};

// Copies rows of arrays into a stage, and from there to planes. A thread makes
// one copy of its own strip, and 16 lanes one of a border.
template <bool around>
class Rows {
 public:
  static constexpr bool kHasBorder = around && HAS_NEIGHBOURS;
  static constexpr int kWords =  // of a stage
      (kCopies + (kHasBorder ? kBorderCopies : 0)) * kCopyWords;

  DEVICE Rows(const Shape& shape, int lead)
      : own_(shape, ThreadIndex() / 32 / TILES,
             ThreadIndex() / 32 % TILES * 16 + ThreadIndex() % 32 / 2,
             ThreadIndex() % 2, lead, around),
        lead_(lead),
        stride_(shape.stride()) {
    const int warp = ThreadIndex() / 32, lane = ThreadIndex() % 32;
    const int column = warp % TILES * 16 + lane / 2, half = lane % 2;
    own_copy_ = (warp * 32 + half * 16 + Turn(lane / 2, half)) * kCopyWords;
    if (kHasBorder) {  // 16 lanes of the band's first warp
      const int i = lane / 2 % 8;
      const int neighbour = i < kBorder ? i - kBorder : kColumns + i - kBorder;
      const int x = shape.first_column() + neighbour;
      to_border_ = (neighbour - column) * shape.channels;
      border_rows_ = x < 0 || x >= shape.width ? 0 : own_.rows_around;
      border_copy_ = (kCopies + warp / TILES * 16 + half * 8 + Turn(i, half)) *
                     kCopyWords;
    }
  }

  // Copies the row of a step.
  DEVICE void StartRow(int step, u32* stage, const u16* array) const {
    StartStrip(step, stage, array);
    if (CopiesBorder()) {
      StartCopy(stage + border_copy_, array + Offset(step) + to_border_,
                !BorderIsInside(step));
    }
  }
  // The same without the columns of the neighbours.
  DEVICE void StartStrip(int step, u32* stage, const u16* array) const {
    StartCopy(stage + own_copy_, array + Offset(step), !IsInside(step));
  }

  // Of this thread's copy of the strip: where it comes from, whether that is
  // inside of the image, whether it is of the band, and where it is in a stage.
  DEVICE i64 Offset(int step) const {
    return own_.offset + i64(step) * stride_;
  }
  DEVICE bool IsInside(int step) const {
    return u32(step - own_.first) < u32(own_.rows);
  }
  DEVICE bool IsOfBand(int step) const {
    return u32(step - lead_) < u32(own_.band_rows);
  }
  DEVICE int own_copy() const { return own_copy_; }

  // Of that of the border: whether there is one, and the same.
  DEVICE bool CopiesBorder() const {
    return HasBorder() && ThreadIndex() % 32 < 16;
  }
  DEVICE bool BorderIsInside(int step) const {
    return u32(step - own_.first) < u32(border_rows_);
  }
  DEVICE int border_copy() const { return border_copy_; }

  // Transposes a row that this warp has copied. `first_word` is that of the
  // block's first column in a row of planes.
  DEVICE void PlaceRow(const u32* from, u32* planes, int first_word) const {
    const int warp = ThreadIndex() / 32, lane = ThreadIndex() % 32;
    const int g = lane / 4, t = lane % 4;
    u32* to = planes + PlaneOffset(g) + warp / TILES * kRowWords + t;
    constexpr int upper = 8 * kPlaneWords + 8;  // to the upper half
    u32 r[4];
    LoadTransposed(
        r, from + (warp * 32 + Turn(lane, lane / 16)) * kCopyWords);
    u32* own = to + warp % TILES * 8 + first_word;
    StoreShared(own, r[0]);
    StoreShared(own + 4, r[1]);
    StoreShared(own + upper, r[2]);
    StoreShared(own + upper + 4, r[3]);
    if (HasBorder()) {
      u32 halves[2];
      LoadTransposed(halves, from + (kCopies + warp / TILES * 16 +
                                     Turn(lane % 16, lane / 8 % 2)) *
                                        kCopyWords);
      u32* border = to + (t < kBorder / 2 ? 0 : kColumns / 2);
      StoreShared(border, halves[0]);
      StoreShared(border + upper, halves[1]);
    }
  }

  // The place of a column's copy among those of its half. ldmatrix reads 8
  // columns of a half at once, and lanes 0 to 7 copy both halves of 4: in
  // either case they are in different banks.
  DEVICE static int Turn(int column, int half) { return column ^ half * 4; }

 private:
  DEVICE static bool HasBorder() {
    return kHasBorder && ThreadIndex() / 32 % TILES == 0;
  }

  Column own_;
  int own_copy_, border_copy_, to_border_, border_rows_;
  int lead_, stride_;
};

// The steps in which there is a row of x. If bands are whole images, the rows
// of padding are the same for all, and skipped.
struct Steps {
  int first, last, all;

  DEVICE explicit Steps(const Shape& shape) {
    all = shape.rows() + kSize - 1;
    first = shape.bands == 1 ? kPadBefore : 0;
    last = shape.bands == 1 ? kPadBefore + shape.height : all;
    if (last > all) last = all;
  }
};

DEVICE int NextStage(int stage) {
  return stage + 1 == kStages ? 0 : stage + 1;
}

DEVICE void ClearShared(u32* words, int count) {
  for (int i = ThreadIndex(); i < count; i += kThreads) {
    StoreShared(words + i, 0u);
  }
}

// The sum of partial sums `[count, values]`, in order: no two launches differ.
KERNEL(256) sum_partial_sums(const float* partial, float* sums, int count,
                             int values) {
  const int i = BlockX() * 256 + ThreadIndex();
  if (i >= values) return;
  float sum = 0;
  // Loads do not wait for the sum: 16 of them are under way at once.
  _Pragma("unroll 16")
  for (int p = 0; p < count; ++p) sum += partial[i64(p) * values + i];
  StoreGlobal(sums + i, sum);
}

#endif  // CONVMIXER_JAX_KERNELS_GPU_TILES_CUH_
