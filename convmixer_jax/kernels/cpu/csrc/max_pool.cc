// The kernels of max_pool.h, as handlers that XLA calls.

#include "max_pool.h"

#include "buffers.h"
#include "tasks.h"

namespace {

// Checks that y and arrays like it are what the maxima of x are.
ffi::ErrorOr<Pooling> PoolingOf(const ffi::AnyBuffer& x,
                                std::initializer_list<ffi::AnyBuffer> like_x,
                                std::initializer_list<ffi::AnyBuffer> like_y) {
  const auto d = x.dimensions();
  if (d.size() != 4) {
    return ffi::Unexpected(Invalid("max_pool: x is not [B, H, W, C]"));
  }
  const Pooling pooling{d[0], d[1], d[2], d[3]};
  bool fit = Is(x, ffi::F32, {d[0], d[1], d[2], d[3]});
  for (const auto& array : like_x) {
    fit = fit && Is(array, ffi::F32, {d[0], d[1], d[2], d[3]});
  }
  for (const auto& array : like_y) {
    fit = fit && Is(array, ffi::F32,
                    {d[0], pooling.out_height(), pooling.out_width(), d[3]});
  }
  if (!fit) return ffi::Unexpected(Invalid("max_pool: operands do not fit x"));
  return pooling;
}

ffi::Error MaxPool(ffi::ThreadPool pool, ffi::AnyBuffer x,
                   ffi::Result<ffi::AnyBuffer> y) {
  const auto pooling = PoolingOf(x, {}, {*y});
  if (pooling.has_error()) return pooling.error();
  RunAll<MaxPoolWorker>(
      pool,
      {*pooling, Data<float>(x), static_cast<float*>(y->untyped_data())});
  return ffi::Error::Success();
}

ffi::Error MaxPoolGradient(ffi::ThreadPool pool, ffi::AnyBuffer x,
                           ffi::AnyBuffer y, ffi::AnyBuffer g,
                           ffi::Result<ffi::AnyBuffer> dx) {
  const auto pooling = PoolingOf(x, {*dx}, {y, g});
  if (pooling.has_error()) return pooling.error();
  RunAll<MaxPoolGradientWorker>(
      pool, {*pooling, Data<float>(x), Data<float>(y), Data<float>(g),
             static_cast<float*>(dx->untyped_data())});
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_max_pool, MaxPool,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_max_pool_gradient, MaxPoolGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
