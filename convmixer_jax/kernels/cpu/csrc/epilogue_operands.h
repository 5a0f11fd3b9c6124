// Reads what XLA passes for what follows a product (epilogue.h).

#ifndef CONVMIXER_JAX_KERNELS_CPU_EPILOGUE_OPERANDS_H_
#define CONVMIXER_JAX_KERNELS_CPU_EPILOGUE_OPERANDS_H_

#include <string_view>

#include "buffers.h"
#include "epilogue.h"
#include "matrices.h"

namespace {

// Returns what follows a product of this shape. `steps` names it, in words
// between spaces: 'bias', 'residual' and 'slope_at' take the next operand,
// 'before' takes the next result, 'relu' and 'gelu' take nothing.
inline ffi::ErrorOr<Epilogue> EpilogueOf(std::string_view steps,
                                         const Matrices& shape,
                                         const ffi::RemainingArgs& operands,
                                         const ffi::RemainingRets& results) {
  Epilogue epilogue;
  bool fits = true;
  size_t next_operand = 0, next_result = 0;
  const int64_t size = shape.rows * shape.columns;
  const auto check = [&](const ffi::AnyBuffer& buffer, int64_t count) {
    fits = fits && buffer.element_type() == ffi::F32 &&
           static_cast<int64_t>(buffer.element_count()) == count;
  };
  const auto operand = [&](int64_t count) -> const float* {
    const auto buffer = operands.get<ffi::AnyBuffer>(next_operand++);
    if (!buffer.has_value()) return fits = false, nullptr;
    check(*buffer, count);
    return Data<float>(*buffer);
  };
  while (!steps.empty()) {
    const std::string_view step = steps.substr(0, steps.find(' '));
    steps.remove_prefix(std::min(step.size() + 1, steps.size()));
    if (step == "bias") {
      epilogue.bias = operand(shape.columns);
    } else if (step == "residual") {
      epilogue.residual = operand(size);
    } else if (step == "slope_at") {
      epilogue.slope_at = operand(size);
    } else if (step == "before") {
      auto buffer = results.get<ffi::AnyBuffer>(next_result++);
      if (!buffer.has_value()) {
        fits = false;
      } else {
        check(**buffer, size);
        epilogue.before = static_cast<float*>((*buffer)->untyped_data());
      }
    } else if (step == "relu") {
      epilogue.activation = Epilogue::Activation::kRelu;
    } else if (step == "gelu") {
      epilogue.activation = Epilogue::Activation::kGelu;
    } else {
      fits = false;
    }
  }
  if (!fits || next_operand != operands.size() ||
      next_result != results.size()) {
    return ffi::Unexpected(Invalid("what follows the product does not fit it"));
  }
  return epilogue;
}

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_EPILOGUE_OPERANDS_H_
