// The step of adamw.h, as a handler that XLA calls.

#include "adamw.h"

#include "buffers.h"

namespace {

// Adds the parts of an array; `pieces` gradients are of equal pieces of it.
void AddParts(const float* const* gradients, int64_t pieces, int64_t size,
              AdamwPart part, std::vector<AdamwPart>& parts) {
  const int64_t length = pieces == 0 ? 0 : size / pieces;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    for (int64_t at = 0; at < length; at += kAdamwElements) {
      const int64_t from = piece * length + at;
      parts.push_back({gradients[piece] + at, part.parameter + from,
                       part.first + from, part.second + from,
                       part.new_parameter + from, part.new_first + from,
                       part.new_second + from,
                       std::min(kAdamwElements, length - at), part.decay});
    }
  }
}

ffi::Error Adamw(ffi::ThreadPool pool, ffi::BufferR1<ffi::F32> numbers,
                 ffi::BufferR0<ffi::F32> also_finite, ffi::RemainingArgs args,
                 ffi::Result<ffi::BufferR1<ffi::F32>> norms,
                 ffi::Result<ffi::BufferR0<ffi::PRED>> skipped,
                 ffi::RemainingRets rets, ffi::Span<const int64_t> counts,
                 ffi::Span<const float> decays) {
  AdamwRule rule;
  constexpr size_t kNumbers = sizeof(rule) / sizeof(float);
  const size_t arrays = counts.size();
  if (numbers.element_count() != kNumbers || norms->element_count() != 3 ||
      decays.size() != arrays || rets.size() != 3 * arrays) {
    return Invalid("adamw: the number of operands or results is wrong");
  }
  std::memcpy(&rule, numbers.typed_data(), sizeof rule);
  size_t num_gradients = 0;
  for (const int64_t count : counts) num_gradients += count;
  if (args.size() != num_gradients + 3 * arrays) {
    return Invalid("adamw: the number of gradients is wrong");
  }
  std::vector<const float*> gradients(num_gradients);
  std::vector<AdamwPart> parts;
  for (size_t array = 0, first = 0; array < arrays; ++array) {
    const auto parameter = *args.get<ffi::AnyBuffer>(num_gradients + array);
    const int64_t size = parameter.element_count();
    bool fits = true;
    const auto operand = [&](size_t group) {
      const auto found =
          *args.get<ffi::AnyBuffer>(num_gradients + group * arrays + array);
      fits = fits && found.element_type() == ffi::F32 &&
             static_cast<int64_t>(found.element_count()) == size;
      return Data<float>(found);
    };
    const auto result = [&](size_t group) {
      auto found = *rets.get<ffi::AnyBuffer>(group * arrays + array);
      fits = fits && found->element_type() == ffi::F32 &&
             static_cast<int64_t>(found->element_count()) == size;
      return static_cast<float*>(found->untyped_data());
    };
    for (int64_t piece = 0; piece < counts[array]; ++piece) {
      const auto found = *args.get<ffi::AnyBuffer>(first + piece);
      fits = fits && found.element_type() == ffi::F32 &&
             static_cast<int64_t>(found.element_count()) * counts[array] ==
                 size;
      gradients[first + piece] = Data<float>(found);
    }
    const AdamwPart whole{nullptr,   operand(0), operand(1), operand(2),
                          result(0), result(1),  result(2),  size,
                          decays[array]};
    if (!fits) return Invalid("adamw: an array does not fit its parameter");
    AddParts(gradients.data() + first, counts[array], size, whole, parts);
    first += counts[array];
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
