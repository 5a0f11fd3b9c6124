// The step of adamw.h, as a handler that XLA calls.

#include "adamw.h"

#include <numeric>

#include "buffers.h"

namespace {

// Finds operands and results, and whether they are what was counted on.
class AdamwBuffers {
 public:
  AdamwBuffers(const ffi::RemainingArgs& args, const ffi::RemainingRets& rets)
      : args_(args), rets_(rets) {}

  int64_t SizeOf(size_t operand) const {
    const auto found = args_.get<ffi::AnyBuffer>(operand);
    return found.has_value() ? found->element_count() : 0;
  }
  const float* Operand(size_t index, int64_t size) {
    const auto found = args_.get<ffi::AnyBuffer>(index);
    fits_ = fits_ && found.has_value() && Fits(*found, size);
    return fits_ ? Data<float>(*found) : nullptr;
  }
  float* Result(size_t index, int64_t size) {
    auto found = rets_.get<ffi::AnyBuffer>(index);
    fits_ = fits_ && found.has_value() && Fits(**found, size);
    return fits_ ? static_cast<float*>((*found)->untyped_data()) : nullptr;
  }
  bool fit() const { return fits_; }

 private:
  static bool Fits(const ffi::AnyBuffer& buffer, int64_t size) {
    return buffer.element_type() == ffi::F32 &&
           static_cast<int64_t>(buffer.element_count()) == size;
  }

  const ffi::RemainingArgs& args_;
  const ffi::RemainingRets& rets_;
  bool fits_ = true;
};

// Adds the parts of a piece of an array, from element `offset` of it.
void AddParts(const AdamwPart& whole, const float* gradient, int64_t offset,
              int64_t size, std::vector<AdamwPart>& parts) {
  for (int64_t at = 0; at < size; at += kAdamwElements) {
    const int64_t from = offset + at;
    parts.push_back({gradient + at, whole.parameter + from, whole.first + from,
                     whole.second + from, whole.new_parameter + from,
                     whole.new_first + from, whole.new_second + from,
                     std::min(kAdamwElements, size - at), whole.decay});
  }
}

// The operands are the gradients of all arrays, counts[i] of equal pieces of
// array i, and then all parameters, first moments and second moments; the last
// three are the results.
ffi::Error Adamw(ffi::ThreadPool pool, ffi::BufferR1<ffi::F32> numbers,
                 ffi::BufferR0<ffi::F32> also_finite, ffi::RemainingArgs args,
                 ffi::Result<ffi::BufferR1<ffi::F32>> norms,
                 ffi::Result<ffi::BufferR0<ffi::PRED>> skipped,
                 ffi::RemainingRets rets, ffi::Span<const int64_t> counts,
                 ffi::Span<const float> decays) {
  AdamwRule rule;
  const size_t arrays = counts.size();
  const size_t gradients = std::accumulate(counts.begin(), counts.end(), 0);
  if (numbers.element_count() != sizeof rule / sizeof(float) ||
      norms->element_count() != 3 || decays.size() != arrays ||
      rets.size() != 3 * arrays || args.size() != gradients + 3 * arrays) {
    return Invalid("adamw: the number of operands or results is wrong");
  }
  std::memcpy(&rule, numbers.typed_data(), sizeof rule);
  AdamwBuffers buffers(args, rets);
  std::vector<AdamwPart> parts;
  for (size_t array = 0, gradient = 0; array < arrays; ++array) {
    const int64_t size = buffers.SizeOf(gradients + array);
    const auto operand = [&](size_t group) {
      return buffers.Operand(gradients + group * arrays + array, size);
    };
    const auto result = [&](size_t group) {
      return buffers.Result(group * arrays + array, size);
    };
    const AdamwPart whole{nullptr,   operand(0), operand(1), operand(2),
                          result(0), result(1),  result(2),  size,
                          decays[array]};
    for (int64_t piece = 0; piece < counts[array]; ++piece, ++gradient) {
      const int64_t length = size / counts[array];
      const float* from = buffers.Operand(gradient, length);
      if (!buffers.fit() || length * counts[array] != size) {
        return Invalid("adamw: an array does not fit its parameter");
      }
      AddParts(whole, from, piece * length, length, parts);
    }
  }
  const AdamwReport report =
      RunAdamw(pool, rule, *also_finite.typed_data(), parts);
  norms->typed_data()[0] = report.gradient_norm;
  norms->typed_data()[1] = report.update_norm;
  norms->typed_data()[2] = report.parameter_norm;
  *skipped->typed_data() = report.skipped;
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_adamw, Adamw,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR1<ffi::F32>>()
                                  .Arg<ffi::BufferR0<ffi::F32>>()
                                  .RemainingArgs()
                                  .Ret<ffi::BufferR1<ffi::F32>>()
                                  .Ret<ffi::BufferR0<ffi::PRED>>()
                                  .RemainingRets()
                                  .Attr<ffi::Span<const int64_t>>("counts")
                                  .Attr<ffi::Span<const float>>("decays"));
