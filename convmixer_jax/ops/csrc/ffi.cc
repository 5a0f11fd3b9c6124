// The kernels as XLA calls them: checks of the buffers and dtypes.
//
// Compiled once for each kernel size, with -DKERNEL_SIZE=k, at its first use.

#include <initializer_list>

#include "correlate.h"
#include "correlate_kernel.h"
#include "tasks.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

ffi::Error Invalid(const char* message) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, message);
}

bool Is(const ffi::AnyBuffer& buffer, ffi::DataType dtype,
        std::initializer_list<int64_t> dimensions) {
  const auto found = buffer.dimensions();
  return buffer.element_type() == dtype &&
         std::equal(found.begin(), found.end(), dimensions.begin(),
                    dimensions.end());
}

ffi::Error Correlate(ffi::ThreadPool pool, ffi::AnyBuffer x,
                     ffi::AnyBuffer kernel, ffi::AnyBuffer bias,
                     ffi::Result<ffi::AnyBuffer> y, int64_t low) {
  const auto d = x.dimensions();
  if (d.size() != 4) return Invalid("correlate: x is not [B, H, W, C]");
  const Shape shape{d[0], d[1], d[2], d[3]};
  const auto dtype = x.element_type();
  if (!Is(kernel, dtype, {kSize, kSize, d[3]}) || !Is(bias, dtype, {d[3]}) ||
      !Is(*y, dtype, {d[0], d[1], d[2], d[3]}) || low < 0 || low >= kSize) {
    return Invalid("correlate: the operands do not fit x");
  }
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    RunAll<CorrelateWorker<T>>(
        pool, {shape, low, static_cast<const T*>(x.untyped_data()),
               static_cast<const T*>(kernel.untyped_data()),
               static_cast<const T*>(bias.untyped_data()),
               static_cast<T*>(y->untyped_data())});
    return ffi::Error::Success();
  };
  if (dtype == ffi::F32) return run(float{});
  if (dtype == ffi::BF16) return run(BFloat16{});
  return Invalid("correlate: x is neither float32 nor bfloat16");
}

ffi::Error CorrelateKernel(ffi::ThreadPool pool, ffi::AnyBuffer x,
                           ffi::AnyBuffer dy, ffi::ResultBuffer<ffi::F32> sums,
                           int64_t low) {
  const auto d = x.dimensions();
  if (d.size() != 4) return Invalid("correlate_kernel: x is not [B, H, W, C]");
  const Shape shape{d[0], d[1], d[2], d[3]};
  const auto s = sums->dimensions();
  const auto dtype = x.element_type();
  if (!Is(dy, dtype, {d[0], d[1], d[2], d[3]}) || s.size() != 3 ||
      s[1] != kSize * kSize + 1 || s[2] != d[3] || low < 0 || low >= kSize) {
    return Invalid("correlate_kernel: the operands do not fit x");
  }
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    RunAll<CorrelateKernelWorker<T>>(
        pool, {shape, low, s[0], static_cast<const T*>(x.untyped_data()),
               static_cast<const T*>(dy.untyped_data()), sums->typed_data()});
    return ffi::Error::Success();
  };
  if (dtype == ffi::F32) return run(float{});
  if (dtype == ffi::BF16) return run(BFloat16{});
  return Invalid("correlate_kernel: x is neither float32 nor bfloat16");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_correlate, Correlate,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("low"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_correlate_kernel, CorrelateKernel,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("low"));
