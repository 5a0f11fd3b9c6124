// Bias, activation, an affine map of each channel (BatchNorm's) and a residual,
// in as few passes over memory as possible.
//
//   a = activation(x + bias)
//   Moments:   sums[b] = (sum a, sum a^2) over the positions of image b
//   Products:  sums[b] = (sum g, sum g a)
//   Affine:    y = a factor[b] + shift[b] (+ residual)
//   Gradient:  dx = activation'(x + bias) (p[b] g + q[b] a + r[b]), and
//              sums[b] = sum dx
//
// Sums are for each image, so that their bits depend neither on the number of
// threads nor on that of devices. An activation is computed where it is needed,
// which costs less than storing it and loading it again.

#ifndef CONVMIXER_JAX_KERNELS_CPU_NORM_H_
#define CONVMIXER_JAX_KERNELS_CPU_NORM_H_

#include <algorithm>

#include "activations.h"

namespace {

// A strip of channels, 1 KiB of each position, is processed together, kTile
// positions at a time.
constexpr int kTile = 8;
constexpr int kStripVectors = 1024 / kVectorBytes;
constexpr int kStrip = kStripVectors * kLanes;

struct Images {
  int64_t batch, positions, channels;

  // A task is a strip of an image.
  int64_t strips() const { return CeilDiv(channels, kStrip); }
  int64_t tasks() const { return batch * strips(); }
};

// The part of the arrays that a task processes.
struct Strip {
  Strip(const Images& images, int64_t task)
      : stride(images.channels), positions(images.positions),
        channel(task % images.strips() * kStrip),
        image(task / images.strips()),
        channels(std::min<int64_t>(kStrip, stride - channel)),
        vectors(CeilDiv(channels, kLanes)) {}

  int lanes(int v) const {
    return std::min<int64_t>(kLanes, channels - v * kLanes);
  }

  // The offset of Vec v of the strip in [B, positions, C], in [B, rows, C] and
  // in [C].
  int64_t At(int64_t position, int v) const {
    return (image * positions + position) * stride + channel + v * kLanes;
  }
  int64_t Row(int v, int64_t rows = 1, int64_t row = 0) const {
    return (image * rows + row) * stride + channel + v * kLanes;
  }
  int64_t Channel(int v) const { return channel + v * kLanes; }

  int64_t stride, positions, channel, image, channels;
  int vectors;
};

// Calls f(position, v, count) for all positions, `count` of them at a time,
// which is a compile-time constant.
template <typename F>
INLINE inline void ForTiles(const Strip& strip, F f) {
  int64_t position = 0;
  for (; position + kTile <= strip.positions; position += kTile) {
    for (int v = 0; v < strip.vectors; ++v) {
      f(position, v, std::integral_constant<int, kTile>());
    }
  }
  for (; position < strip.positions; ++position) {
    for (int v = 0; v < strip.vectors; ++v) {
      f(position, v, std::integral_constant<int, 1>());
    }
  }
}

template <typename T>
struct SumsArguments : Images {
  const T* x;
  const float* bias;
  const T* g;  // for Products, else nullptr
  float* sums;  // [B, 2, C]
};

template <typename T, typename Activation, bool products>
class SumsWorker {
 public:
  using Arguments = SumsArguments<T>;

  explicit SumsWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const Strip strip(a_, task);
    Vec first[kStripVectors] = {}, second[kStripVectors] = {};
    ForTiles(strip, [&](int64_t position, int v, auto count) INLINE {
      const int lanes = strip.lanes(v);
      const int64_t at = strip.At(position, v);
      const Vec bias = Load(a_.bias + strip.Channel(v), lanes);
      Vec sum = first[v], sum_of_products = second[v];
      Unroll<count>([&](auto i) INLINE {
        const int64_t here = at + i * strip.stride;
        const Vec a = Activation::Value(Load(a_.x + here, lanes) + bias);
        if constexpr (products) {
          const Vec g = Load(a_.g + here, lanes);
          sum += g;
          sum_of_products += g * a;
        } else {
          sum += a;
          sum_of_products += a * a;
        }
      });
      first[v] = sum;
      second[v] = sum_of_products;
    });
    for (int v = 0; v < strip.vectors; ++v) {
      Store(first[v], a_.sums + strip.Row(v, 2, 0), strip.lanes(v));
      Store(second[v], a_.sums + strip.Row(v, 2, 1), strip.lanes(v));
    }
  }

 private:
  const Arguments a_;
};

template <typename T>
struct AffineArguments : Images {
  const T* x;
  const float *bias, *factor, *shift;
  const T* residual;  // or nullptr
  T* y;
};

template <typename T, typename Activation, bool adds_residual>
class AffineWorker {
 public:
  using Arguments = AffineArguments<T>;

  explicit AffineWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const Strip strip(a_, task);
    ForTiles(strip, [&](int64_t position, int v, auto count) INLINE {
      const int lanes = strip.lanes(v);
      const int64_t at = strip.At(position, v);
      const Vec bias = Load(a_.bias + strip.Channel(v), lanes);
      const Vec factor = Load(a_.factor + strip.Row(v), lanes);
      const Vec shift = Load(a_.shift + strip.Row(v), lanes);
      Vec y[count];  // stored last: a store delays loads 4 KiB after it
      Unroll<count>([&](auto i) INLINE {
        const int64_t here = at + i * strip.stride;
        const Vec a = Activation::Value(Load(a_.x + here, lanes) + bias);
        y[i] = a * factor + shift;
        if constexpr (adds_residual) y[i] += Load(a_.residual + here, lanes);
      });
      Unroll<count>([&](auto i) INLINE {
        Store(y[i], a_.y + at + i * strip.stride, lanes);
      });
    });
  }

 private:
  const Arguments a_;
};

template <typename T>
struct GradientArguments : Images {
  const T* x;
  const float* bias;
  const T* g;
  const float *p, *q, *r;
  T* dx;
  float* sums;  // [B, C]
};

template <typename T, typename Activation>
class GradientWorker {
 public:
  using Arguments = GradientArguments<T>;

  explicit GradientWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const Strip strip(a_, task);
    Vec sums[kStripVectors] = {};
    ForTiles(strip, [&](int64_t position, int v, auto count) INLINE {
      const int lanes = strip.lanes(v);
      const int64_t at = strip.At(position, v), row = strip.Row(v);
      const Vec bias = Load(a_.bias + strip.Channel(v), lanes);
      const Vec p = Load(a_.p + row, lanes), q = Load(a_.q + row, lanes);
      const Vec r = Load(a_.r + row, lanes);
      Vec dx[count];
      Unroll<count>([&](auto i) INLINE {
        const int64_t here = at + i * strip.stride;
        Vec slope;
        const Vec a =
            Activation::Value(Load(a_.x + here, lanes) + bias, &slope);
        const Vec g = Load(a_.g + here, lanes);
        dx[i] = slope * (p * g + q * a + r);
      });
      Vec sum = sums[v];
      Unroll<count>([&](auto i) INLINE {
        Store(dx[i], a_.dx + at + i * strip.stride, lanes);
        sum += dx[i];
      });
      sums[v] = sum;
    });
    for (int v = 0; v < strip.vectors; ++v) {
      Store(sums[v], a_.sums + strip.Row(v), strip.lanes(v));
    }
  }

 private:
  const Arguments a_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_NORM_H_
