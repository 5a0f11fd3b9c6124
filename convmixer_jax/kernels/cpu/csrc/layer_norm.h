// LayerNorm of tokens and its gradient, in float32.
//
// For each of the rows x of [rows, C], with the biased variance:
//
//   n = (x - mean) / sqrt(variance + epsilon), y = n scale + offset
//
// A task is a block of rows, which stay in the level 1 cache while they are
// read several times. The variance is that of the deviations from the mean. The
// gradients of scale and offset are sums over all rows: each task adds up those
// of its block, and then one thread those of the blocks, in their order. So no
// sum depends on the number of threads.

#ifndef CONVMIXER_JAX_KERNELS_CPU_LAYER_NORM_H_
#define CONVMIXER_JAX_KERNELS_CPU_LAYER_NORM_H_

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace {

struct TokenBlocks {
  int64_t rows, channels;
  int64_t block_rows;  // of a task; the last may have fewer

  int64_t tasks() const { return CeilDiv(rows, block_rows); }
  int64_t Begin(int64_t task) const { return task * block_rows; }
  int64_t End(int64_t task) const {
    return std::min(rows, (task + 1) * block_rows);
  }
};

// Calls f(c, lanes) for all vectors of channels, at c.
template <typename F>
INLINE inline void ForVectors(int64_t channels, F f) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) f(c, kLanes);
  if (c < channels) f(c, static_cast<int>(channels - c));
}

// Returns the sum of f(c, lanes) over all vectors of channels, at c.
template <typename F>
INLINE inline float SumOfVectors(int64_t channels, F f) {
  constexpr int kSums = 4;  // an addition waits for the one before
  Vec sums[kSums] = {};
  int64_t c = 0;
  for (; c + kSums * kLanes <= channels; c += kSums * kLanes) {
    Unroll<kSums>([&](auto i) INLINE {
      sums[i] += f(c + i * kLanes, kLanes);
    });
  }
  ForVectors(channels - c, [&](int64_t more, int lanes) INLINE {
    sums[0] += f(c + more, lanes);
  });
  return Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Returns the first `lanes` lanes, followed by zeros.
INLINE inline Vec First(Vec vector, int lanes) {
  if (lanes == kLanes) return vector;
  float kept[kLanes];
  Narrow(vector, kept);
  return Load(kept, lanes);
}

class LayerNormWorker {
 public:
  struct Arguments : TokenBlocks {
    float epsilon;
    const float *x, *scale, *offset;
    float *y, *mean, *inverse;  // [rows, C], [rows], [rows]
  };

  explicit LayerNormWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    for (int64_t row = a_.Begin(task); row < a_.End(task); ++row) Row(row);
  }

 private:
  void Row(int64_t row) {
    const float* x = a_.x + row * a_.channels;
    const float mean =
        SumOfVectors(a_.channels, [&](int64_t c, int lanes) INLINE {
          return Load(x + c, lanes);
        }) / a_.channels;
    const float variance =
        SumOfVectors(a_.channels, [&](int64_t c, int lanes) INLINE {
          const Vec deviation = First(Load(x + c, lanes) - mean, lanes);
          return deviation * deviation;
        }) / a_.channels;
    const float inverse = 1 / std::sqrt(variance + a_.epsilon);
    float* y = a_.y + row * a_.channels;
    ForVectors(a_.channels, [&](int64_t c, int lanes) INLINE {
      const Vec factor = Load(a_.scale + c, lanes) * inverse;
      const Vec offset = Load(a_.offset + c, lanes);
      Store((Load(x + c, lanes) - mean) * factor + offset, y + c, lanes);
    });
    a_.mean[row] = mean;
    a_.inverse[row] = inverse;
  }

  const Arguments a_;
};

class LayerNormGradientWorker {
 public:
  struct Arguments : TokenBlocks {
    const float *x, *mean, *inverse, *scale, *g;
    float* dx;
    float* sums;  // [tasks, 2, C], of the blocks: of g n and of g
  };

  explicit LayerNormGradientWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    float* sums = a_.sums + 2 * task * a_.channels;
    std::fill_n(sums, 2 * a_.channels, 0.0f);
    int64_t row = a_.Begin(task);
    const int64_t end = a_.End(task);
    for (; row + kTile <= end; row += kTile) Rows<kTile>(row, sums);
    for (; row < end; ++row) Rows<1>(row, sums);
  }

 private:
  static constexpr int kTile = 4;  // rows that are added to the sums together

  // With s = g scale, dx = (s - mean(s) - n mean(s n)) inverse.
  template <int count>
  void Rows(int64_t row, float* sums) {
    const int64_t channels = a_.channels, begin = row * channels;
    const float *x = a_.x + begin, *g = a_.g + begin;
    const float *mean = a_.mean + row, *inverse = a_.inverse + row;
    float *dscale = sums, *doffset = sums + channels;
    Vec first[count] = {}, second[count] = {};
    ForVectors(channels, [&](int64_t c, int lanes) INLINE {
      const Vec scale = Load(a_.scale + c, lanes);
      Vec sum_gn = Load(dscale + c, lanes), sum_g = Load(doffset + c, lanes);
      Unroll<count>([&](auto i) INLINE {
        const int64_t at = i * channels + c;
        const Vec n = (Load(x + at, lanes) - mean[i]) * inverse[i];
        const Vec slope = Load(g + at, lanes), product = slope * n;
        sum_g += slope;
        sum_gn += product;
        first[i] += slope * scale;
        second[i] += product * scale;
      });
      Store(sum_gn, dscale + c, lanes);
      Store(sum_g, doffset + c, lanes);
    });
    float* dx = a_.dx + begin;
    for (int i = 0; i < count; ++i) {
      const float mean_s = Sum(first[i]) / channels;
      const float mean_sn = Sum(second[i]) / channels;
      const int64_t at = i * channels;
      ForVectors(channels, [&](int64_t c, int lanes) INLINE {
        const Vec n = (Load(x + at + c, lanes) - mean[i]) * inverse[i];
        const Vec s = Load(g + at + c, lanes) * Load(a_.scale + c, lanes);
        Store((s - mean_s - n * mean_sn) * inverse[i], dx + at + c, lanes);
      });
    }
  }

  const Arguments a_;
};

// Adds up the sums [blocks, 2, C] of LayerNormGradientWorker.
inline void AddBlocks(int64_t blocks, int64_t channels, const float* sums,
                      float* dscale, float* doffset) {
  std::fill_n(dscale, channels, 0.0f);
  std::fill_n(doffset, channels, 0.0f);
  for (int64_t block = 0; block < blocks; ++block, sums += 2 * channels) {
    for (int64_t c = 0; c < channels; ++c) {
      dscale[c] += sums[c];
      doffset[c] += sums[channels + c];
    }
  }
}

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_LAYER_NORM_H_
