// Softmax attention and its gradient, in float32.
//
// For each image and head, with queries q, keys k and values v [N, D]:
//
//   P = softmax(q k^T / sqrt(D)), y = P v
//
// Each task is a head of an image. It packs what it multiplies with
// (panels.h), and takes a block of queries at a time, so that their scores stay
// in the level 2 cache. Heads are read and written where the dense layers have
// them: in qkv [B, N, 3, heads, D] and y [B, N, heads, D]. The order of each sum
// does not depend on the number of threads or devices.

#ifndef CONVMIXER_JAX_KERNELS_CPU_ATTENTION_H_
#define CONVMIXER_JAX_KERNELS_CPU_ATTENTION_H_

#include <algorithm>
#include <cmath>

#include "activations.h"
#include "panels.h"
#include "room.h"

namespace {

constexpr int64_t kMostQueries = 48;  // of a block

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
        scores_(a_.shape.BlockRows() * stride_) {}

  void Run(int64_t task) {
    const Heads& s = a_.shape;
    keys_.PackTransposed(s.Rows(a_.qkv, task, 1));
    values_.Pack(s.Rows(a_.qkv, task, 2));
    const Strided queries = s.Rows(a_.qkv, task, 0);
    float* y = s.OfResult(a_.y, task);
    for (int64_t begin = 0; begin < s.tokens; begin += s.BlockRows()) {
      const int64_t count = std::min(s.BlockRows(), s.tokens - begin);
      float* scores = scores_.data();
      keys_.Multiply(::Rows<0, 1>{queries.Row(begin), queries.stride}, 0, count,
                     0, s.channels, false, true, scores, stride_);
      for (int64_t row = 0; row < count; ++row) {
        Softmax(scores + row * stride_);
        if (a_.p == nullptr) continue;
        std::copy_n(scores + row * stride_, s.tokens,
                    a_.p + (task * s.tokens + begin + row) * s.tokens);
      }
      values_.Multiply(::Rows<0, 1>{scores, stride_}, 0, count, 0, s.tokens,
                       false, false, y + begin * s.width(), s.width());
    }
  }

 private:
  // Replaces a row of products by probabilities.
  void Softmax(float* row) {
    std::fill(row + a_.shape.tokens, row + stride_, -INFINITY);
    Vec most = Widen(row);
    for (int64_t c = kLanes; c < stride_; c += kLanes) {
      const Vec value = Widen(row + c);
      most = value > most ? value : most;
    }
    const float largest =
        Reduce(most, [](float a, float b) { return a > b ? a : b; });
    Vec sums{};
    for (int64_t c = 0; c < stride_; c += kLanes) {
      const Vec value = Exp((Widen(row + c) - largest) * a_.shape.scale());
      sums += value;
      Narrow(value, row + c);
    }
    const float factor = 1 / Sum(sums);
    for (int64_t c = 0; c < stride_; c += kLanes) {
      Narrow(Widen(row + c) * factor, row + c);
    }
  }

  const Arguments a_;
  const int64_t stride_;
  Panels keys_, values_;
  Room scores_;
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
