// The kernel of transpose.h, as a handler that XLA calls.

#include "transpose.h"

#include "buffers.h"
#include "tasks.h"

namespace {

ffi::Error Transpose(ffi::ThreadPool pool, ffi::AnyBuffer x,
                     ffi::Result<ffi::AnyBuffer> y) {
  const auto d = x.dimensions();
  if (d.size() != 3 || !Is(x, ffi::F32, {d[0], d[1], d[2]}) ||
      !Is(*y, ffi::F32, {d[0], d[2], d[1]})) {
    return Invalid("transpose: x is not [B, N, C], or y is not its transpose");
  }
  RunAll<TransposeWorker>(
      pool, {{d[0], d[1], d[2]}, Data<float>(x),
             static_cast<float*>(y->untyped_data())});
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_transpose, Transpose,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
