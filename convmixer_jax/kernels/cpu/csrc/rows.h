// Packed rows of images, from which the convolution's kernels read.
//
// Neighbouring columns of an image are C * 4 bytes apart, often a multiple of 1
// KiB, so that the Vecs of a row would compete for a few cache sets. Rows are
// therefore copied into a ring of KERNEL_SIZE rows, in which columns are
// adjacent, with zeros left and right. 256 bytes of channels are copied
// together, which needs fewer DRAM rows and TLB entries.

#ifndef CONVMIXER_JAX_KERNELS_CPU_ROWS_H_
#define CONVMIXER_JAX_KERNELS_CPU_ROWS_H_

#include <algorithm>
#include <memory>

#include "vectors.h"

#ifndef KERNEL_SIZE
#error "define the size of the kernel: -DKERNEL_SIZE=7"
#endif

namespace {

constexpr int kSize = KERNEL_SIZE;
constexpr int kVectors = 256 / kVectorBytes;
constexpr int kBlock = kVectors * kLanes;  // channels processed together

struct Shape {
  int64_t batch, height, width, channels;

  int64_t row() const { return width * channels; }
  int64_t image() const { return height * row(); }
};

// The channels of a block: `vectors` Vecs, of which the last may be partial.
struct Block {
  explicit Block(int64_t channels)
      : channels(channels), vectors(CeilDiv(channels, kLanes)) {}

  int lanes(int v) const {
    return std::min<int64_t>(kLanes, channels - v * kLanes);
  }

  int64_t channels;
  int vectors;
};

// Does not change the values of a row.
struct Identity {
  INLINE Vec operator()(int, Vec x) const { return x; }
};

// Copies a row of a block: to[v * plane + w] = map(v, column w of Vec v).
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

// Prefetches a row of a block: each of its columns is on another page, which no
// hardware prefetcher predicts.
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
  // Rows begin with `pad_before` zeros, and end with enough zeros for
  // kSize - 1 more columns than `columns`.
  Ring(const Shape& shape, int64_t pad_before, int64_t columns)
      : shape_(shape), pad_before_(pad_before), length_(columns + kSize - 1),
        rows_(new Vec[kVectors * kSize * length_]()) {}

  void Start(const T* image, const Block* block) {
    image_ = image;
    block_ = block;
    next_ = 0;
  }

  // Copies the image's rows up to `last` into the ring; see PackRow for `map`.
  template <typename Map = Identity>
  void Advance(int64_t last, const Map& map = Map()) {
    for (; next_ <= std::min(last, shape_.height - 1); ++next_) {
      const T* from = image_ + next_ * shape_.row();
      PackRow(from, shape_, *block_, kSize * length_, map,
              At(0, next_) + pad_before_);
      if (next_ + 1 < shape_.height) {
        PrefetchRow<false>(from + shape_.row(), shape_, *block_);
      }
    }
  }

  // Row h of Vec v, starting at column -pad_before.
  const Vec* Row(int v, int64_t h) const { return At(v, h); }

 private:
  Vec* At(int v, int64_t h) const {
    return rows_.get() + (v * kSize + h % kSize) * length_;
  }

  Shape shape_;
  int64_t pad_before_, length_;
  std::unique_ptr<Vec[]> rows_;
  const T* image_ = nullptr;
  const Block* block_ = nullptr;
  int64_t next_ = 0;
};

// The kernel rows [begin, end) that are inside the image, for its row h.
struct KernelRows {
  KernelRows(int64_t h, int64_t height, int64_t pad_before)
      : begin(std::max<int64_t>(0, pad_before - h)),
        end(std::min<int64_t>(kSize, height + pad_before - h)) {}

  int64_t begin, end;
};

// At most kTapsMost kernel columns are processed together: equal parts of them.
constexpr int kTapsMost = kRegisters / 2 - 4;
constexpr int kTaps = CeilDiv(kSize, CeilDiv(kSize, kTapsMost));

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_ROWS_H_
