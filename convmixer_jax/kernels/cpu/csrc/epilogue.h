// What follows a product (linear.h), computed of the sums of a tile while they
// are in the level 1 cache, rather than by passes over memory.

#ifndef CONVMIXER_JAX_KERNELS_CPU_EPILOGUE_H_
#define CONVMIXER_JAX_KERNELS_CPU_EPILOGUE_H_

#include <cstdint>

#include "activations.h"
#include "vectors.h"

namespace {

// Makes y [rows, columns]: activation(sums + bias + residual), or with
// `slope_at` (sums + bias + residual) times GELU's slope there. What is null is
// left out; all but the bias are like y.
struct Epilogue {
  enum class Activation { kNone, kRelu, kGelu };

  const float* bias = nullptr;  // [columns]
  const float* residual = nullptr;
  Activation activation = Activation::kNone;
  float* before = nullptr;  // takes what the activation is computed of
  const float* slope_at = nullptr;

  bool is_empty() const {
    return bias == nullptr && residual == nullptr && before == nullptr &&
           slope_at == nullptr && activation == Activation::kNone;
  }

  // Returns where Run reads or writes an array besides y, for a tile that
  // begins at y[offset]: the first of them, or null.
  const float* OfTile(int64_t offset) const {
    const float* array = residual != nullptr   ? residual
                         : slope_at != nullptr ? slope_at
                                               : before;
    return array == nullptr ? nullptr : array + offset;
  }

  // Runs on the sums of a tile and writes its rows from `first` to y[offset],
  // in a column.
  template <int rows, int vectors>
  void Run(const float* sums, int first, int last_lanes, int64_t offset,
           int64_t column, int64_t columns, float* y) const {
    const auto run = [&](auto map) INLINE {
      for (int r = first; r < rows; ++r) {
        Unroll<vectors>([&](auto v) INLINE {
          const int lanes = v == vectors - 1 ? last_lanes : kLanes;
          const int64_t at = offset + r * columns + v * kLanes;
          Vec value = Widen(sums + (r * vectors + v) * kLanes);
          if (bias != nullptr) value += Load(bias + column + v * kLanes, lanes);
          if (residual != nullptr) value += Load(residual + at, lanes);
          if (before != nullptr) Store(value, before + at, lanes);
          Store(map(value, at, lanes), y + at, lanes);
        });
      }
    };
    if (slope_at != nullptr) {
      run([&](Vec value, int64_t at, int lanes) INLINE {
        Vec slope;
        Gelu::Value(Load(slope_at + at, lanes), &slope);
        return value * slope;
      });
    } else if (activation == Activation::kGelu) {
      run([](Vec value, int64_t, int) INLINE { return Gelu::Value(value); });
    } else if (activation == Activation::kRelu) {
      run([](Vec value, int64_t, int) INLINE { return Relu::Value(value); });
    } else {
      run([](Vec value, int64_t, int) INLINE { return value; });
    }
  }
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_EPILOGUE_H_
