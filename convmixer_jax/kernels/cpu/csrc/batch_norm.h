// BatchNorm with a residual and ReLU after it, in float32, in as few passes
// over memory as possible.
//
//   Moments:   sums[b] = (sum x, sum x^2) over the positions of image b
//   Affine:    y = x factor[b] + shift[b] (+ residual), then perhaps max(y, 0)
//   Products:  sums[b] = (sum h, sum h x), and perhaps h
//   Gradient:  dx = p[b] h + q[b] x + r[b]
//
// h is the gradient g of y, or with ReLU, g where y > 0, else 0. As in norm.h,
// sums are for each image, and a task is a strip of channels of an image.

#ifndef CONVMIXER_JAX_KERNELS_CPU_BATCH_NORM_H_
#define CONVMIXER_JAX_KERNELS_CPU_BATCH_NORM_H_

#include "norm.h"

namespace {

// Loads g, where y > 0 if y is not nullptr.
template <bool masks>
INLINE inline Vec LoadMasked(const float* g, const float* y, int64_t at,
                             int lanes) {
  const Vec loaded = Load(g + at, lanes);
  if constexpr (!masks) return loaded;
  return Load(y + at, lanes) > 0.0f ? loaded : Vec{};
}

// Sums over the positions of a task's strip, to sums [B, 2, C]. Calls
// add(at, lanes, &first, &second) for each Vec. Those of a tile are summed on
// their own first, which keeps rounding errors small.
template <typename F>
INLINE inline void SumStrip(const Strip& strip, float* sums, F add) {
  Vec first[kStripVectors] = {}, second[kStripVectors] = {};
  ForTiles(strip, [&](int64_t position, int v, auto count) INLINE {
    const int lanes = strip.lanes(v);
    const int64_t at = strip.At(position, v);
    Vec sum = {}, sum_of_products = {};
    Unroll<count>([&](auto i) INLINE {
      add(at + i * strip.stride, lanes, &sum, &sum_of_products);
    });
    first[v] += sum;
    second[v] += sum_of_products;
  });
  for (int v = 0; v < strip.vectors; ++v) {
    Store(first[v], sums + strip.Row(v, 2, 0), strip.lanes(v));
    Store(second[v], sums + strip.Row(v, 2, 1), strip.lanes(v));
  }
}

class MomentsWorker {
 public:
  struct Arguments : Images {
    const float* x;
    float* sums;  // [B, 2, C]
  };

  explicit MomentsWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    SumStrip(Strip(a_, task), a_.sums,
             [&](int64_t at, int lanes, Vec* sum, Vec* squares) INLINE {
               const Vec x = Load(a_.x + at, lanes);
               *sum += x;
               *squares += x * x;
             });
  }

 private:
  const Arguments a_;
};

struct BatchNormAffineArguments : Images {
  const float *x, *factor, *shift;
  const float* residual;  // or nullptr
  float* y;
};

template <bool adds_residual, bool relu>
class BatchNormAffineWorker {
 public:
  using Arguments = BatchNormAffineArguments;

  explicit BatchNormAffineWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const Strip strip(a_, task);
    ForTiles(strip, [&](int64_t position, int v, auto count) INLINE {
      const int lanes = strip.lanes(v);
      const int64_t at = strip.At(position, v);
      const Vec factor = Load(a_.factor + strip.Row(v), lanes);
      const Vec shift = Load(a_.shift + strip.Row(v), lanes);
      Vec y[count];  // stored last: a store delays loads 4 KiB after it
      Unroll<count>([&](auto i) INLINE {
        const int64_t here = at + i * strip.stride;
        y[i] = Load(a_.x + here, lanes) * factor + shift;
        if constexpr (adds_residual) y[i] += Load(a_.residual + here, lanes);
        if constexpr (relu) y[i] = Relu::Value(y[i]);
      });
      Unroll<count>([&](auto i) INLINE {
        Store(y[i], a_.y + at + i * strip.stride, lanes);
      });
    });
  }

 private:
  const Arguments a_;
};

struct ProductsArguments : Images {
  const float *x, *g;
  const float* y;  // with ReLU, else nullptr
  float* sums;  // [B, 2, C]
  float* masked;  // h, or nullptr
};

template <bool masks, bool writes>
class ProductsWorker {
 public:
  using Arguments = ProductsArguments;

  explicit ProductsWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    SumStrip(Strip(a_, task), a_.sums,
             [&](int64_t at, int lanes, Vec* sum, Vec* products) INLINE {
               const Vec h = LoadMasked<masks>(a_.g, a_.y, at, lanes);
               *sum += h;
               *products += h * Load(a_.x + at, lanes);
               if constexpr (writes) Store(h, a_.masked + at, lanes);
             });
  }

 private:
  const Arguments a_;
};

struct BatchNormGradientArguments : Images {
  const float *x, *g;
  const float* y;  // with ReLU, else nullptr
  const float *p, *q, *r;
  float* dx;
};

template <bool masks>
class BatchNormGradientWorker {
 public:
  using Arguments = BatchNormGradientArguments;

  explicit BatchNormGradientWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const Strip strip(a_, task);
    ForTiles(strip, [&](int64_t position, int v, auto count) INLINE {
      const int lanes = strip.lanes(v);
      const int64_t at = strip.At(position, v), row = strip.Row(v);
      const Vec p = Load(a_.p + row, lanes), q = Load(a_.q + row, lanes);
      const Vec r = Load(a_.r + row, lanes);
      Vec dx[count];
      Unroll<count>([&](auto i) INLINE {
        const int64_t here = at + i * strip.stride;
        const Vec h = LoadMasked<masks>(a_.g, a_.y, here, lanes);
        dx[i] = p * h + (q * Load(a_.x + here, lanes) + r);
      });
      Unroll<count>([&](auto i) INLINE {
        Store(dx[i], a_.dx + at + i * strip.stride, lanes);
      });
    });
  }

 private:
  const Arguments a_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_BATCH_NORM_H_
