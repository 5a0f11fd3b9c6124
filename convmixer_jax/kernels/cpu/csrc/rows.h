// What the convolution's kernels stand on: packed rows of images.
//
// Neighbouring columns of an image lie C * 4 bytes apart, often a multiple of
// 1 KiB, so that a row of one Vec's channels would share a handful of cache
// sets. Rows are therefore copied into a ring of KERNEL_SIZE rows, in which
// columns are neighbours, with zeros left and right. 256 bytes of channels are
// copied together, for the sake of the memory's rows and the TLB.

#ifndef CONVMIXER_JAX_OPS_CSRC_ROWS_H_
#define CONVMIXER_JAX_OPS_CSRC_ROWS_H_

#include <algorithm>
#include <memory>

#include "vectors.h"

#ifndef KERNEL_SIZE
#error "give the size of the kernel: -DKERNEL_SIZE=7"
#endif

namespace {

constexpr int kSize = KERNEL_SIZE;
constexpr int kVectors = 256 / kVectorBytes;
constexpr int kBlock = kVectors * kLanes;  // channels worked on together

struct Shape {
  int64_t batch, height, width, channels;

  int64_t row() const { return width * channels; }
  int64_t image() const { return height * row(); }
};

// The channels of a block: `vectors` Vecs, the last perhaps not full.
struct Block {
  explicit Block(int64_t channels)
      : channels(channels), vectors(CeilDiv(channels, kLanes)) {}

  int lanes(int v) const {
    return std::min<int64_t>(kLanes, channels - v * kLanes);
  }

  int64_t channels;
  int vectors;
};

// Leaves the values of a row as they are.
struct AsTheyAre {
  INLINE Vec operator()(int, Vec x) const { return x; }
};

// Copies a row of a block: map(v, column w of Vec v) to to[v * plane + w].
template <typename T, typename Map>
void PackRow(const T* from, const Shape& shape, const Block& block,
             int64_t plane, const Map& map, Vec* to) {
  if (block.channels == kBlock) {
    for (int64_t w = 0; w < shape.width; ++w, from += shape.channels) {
      Unroll<kVectors>([&](auto v) INLINE {
        to[v * plane + w] = map(v, Widen(from + v * kLanes));
      });
    }
    return;
  }
  for (int64_t w = 0; w < shape.width; ++w, from += shape.channels) {
    for (int v = 0; v < block.vectors; ++v) {
      to[v * plane + w] = map(v, Load(from + v * kLanes, block.lanes(v)));
    }
  }
}

// Asks for a row of a block ahead of its use: it lies on as many pages as it
// has columns, which no hardware foresees.
template <bool write, typename T>
void PrefetchRow(const T* from, const Shape& shape, const Block& block) {
  for (int64_t w = 0; w < shape.width; ++w, from += shape.channels) {
    for (int64_t c = 0; c < block.channels; c += 64 / sizeof(T)) {
      __builtin_prefetch(from + c, write, 2);
    }
  }
}

// The last kSize rows of an image, for one block of channels.
template <typename T>
class Ring {
 public:
  // Rows have `low` zeros before, and after them enough for kSize more columns
  // than `columns`.
  Ring(const Shape& shape, int64_t low, int64_t columns)
      : shape_(shape), low_(low), length_(columns + kSize - 1),
        rows_(new Vec[kVectors * kSize * length_]()) {}

  void Start(const T* image, const Block* block) {
    image_ = image;
    block_ = block;
    next_ = 0;
  }

  // Makes the image's rows up to `last` available, mapped as PackRow says.
  template <typename Map = AsTheyAre>
  void Advance(int64_t last, const Map& map = Map()) {
    for (; next_ <= std::min(last, shape_.height - 1); ++next_) {
      const T* from = image_ + next_ * shape_.row();
      PackRow(from, shape_, *block_, kSize * length_, map,
              At(0, next_) + low_);
      if (next_ + 1 < shape_.height) {
        PrefetchRow<false>(from + shape_.row(), shape_, *block_);
      }
    }
  }

  // Row h of Vec v from column -low on.
  const Vec* Row(int v, int64_t h) const { return At(v, h); }

 private:
  Vec* At(int v, int64_t h) const {
    return rows_.get() + (v * kSize + h % kSize) * length_;
  }

  Shape shape_;
  int64_t low_, length_;
  std::unique_ptr<Vec[]> rows_;
  const T* image_ = nullptr;
  const Block* block_ = nullptr;
  int64_t next_ = 0;
};

// The kernel rows [begin, end) that meet the image around its row h.
struct KernelRows {
  KernelRows(int64_t h, int64_t height, int64_t low)
      : begin(std::max<int64_t>(0, low - h)),
        end(std::min<int64_t>(kSize, height + low - h)) {}

  int64_t begin, end;
};

// As many kernel columns as are worked on together, in equal parts.
constexpr int kTapsMost = kRegisters / 2 - 4;
constexpr int kTaps = CeilDiv(kSize, CeilDiv(kSize, kTapsMost));

}  // namespace

#endif  // CONVMIXER_JAX_OPS_CSRC_ROWS_H_
