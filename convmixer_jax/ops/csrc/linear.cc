// The product of linear.h as XLA calls it.

#include "linear.h"

#include "buffers.h"
#include "tasks.h"

namespace {

// x [B, H, W, inner], kernel [inner, columns], or if transposed its transpose;
// y [B, H, W, columns]; packed has room for the kernel, columns filled up to
// whole Vecs.
ffi::Error Linear(ffi::ThreadPool pool, ffi::AnyBuffer x,
                  ffi::AnyBuffer kernel, ffi::Result<ffi::AnyBuffer> y,
                  ffi::Result<ffi::AnyBuffer> packed, bool transposed) {
  const auto d = x.dimensions(), k = kernel.dimensions();
  if (d.size() != 4 || k.size() != 2) {
    return Invalid("linear: x is not [B, H, W, C], or the kernel no matrix");
  }
  const Matrices shape{d[0] * d[1] * d[2], d[3], k[transposed ? 0 : 1]};
  const int64_t room = shape.inner * shape.vectors() * kLanes;
  if (x.element_type() != ffi::F32 || kernel.element_type() != ffi::F32 ||
      k[transposed ? 1 : 0] != shape.inner ||
      !Is(*y, ffi::F32, {d[0], d[1], d[2], shape.columns}) ||
      packed->element_type() != ffi::F32 ||
      static_cast<int64_t>(packed->element_count()) < room) {
    return Invalid("linear: the operands do not fit x");
  }
  float* const panels = static_cast<float*>(packed->untyped_data());
  RunAll<PackWorker>(pool, {shape, transposed, Data<float>(kernel), panels});
  RunAll<MultiplyWorker>(pool, {shape, pool.num_threads(), Data<float>(x),
                                panels,
                                static_cast<float*>(y->untyped_data())});
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_linear, Linear,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("transposed"));
