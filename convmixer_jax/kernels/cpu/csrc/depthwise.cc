// The convolution's kernels, as handlers that XLA calls.
//
// Compiled for each kernel size, with -DKERNEL_SIZE=k, when it is first used.

#include "buffers.h"
#include "correlate.h"
#include "kernel_gradient.h"
#include "tasks.h"

namespace {

bool IsPadding(int64_t pad_before) {
  return pad_before >= 0 && pad_before < kSize;
}

ffi::Error Correlate(ffi::ThreadPool pool, ffi::AnyBuffer x,
                     ffi::AnyBuffer kernel, ffi::AnyBuffer bias,
                     ffi::Result<ffi::AnyBuffer> y, int64_t pad_before) {
  const auto d = x.dimensions();
  if (d.size() != 4) return Invalid("correlate: x is not [B, H, W, C]");
  const Shape shape{d[0], d[1], d[2], d[3]};
  const auto dtype = x.element_type();
  if (!Is(kernel, dtype, {kSize, kSize, d[3]}) || !Is(bias, dtype, {d[3]}) ||
      !Is(*y, dtype, {d[0], d[1], d[2], d[3]}) || !IsPadding(pad_before)) {
    return Invalid("correlate: the operands do not fit x");
  }
  return WithDtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    RunAll<CorrelateWorker<T>>(
        pool, {shape, pad_before, Data<T>(x), Data<T>(kernel), Data<T>(bias),
               static_cast<T*>(y->untyped_data()), {}});
  });
}

ffi::Error FusedMixer(ffi::ThreadPool pool, ffi::AnyBuffer p,
                      ffi::AnyBuffer p_bias, ffi::AnyBuffer p_factor,
                      ffi::AnyBuffer p_shift, ffi::AnyBuffer kernel,
                      ffi::AnyBuffer bias, ffi::AnyBuffer factor,
                      ffi::Result<ffi::AnyBuffer> y, int64_t pad_before,
                      int64_t activation) {
  const auto d = p.dimensions();
  if (d.size() != 4) return Invalid("fused_mixer: p is not [B, H, W, C]");
  const Shape shape{d[0], d[1], d[2], d[3]};
  const auto dtype = p.element_type();
  bool fit = Is(kernel, dtype, {kSize, kSize, d[3]}) &&
             Is(bias, dtype, {d[3]}) && IsPadding(pad_before) &&
             Is(*y, dtype, {d[0], d[1], d[2], d[3]});
  for (const auto& channels : {p_bias, p_factor, p_shift, factor}) {
    fit = fit && Is(channels, ffi::F32, {d[3]});
  }
  if (!fit) return Invalid("fused_mixer: the operands do not fit p");
  return WithActivation(activation, [&](auto function) {
    return WithDtype(dtype, [&](auto zero) {
      using T = decltype(zero);
      RunAll<CorrelateWorker<T, MixerFusion<decltype(function)>>>(
          pool, {shape,
                 pad_before,
                 Data<T>(p),
                 Data<T>(kernel),
                 Data<T>(bias),
                 static_cast<T*>(y->untyped_data()),
                 {Data<float>(p_bias), Data<float>(p_factor),
                  Data<float>(p_shift), Data<float>(factor)}});
    });
  });
}

ffi::Error KernelGradient(ffi::ThreadPool pool, ffi::AnyBuffer x,
                           ffi::AnyBuffer dy, ffi::ResultBuffer<ffi::F32> sums,
                           int64_t pad_before) {
  const auto d = x.dimensions();
  if (d.size() != 4) return Invalid("kernel_gradient: x is not [B, H, W, C]");
  const Shape shape{d[0], d[1], d[2], d[3]};
  const auto s = sums->dimensions();
  const auto dtype = x.element_type();
  if (!Is(dy, dtype, {d[0], d[1], d[2], d[3]}) || s.size() != 3 ||
      s[1] != kSize * kSize + 1 || s[2] != d[3] || !IsPadding(pad_before)) {
    return Invalid("kernel_gradient: the operands do not fit x");
  }
  return WithDtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    RunAll<KernelGradientWorker<T>>(
        pool,
        {shape, pad_before, s[0], Data<T>(x), Data<T>(dy), sums->typed_data()});
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_correlate, Correlate,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("pad_before"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_fused_mixer, FusedMixer,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("pad_before")
                                  .Attr<int64_t>("activation"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_kernel_gradient, KernelGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("pad_before"));
