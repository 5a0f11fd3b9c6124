// The kernels of attention.h, as handlers that XLA calls.

#include "attention.h"

#include "buffers.h"
#include "tasks.h"

namespace {

// Checks qkv [B, N, 3, heads, D], arrays [B, N, heads, D], and probabilities
// [B, heads, N, N].
bool Fit(const ffi::AnyBuffer& qkv,
         std::initializer_list<ffi::AnyBuffer> like_y,
         std::initializer_list<ffi::AnyBuffer> probabilities) {
  const auto d = qkv.dimensions();
  if (d.size() != 5 || !Is(qkv, ffi::F32, {d[0], d[1], 3, d[3], d[4]})) {
    return false;
  }
  for (const auto& array : like_y) {
    if (!Is(array, ffi::F32, {d[0], d[1], d[3], d[4]})) return false;
  }
  for (const auto& array : probabilities) {
    if (!Is(array, ffi::F32, {d[0], d[3], d[1], d[1]})) return false;
  }
  return true;
}

Heads Of(const ffi::AnyBuffer& qkv) {
  const auto d = qkv.dimensions();
  return {d[0], d[1], d[3], d[4]};
}

float* Out(ffi::Result<ffi::AnyBuffer>& buffer) {
  return static_cast<float*>(buffer->untyped_data());
}

ffi::Error Attention(ffi::ThreadPool pool, ffi::AnyBuffer qkv,
                     ffi::Result<ffi::AnyBuffer> y) {
  if (!Fit(qkv, {*y}, {})) return Invalid("attention: operands do not fit");
  RunAll<AttentionWorker>(pool, {Of(qkv), Data<float>(qkv), Out(y), nullptr});
  return ffi::Error::Success();
}

ffi::Error AttentionForward(ffi::ThreadPool pool, ffi::AnyBuffer qkv,
                            ffi::Result<ffi::AnyBuffer> y,
                            ffi::Result<ffi::AnyBuffer> p) {
  if (!Fit(qkv, {*y}, {*p})) {
    return Invalid("attention_forward: operands do not fit");
  }
  RunAll<AttentionWorker>(pool, {Of(qkv), Data<float>(qkv), Out(y), Out(p)});
  return ffi::Error::Success();
}

ffi::Error AttentionGradient(ffi::ThreadPool pool, ffi::AnyBuffer qkv,
                             ffi::AnyBuffer p, ffi::AnyBuffer y,
                             ffi::AnyBuffer g,
                             ffi::Result<ffi::AnyBuffer> dqkv) {
  if (!Fit(qkv, {y, g}, {p}) || !Fit(*dqkv, {y}, {})) {
    return Invalid("attention_gradient: operands do not fit");
  }
  RunAll<AttentionGradientWorker>(
      pool, {Of(qkv), Data<float>(qkv), Data<float>(p), Data<float>(y),
             Data<float>(g), Out(dqkv)});
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_attention, Attention,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_attention_forward, AttentionForward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_attention_gradient, AttentionGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
