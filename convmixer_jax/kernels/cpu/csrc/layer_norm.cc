// The kernels of layer_norm.h, as handlers that XLA calls.

#include "layer_norm.h"

#include "buffers.h"
#include "tasks.h"

namespace {

constexpr int64_t kBlockRows = 16;  // of a task, forward

// Checks x [B, N, C], arrays [B, N, C], [B, N] and [C].
bool Fit(const ffi::AnyBuffer& x, std::initializer_list<ffi::AnyBuffer> like_x,
         std::initializer_list<ffi::AnyBuffer> statistics,
         std::initializer_list<ffi::AnyBuffer> channels) {
  const auto d = x.dimensions();
  if (d.size() != 3 || !Is(x, ffi::F32, {d[0], d[1], d[2]})) return false;
  for (const auto& array : like_x) {
    if (!Is(array, ffi::F32, {d[0], d[1], d[2]})) return false;
  }
  for (const auto& array : statistics) {
    if (!Is(array, ffi::F32, {d[0], d[1]})) return false;
  }
  for (const auto& array : channels) {
    if (!Is(array, ffi::F32, {d[2]})) return false;
  }
  return true;
}

float* Out(ffi::Result<ffi::AnyBuffer>& buffer) {
  return static_cast<float*>(buffer->untyped_data());
}

ffi::Error LayerNorm(ffi::ThreadPool pool, ffi::AnyBuffer x,
                     ffi::AnyBuffer scale, ffi::AnyBuffer offset,
                     ffi::Result<ffi::AnyBuffer> y,
                     ffi::Result<ffi::AnyBuffer> mean,
                     ffi::Result<ffi::AnyBuffer> inverse, float epsilon) {
  if (!Fit(x, {*y}, {*mean, *inverse}, {scale, offset})) {
    return Invalid("layer_norm: operands do not fit");
  }
  const auto d = x.dimensions();
  RunAll<LayerNormWorker>(
      pool, {{d[0] * d[1], d[2], kBlockRows}, epsilon, Data<float>(x),
             Data<float>(scale), Data<float>(offset), Out(y), Out(mean),
             Out(inverse)});
  return ffi::Error::Success();
}

// The last result has room for the sums of each block of rows, [blocks, 2, C].
ffi::Error LayerNormGradient(ffi::ThreadPool pool, ffi::AnyBuffer x,
                             ffi::AnyBuffer mean, ffi::AnyBuffer inverse,
                             ffi::AnyBuffer scale, ffi::AnyBuffer g,
                             ffi::Result<ffi::AnyBuffer> dx,
                             ffi::Result<ffi::AnyBuffer> dscale,
                             ffi::Result<ffi::AnyBuffer> doffset,
                             ffi::Result<ffi::AnyBuffer> sums) {
  const auto d = x.dimensions(), s = sums->dimensions();
  if (!Fit(x, {g, *dx}, {mean, inverse}, {scale, *dscale, *doffset}) ||
      s.size() != 3 || s[0] < 1 || !Is(*sums, ffi::F32, {s[0], 2, d[2]})) {
    return Invalid("layer_norm_gradient: operands do not fit");
  }
  const int64_t rows = d[0] * d[1];
  const TokenBlocks blocks{rows, d[2],
                           std::max<int64_t>(CeilDiv(rows, s[0]), 1)};
  RunAll<LayerNormGradientWorker>(
      pool, {blocks, Data<float>(x), Data<float>(mean), Data<float>(inverse),
             Data<float>(scale), Data<float>(g), Out(dx), Out(sums)});
  AddBlocks(blocks.tasks(), d[2], Out(sums), Out(dscale), Out(doffset));
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_layer_norm, LayerNorm,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<float>("epsilon"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_layer_norm_gradient, LayerNormGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
