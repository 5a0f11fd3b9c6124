// The kernels of norm.h, as handlers that XLA calls.

#include "norm.h"

#include "buffers.h"
#include "tasks.h"

namespace {

using FloatBuffer = ffi::Buffer<ffi::F32>;
using FloatResult = ffi::ResultBuffer<ffi::F32>;

std::vector<int64_t> Dimensions(const ffi::AnyBuffer& x) {
  const auto d = x.dimensions();
  return {d.begin(), d.end()};
}

// Checks x [B, H, W, C], arrays like x, bias [C], and rows [B, C].
bool Fit(const ffi::AnyBuffer& x, const ffi::AnyBuffer& bias,
         std::initializer_list<ffi::AnyBuffer> like_x,
         std::initializer_list<ffi::AnyBuffer> rows) {
  const auto d = Dimensions(x);
  if (d.size() != 4 || !Is(bias, ffi::F32, {d[3]})) return false;
  for (const auto& array : like_x) {
    if (!Is(array, x.element_type(), d)) return false;
  }
  for (const auto& array : rows) {
    if (!Is(array, ffi::F32, {d[0], d[3]})) return false;
  }
  return true;
}

Images Of(const ffi::AnyBuffer& x) {
  const auto d = x.dimensions();
  return {d[0], d[1] * d[2], d[3]};
}

// Calls run(zero of x's dtype, activation).
template <typename F>
ffi::Error Run(const ffi::AnyBuffer& x, int64_t activation, F run) {
  return WithActivation(activation, [&](auto function) {
    return WithDtype(x.element_type(),
                     [&](auto zero) { run(zero, function); });
  });
}

ffi::Error Moments(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer bias,
                   FloatResult sums, int64_t activation) {
  if (!Fit(x, bias, {}, {})) return Invalid("moments: operands do not fit");
  return Run(x, activation, [&](auto zero, auto function) {
    using T = decltype(zero);
    RunAll<SumsWorker<T, decltype(function), false>>(
        pool, {Of(x), Data<T>(x), Data<float>(bias), nullptr,
               sums->typed_data()});
  });
}

ffi::Error Products(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer bias,
                    ffi::AnyBuffer g, FloatResult sums, int64_t activation) {
  if (!Fit(x, bias, {g}, {})) return Invalid("products: operands do not fit");
  const auto run = [&](auto zero, auto function) {
    using T = decltype(zero);
    RunAll<SumsWorker<T, decltype(function), true>>(
        pool, {Of(x), Data<T>(x), Data<float>(bias), Data<T>(g),
               sums->typed_data()});
  };
  // Only these are also for layers without an activation.
  if (activation == kNoActivation) {
    return WithDtype(x.element_type(),
                     [&](auto zero) { run(zero, NoActivation()); });
  }
  return Run(x, activation, run);
}

ffi::Error Affine(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer bias,
                  ffi::AnyBuffer factor, ffi::AnyBuffer shift,
                  ffi::Result<ffi::AnyBuffer> y, int64_t activation) {
  if (!Fit(x, bias, {*y}, {factor, shift})) {
    return Invalid("affine: operands do not fit");
  }
  return Run(x, activation, [&](auto zero, auto function) {
    using T = decltype(zero);
    RunAll<AffineWorker<T, decltype(function), false>>(
        pool, {Of(x), Data<T>(x), Data<float>(bias), Data<float>(factor),
               Data<float>(shift), nullptr,
               static_cast<T*>(y->untyped_data())});
  });
}

ffi::Error AffineResidual(ffi::ThreadPool pool, ffi::AnyBuffer x,
                          ffi::AnyBuffer bias, ffi::AnyBuffer factor,
                          ffi::AnyBuffer shift, ffi::AnyBuffer residual,
                          ffi::Result<ffi::AnyBuffer> y, int64_t activation) {
  if (!Fit(x, bias, {residual, *y}, {factor, shift})) {
    return Invalid("affine_residual: operands do not fit");
  }
  return Run(x, activation, [&](auto zero, auto function) {
    using T = decltype(zero);
    RunAll<AffineWorker<T, decltype(function), true>>(
        pool, {Of(x), Data<T>(x), Data<float>(bias), Data<float>(factor),
               Data<float>(shift), Data<T>(residual),
               static_cast<T*>(y->untyped_data())});
  });
}

ffi::Error Gradient(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer bias,
                    ffi::AnyBuffer g, ffi::AnyBuffer p, ffi::AnyBuffer q,
                    ffi::AnyBuffer r, ffi::Result<ffi::AnyBuffer> dx,
                    FloatResult sums, int64_t activation) {
  if (!Fit(x, bias, {g, *dx}, {p, q, r})) {
    return Invalid("gradient: operands do not fit");
  }
  return Run(x, activation, [&](auto zero, auto function) {
    using T = decltype(zero);
    RunAll<GradientWorker<T, decltype(function)>>(
        pool, {Of(x), Data<T>(x), Data<float>(bias), Data<T>(g),
               Data<float>(p), Data<float>(q), Data<float>(r),
               static_cast<T*>(dx->untyped_data()), sums->typed_data()});
  });
}

auto Operands() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::AnyBuffer>()   // x
      .Arg<ffi::AnyBuffer>();  // bias
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    convmixer_moments, Moments,
    Operands().Ret<FloatBuffer>().Attr<int64_t>("activation"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_products, Products,
                              Operands()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<FloatBuffer>()
                                  .Attr<int64_t>("activation"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_affine, Affine,
                              Operands()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("activation"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_affine_residual, AffineResidual,
                              Operands()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("activation"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_gradient, Gradient,
                              Operands()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<FloatBuffer>()
                                  .Attr<int64_t>("activation"));
