// A step of AdamW in float32: what it does to an element, and passes over all.
//
// The arrays are larger than any cache, so the passes over memory are what a
// step costs. All but the last only sum squares, which tell whether all is
// finite; the last writes over what it reads.

#ifndef CONVMIXER_JAX_KERNELS_CPU_ADAMW_H_
#define CONVMIXER_JAX_KERNELS_CPU_ADAMW_H_

#include <algorithm>
#include <cmath>
#include <vector>

#include "tasks.h"
#include "vectors.h"

namespace {

// Elements of a task: enough that starting it costs nothing, and few enough
// that float32 sums of their squares are accurate.
constexpr int64_t kAdamwElements = 1 << 15;

// The numbers of a step, in the order in which the caller passes them.
struct AdamwRule {
  float keep_first, add_first;    // of the first moment
  float keep_second, add_second;  // of the second
  float unbias_first, unbias_second;
  float epsilon, learning_rate;
  float clip_norm;  // of the gradient; 0: it is not clipped
};

// How far ahead of their use the arrays are fetched, in elements: the processor
// does not by itself go on from one page of so many arrays to the next.
constexpr int64_t kAdamwAhead = 768;

// Neighbouring elements: the result may be where the operands are.
struct AdamwPart {
  const float *gradient, *parameter, *first, *second;
  float *new_parameter, *new_first, *new_second;
  int64_t size;
  float decay;

  void FetchAhead(int64_t at) const {
    for (const float* array : {gradient, parameter, first, second}) {
      __builtin_prefetch(array + at + kAdamwAhead);
    }
  }
};

// Before a step and after it.
struct AdamwElement {
  Vec gradient, parameter, update, new_parameter, new_first, new_second;
};

// Sums of squares.
struct AdamwSquares {
  double gradient = 0, update = 0, old_parameter = 0, new_parameter = 0;
};

// Calls f with the position of each Vec, and its lanes.
template <typename F>
INLINE inline void ForVecs(int64_t size, F f) {
  int64_t at = 0;
  for (; at + kLanes <= size; at += kLanes) f(at, kLanes);
  if (at < size) f(at, static_cast<int>(size - at));
}

struct AdamwArguments {
  AdamwRule rule;
  float gradient_scale;  // by which it is clipped
  const AdamwPart* parts;
  int64_t count;
  AdamwSquares* squares;  // of each part

  int64_t tasks() const { return count; }

  // A step by the formulas of optax.adamw, in its order.
  INLINE AdamwElement Step(const AdamwPart& part, int64_t at, int lanes) const {
    part.FetchAhead(at);
    const Vec gradient = Load(part.gradient + at, lanes);
    const Vec parameter = Load(part.parameter + at, lanes);
    const Vec clipped = gradient_scale * gradient;
    const Vec first = rule.add_first * clipped +
                      rule.keep_first * Load(part.first + at, lanes);
    const Vec second = rule.add_second * (clipped * clipped) +
                       rule.keep_second * Load(part.second + at, lanes);
    const Vec root = SquareRoot(second * rule.unbias_second) + rule.epsilon;
    Vec update = first * rule.unbias_first / root;
    if (part.decay != 0) update += part.decay * parameter;  // may be infinite
    update *= -rule.learning_rate;
    return {gradient, parameter, update, parameter + update, first, second};
  }
};

class GradientSquaresWorker {
 public:
  using Arguments = AdamwArguments;

  explicit GradientSquaresWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const AdamwPart& part = a_.parts[task];
    Vec sum = {};
    ForVecs(part.size, [&](int64_t at, int lanes) INLINE {
      const Vec gradient = Load(part.gradient + at, lanes);
      sum += gradient * gradient;
    });
    a_.squares[task].gradient = Sum(sum);
  }

 private:
  const Arguments a_;
};

// All but that of the gradient, unless it is not clipped.
class StepSquaresWorker {
 public:
  using Arguments = AdamwArguments;

  explicit StepSquaresWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const AdamwPart& part = a_.parts[task];
    Vec gradients = {}, updates = {}, old_ones = {}, new_ones = {};
    ForVecs(part.size, [&](int64_t at, int lanes) INLINE {
      AdamwElement e = a_.Step(part, at, lanes);
      if (lanes < kLanes) {  // with an epsilon of 0 the others are not 0
        float padded[kLanes] = {};
        std::memcpy(padded, &e.update, lanes * sizeof(float));
        e.update = Widen(padded);
        e.new_parameter = e.parameter + e.update;
      }
      gradients += e.gradient * e.gradient;
      updates += e.update * e.update;
      old_ones += e.parameter * e.parameter;
      new_ones += e.new_parameter * e.new_parameter;
    });
    AdamwSquares& squares = a_.squares[task];
    if (a_.rule.clip_norm == 0) squares.gradient = Sum(gradients);
    squares.update = Sum(updates);
    squares.old_parameter = Sum(old_ones);
    squares.new_parameter = Sum(new_ones);
  }

 private:
  const Arguments a_;
};

class AdamwWorker {
 public:
  using Arguments = AdamwArguments;

  explicit AdamwWorker(const Arguments& a) : a_(a) {}

  void Run(int64_t task) {
    const AdamwPart& part = a_.parts[task];
    ForVecs(part.size, [&](int64_t at, int lanes) INLINE {
      const AdamwElement e = a_.Step(part, at, lanes);
      Store(e.new_parameter, part.new_parameter + at, lanes);
      Store(e.new_first, part.new_first + at, lanes);
      Store(e.new_second, part.new_second + at, lanes);
    });
  }

 private:
  const Arguments a_;
};

// The norms before and after, and whether the step was left out.
struct AdamwReport {
  float gradient_norm, update_norm, parameter_norm;
  bool skipped;
};

inline AdamwSquares Total(const std::vector<AdamwSquares>& parts) {
  AdamwSquares total;
  for (const AdamwSquares& part : parts) {
    total.gradient += part.gradient;
    total.update += part.update;
    total.old_parameter += part.old_parameter;
    total.new_parameter += part.new_parameter;
  }
  return total;
}

// As a sum in float32 would be: infinite if it is too large for that.
inline float Norm(double squares) {
  return std::sqrt(static_cast<float>(squares));
}

// Takes a step, unless a norm or `also_finite` is not finite.
template <typename Pool>
AdamwReport RunAdamw(Pool& pool, const AdamwRule& rule, float also_finite,
                     const std::vector<AdamwPart>& parts) {
  std::vector<AdamwSquares> squares(parts.size());
  AdamwArguments arguments{rule, 1, parts.data(),
                           static_cast<int64_t>(parts.size()), squares.data()};
  if (rule.clip_norm != 0) {
    RunAll<GradientSquaresWorker>(pool, arguments);
    const float norm = Norm(Total(squares).gradient);
    // Not "greater", so that a NaN stays one.
    if (!(norm < rule.clip_norm)) {
      arguments.gradient_scale = rule.clip_norm / norm;
    }
  }
  RunAll<StepSquaresWorker>(pool, arguments);
  const AdamwSquares total = Total(squares);
  AdamwReport report{Norm(total.gradient), Norm(total.update),
                     Norm(total.new_parameter), false};
  if (std::isfinite(also_finite + report.gradient_norm + report.update_norm)) {
    RunAll<AdamwWorker>(pool, arguments);
    return report;
  }
  report.skipped = true;
  report.parameter_norm = Norm(total.old_parameter);
  for (const AdamwPart& part : parts) {
    const auto keep = [&](const float* from, float* to) {
      if (from != to) std::copy_n(from, part.size, to);
    };
    keep(part.parameter, part.new_parameter);
    keep(part.first, part.new_first);
    keep(part.second, part.new_second);
  }
  return report;
}

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_ADAMW_H_
