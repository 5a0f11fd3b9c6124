// Softmax attention and its gradient, in float32.
//
// For each image and head, with queries q, keys k and values v [N, D]:
//
//   P = softmax(q k^T / sqrt(D)), y = P v
//
// Each task is a head of an image. It packs what it multiplies with
// (panels.h), and takes a block of queries at a time, so that their scores stay
// in the level 2 cache. Heads are read and written where the dense layers have
// them: in qkv [B, N, 3, heads, D] and y [B, N, heads, D]. The order of each
// sum does not depend on the number of threads or devices.

#ifndef CONVMIXER_JAX_KERNELS_CPU_ATTENTION_H_
#define CONVMIXER_JAX_KERNELS_CPU_ATTENTION_H_

#include <algorithm>
#include <cmath>

#include "activations.h"
#include "panels.h"
#include "room.h"

namespace {

constexpr int64_t kMostQueries = 48;  // of a block
static_assert(kMostQueries % kRowsOfTile == 0);
constexpr int64_t kMostValues = 128;  // in the level 1 cache

struct Heads {
  int64_t batch, tokens, heads, channels;

  int64_t tasks() const { return batch * heads; }
  float scale() const { return 1 / std::sqrt(static_cast<float>(channels)); }
  int64_t width() const { return heads * channels; }

  // Queries (0), keys (1) or values (2) of a head, in qkv or its gradient.
  template <typename T>
  T* Of(T* qkv, int64_t task, int which) const {
    const int64_t image = task / heads, head = task % heads;
    return qkv + (image * tokens * 3 + which) * width() + head * channels;
  }
  Strided Rows(const float* qkv, int64_t task, int which) const {
    return {Of(qkv, task, which), 3 * width()};
  }
  // A head, in y or its gradient.
  template <typename T>
  T* OfResult(T* y, int64_t task) const {
    const int64_t image = task / heads, head = task % heads;
    return y + image * tokens * width() + head * channels;
  }
  // The queries of a block: blocks of equal size, in whole tiles.
  int64_t BlockRows() const {
    const int64_t blocks = std::max<int64_t>(CeilDiv(tokens, kMostQueries), 1);
    return CeilDiv(CeilDiv(tokens, blocks), kRowsOfTile) * kRowsOfTile;
  }
};

class AttentionWorker {
 public:
  struct Arguments {
    Heads shape;
    const float* qkv;
    float* y;
    float* p;  // [B, heads, N, N], or null

    int64_t tasks() const { return shape.tasks(); }
  };

  explicit AttentionWorker(const Arguments& arguments)
      : a_(arguments),
        stride_(Padded(a_.shape.tokens)),
        keys_(a_.shape.channels, a_.shape.tokens),
        values_(a_.shape.tokens, a_.shape.channels),
        queries_(a_.shape.BlockRows() * a_.shape.channels),
        scores_(a_.shape.BlockRows() * stride_),
        sums_(a_.shape.BlockRows() * Padded(a_.shape.channels)) {}

  void Run(int64_t task) {
    const Heads& s = a_.shape;
    keys_.PackTransposed(s.Rows(a_.qkv, task, 1));
    values_.Pack(s.Rows(a_.qkv, task, 2));
    const Strided queries = s.Rows(a_.qkv, task, 0);
    for (int64_t begin = 0; begin < s.tokens; begin += s.BlockRows()) {
      const int64_t count = std::min(s.BlockRows(), s.tokens - begin);
      for (int64_t row = 0; row < count; ++row) {
        std::copy_n(queries.Row(begin + row), s.channels,
                    queries_.data() + row * s.channels);
      }
      keys_.Multiply(::Rows<0, 1>{queries_.data(), s.channels}, 0, count, 0,
                     s.channels, false, true, scores_.data(), stride_);
      float factors[kMostQueries];
      Exponentiate(count, factors);
      MultiplyValues(count);
      for (int64_t row = 0; row < count; ++row) {
        const int64_t at = begin + row;
        Scale(sums_.data() + row * Padded(s.channels), s.channels, factors[row],
              s.OfResult(a_.y, task) + at * s.width());
        if (a_.p == nullptr) continue;
        Scale(scores_.data() + row * stride_, s.tokens, factors[row],
              a_.p + (task * s.tokens + at) * s.tokens);
      }
    }
  }

 private:
  // Replaces scores by what is proportional to probabilities, and returns the
  // factors. Each step is done for all rows, so that none waits for another.
  void Exponentiate(int64_t count, float* factors) {
    const int64_t tokens = a_.shape.tokens;
    for (int64_t row = 0; row < count; ++row) {
      const float* scores = scores_.data() + row * stride_;
      Vec most = FirstLanes(Widen(scores), tokens, -INFINITY);
      for (int64_t c = kLanes; c < tokens; c += kLanes) {
        const Vec value = FirstLanes(Widen(scores + c), tokens - c, -INFINITY);
        most = value > most ? value : most;
      }
      factors[row] = Largest(most);
    }
    for (int64_t row = 0; row < count; ++row) {
      float* scores = scores_.data() + row * stride_;
      Vec sums{};
      for (int64_t c = 0; c < tokens; c += kLanes) {
        const Vec z = (Widen(scores + c) - factors[row]) * a_.shape.scale();
        const Vec value = FirstLanes(Exp(z), tokens - c, 0.0f);
        sums += value;
        Narrow(value, scores + c);
      }
      factors[row] = 1 / Sum(sums);
    }
  }

  // Multiplies the scores with the values; a part of them stays in the level 1
  // cache while all queries of a block are multiplied with it.
  void MultiplyValues(int64_t count) {
    const Heads& s = a_.shape;
    const Matrices products{count, s.tokens, s.channels};
    const int64_t part = products.InnerPart(kMostValues);
    for (int64_t i = 0; i < s.tokens; i += part) {
      values_.Multiply(::Rows<0, 1>{scores_.data() + i, stride_}, 0, count, i,
                       std::min(part, s.tokens - i), i > 0, true, sums_.data(),
                       Padded(s.channels));
    }
  }

  static void Scale(const float* from, int64_t count, float factor, float* to) {
    int64_t c = 0;
    for (; c + kLanes <= count; c += kLanes) {
      Narrow(Widen(from + c) * factor, to + c);
    }
    if (c < count) Store(Widen(from + c) * factor, to + c, count - c);
  }

  const Arguments a_;
  const int64_t stride_;
  Panels keys_, values_;
  const Room queries_, scores_, sums_;
};

class AttentionGradientWorker {
 public:
  struct Arguments {
    Heads shape;
    const float* qkv;
    const float* p;
    const float* y;
    const float* g;  // the gradient of y
    float* dqkv;

    int64_t tasks() const { return shape.tasks(); }
  };

  explicit AttentionGradientWorker(const Arguments& arguments)
      : a_(arguments),
        stride_(Padded(a_.shape.tokens)),
        values_(a_.shape.channels, a_.shape.tokens),
        queries_(a_.shape.tokens, a_.shape.channels),
        keys_(a_.shape.tokens, a_.shape.channels),
        gradient_(a_.shape.tokens, a_.shape.channels),
        slopes_(a_.shape.BlockRows() * stride_) {}

  // With P of softmax, the gradient of the products is
  // P (dP - rowsum(P dP)) / sqrt(D), and the sum is that of g y.
  void Run(int64_t task) {
    const Heads& s = a_.shape;
    const Strided g{s.OfResult(a_.g, task), s.width()};
    const int64_t stride = 3 * s.width();
    values_.PackTransposed(s.Rows(a_.qkv, task, 2));
    queries_.Pack(s.Rows(a_.qkv, task, 0));
    keys_.Pack(s.Rows(a_.qkv, task, 1));
    gradient_.Pack(g);
    float* slopes = slopes_.data();
    for (int64_t begin = 0; begin < s.tokens; begin += s.BlockRows()) {
      const int64_t count = std::min(s.BlockRows(), s.tokens - begin);
      const float* p = a_.p + (task * s.tokens + begin) * s.tokens;
      values_.Multiply(::Rows<0, 1>{g.Row(begin), g.stride}, 0, count, 0,
                       s.channels, false, true, slopes, stride_);
      for (int64_t row = 0; row < count; ++row) {
        Slopes(p + row * s.tokens,
               s.OfResult(a_.y, task) + (begin + row) * s.width(),
               g.Row(begin + row), slopes + row * stride_);
      }
      keys_.Multiply(::Rows<0, 1>{slopes, stride_}, 0, count, 0, s.tokens,
                     false, false, s.Of(a_.dqkv, task, 0) + begin * stride,
                     stride);
      queries_.Multiply(Columns{slopes, stride_}, 0, s.tokens, begin, count,
                        begin > 0, false, s.Of(a_.dqkv, task, 1), stride);
      gradient_.Multiply(Columns{p, s.tokens}, 0, s.tokens, begin, count,
                         begin > 0, false, s.Of(a_.dqkv, task, 2), stride);
    }
  }

 private:
  // Replaces a row of dP by the gradient of the products.
  void Slopes(const float* p, const float* y, const float* g, float* row) {
    const int64_t tokens = a_.shape.tokens, channels = a_.shape.channels;
    Vec sums{};
    for (int64_t c = 0; c < channels; c += kLanes) {
      const int lanes = std::min<int64_t>(kLanes, channels - c);
      sums += Load(g + c, lanes) * Load(y + c, lanes);
    }
    const float sum = Sum(sums), scale = a_.shape.scale();
    for (int64_t c = 0; c < tokens; c += kLanes) {
      const int lanes = std::min<int64_t>(kLanes, tokens - c);
      Narrow((Widen(row + c) - sum) * (Load(p + c, lanes) * scale), row + c);
    }
  }

  const Arguments a_;
  const int64_t stride_;
  Panels values_, queries_, keys_, gradient_;
  Room slopes_;
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_ATTENTION_H_
