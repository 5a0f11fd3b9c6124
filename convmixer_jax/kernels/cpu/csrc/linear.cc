// The kernels of linear.h and linear_gradient.h, as handlers that XLA calls: of
// products, and of convolutions, which are products of windows. What follows
// them is named by `steps`, with its operands and results after theirs; see
// epilogue_operands.h.

#include "linear.h"

#include "buffers.h"
#include "conv_transposed.h"
#include "epilogue_operands.h"
#include "linear_gradient.h"
#include "pack.h"
#include "tasks.h"

namespace {

// Returns whether a buffer is large enough for a packed kernel.
bool HasRoom(const ffi::AnyBuffer& packed, const Matrices& shape) {
  return packed.element_type() == ffi::F32 &&
         static_cast<int64_t>(packed.element_count()) >=
             shape.inner * shape.vectors() * kLanes;
}

// Returns the shape of a product: x is [B, H, W, inner], y [B, H, W, columns].
ffi::ErrorOr<Matrices> ShapeOf(const ffi::AnyBuffer& x,
                               const ffi::AnyBuffer& packed,
                               const ffi::AnyBuffer& y) {
  const auto d = x.dimensions(), e = y.dimensions();
  if (d.size() != 4 || e.size() != 4) {
    return ffi::Unexpected(Invalid("multiply: x or y is not [B, H, W, C]"));
  }
  const Matrices shape{d[0] * d[1] * d[2], d[3], e[3]};
  if (!Is(x, ffi::F32, {d[0], d[1], d[2], d[3]}) ||
      !Is(y, ffi::F32, {d[0], d[1], d[2], e[3]}) || !HasRoom(packed, shape)) {
    return ffi::Unexpected(Invalid("multiply: the operands do not fit x"));
  }
  return shape;
}

// kernel [inner, columns], or if transposed [columns, inner].
ffi::Error PackKernel(ffi::ThreadPool& pool, const ffi::AnyBuffer& kernel,
                      const ffi::AnyBuffer& packed, bool transposed) {
  const auto d = kernel.dimensions();
  if (d.size() != 2) return Invalid("pack: the kernel is not a matrix");
  const Matrices shape{0, d[transposed ? 1 : 0], d[transposed ? 0 : 1]};
  if (kernel.element_type() != ffi::F32 || !HasRoom(packed, shape)) {
    return Invalid("pack: the operands do not fit");
  }
  RunAll<PackWorker>(pool, {Kernel{shape, transposed, Data<float>(kernel)},
                            static_cast<float*>(packed.untyped_data())});
  return ffi::Error::Success();
}

ffi::Error Pack(ffi::ThreadPool pool, ffi::AnyBuffer kernel,
                ffi::Result<ffi::AnyBuffer> packed) {
  return PackKernel(pool, kernel, *packed, false);
}

ffi::Error Multiply(ffi::ThreadPool pool, ffi::AnyBuffer x,
                    ffi::AnyBuffer packed, ffi::RemainingArgs operands,
                    ffi::Result<ffi::AnyBuffer> y, ffi::RemainingRets results,
                    std::string_view steps) {
  const auto shape = ShapeOf(x, packed, *y);
  if (shape.has_error()) return shape.error();
  const auto epilogue = EpilogueOf(steps, *shape, operands, results);
  if (epilogue.has_error()) return epilogue.error();
  const MatrixRows rows{Data<float>(x), shape->inner};
  RunAll<MultiplyWorker<MatrixRows>>(
      pool, {*shape, pool.num_threads(), rows, Data<float>(packed),
             static_cast<float*>(y->untyped_data()), *epilogue});
  return ffi::Error::Success();
}

// Both, so that a kernel is packed just before its use.
ffi::Error Product(ffi::ThreadPool pool, ffi::AnyBuffer x,
                   ffi::AnyBuffer kernel, ffi::RemainingArgs operands,
                   ffi::Result<ffi::AnyBuffer> y,
                   ffi::Result<ffi::AnyBuffer> packed,
                   ffi::RemainingRets results, bool transposed,
                   std::string_view steps) {
  const ffi::Error error = PackKernel(pool, kernel, *packed, transposed);
  if (error.failure()) return error;
  return Multiply(pool, x, *packed, operands, y, results, steps);
}

// x [B, H, W, inner], dy [B, H, W, columns], dkernel [inner, columns], and if
// inner is not 0 perhaps dbias [columns].
ffi::Error LinearGradient(ffi::ThreadPool pool, ffi::AnyBuffer x,
                          ffi::AnyBuffer dy,
                          ffi::Result<ffi::AnyBuffer> dkernel,
                          ffi::RemainingRets others) {
  const auto d = x.dimensions(), e = dy.dimensions();
  if (d.size() != 4 || e.size() != 4) {
    return Invalid("linear_gradient: x or dy is not [B, H, W, C]");
  }
  if (!Is(x, ffi::F32, {d[0], d[1], d[2], d[3]}) ||
      !Is(dy, ffi::F32, {d[0], d[1], d[2], e[3]}) ||
      !Is(*dkernel, ffi::F32, {d[3], e[3]})) {
    return Invalid("linear_gradient: the operands do not fit x");
  }
  float* dbias = nullptr;
  if (others.size() > 0) {
    auto buffer = others.get<ffi::AnyBuffer>(0);
    if (!buffer.has_value() || !Is(**buffer, ffi::F32, {e[3]}) || d[3] == 0) {
      return Invalid("linear_gradient: dbias does not fit");
    }
    dbias = static_cast<float*>((*buffer)->untyped_data());
  }
  const Matrices shape{d[3], d[0] * d[1] * d[2], e[3]};
  const MatrixRows rows{Data<float>(x), d[3]};
  RunAll<LinearGradientWorker<MatrixRows>>(
      pool, {shape, pool.num_threads(), rows, Data<float>(dy),
             static_cast<float*>(dkernel->untyped_data()), dbias});
  return ffi::Error::Success();
}

// Returns the windows of x [B, H, W, I] for a result like y [B, h, w, O] and a
// kernel [size, size, I, O].
ffi::ErrorOr<Windows> WindowsOf(const ffi::AnyBuffer& x,
                                const ffi::AnyBuffer& kernel,
                                const ffi::AnyBuffer& y, int64_t stride,
                                int64_t padding) {
  const auto d = x.dimensions(), e = y.dimensions(), k = kernel.dimensions();
  if (d.size() != 4 || e.size() != 4 || k.size() != 4) {
    return ffi::Unexpected(Invalid("conv: an operand has not 4 axes"));
  }
  if (!Is(x, ffi::F32, {d[0], d[1], d[2], d[3]}) ||
      !Is(y, ffi::F32, {d[0], e[1], e[2], e[3]}) ||
      !Is(kernel, ffi::F32, {k[0], k[0], d[3], e[3]}) || stride < 1) {
    return ffi::Unexpected(Invalid("conv: the operands do not fit x"));
  }
  return Windows{Data<float>(x), d[1], d[2],   d[3],   e[1],
                 e[2],           k[0], stride, padding, padding};
}

// x [B, H, W, I], kernel [size, size, I, O], y [B, h, w, O].
ffi::Error Conv(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer kernel,
                ffi::RemainingArgs operands, ffi::Result<ffi::AnyBuffer> y,
                ffi::Result<ffi::AnyBuffer> packed, ffi::RemainingRets results,
                int64_t stride, int64_t padding, std::string_view steps) {
  const auto windows = WindowsOf(x, kernel, *y, stride, padding);
  if (windows.has_error()) return windows.error();
  const auto d = y->dimensions(), k = kernel.dimensions();
  const Matrices shape{d[0] * d[1] * d[2], k[0] * k[1] * k[2], d[3]};
  if (!HasRoom(*packed, shape)) return Invalid("conv: no room for the kernel");
  const auto epilogue = EpilogueOf(steps, shape, operands, results);
  if (epilogue.has_error()) return epilogue.error();
  float* to = static_cast<float*>(packed->untyped_data());
  RunAll<PackWorker>(pool, {Kernel{shape, false, Data<float>(kernel)}, to});
  RunAll<MultiplyWorker<Windows>>(
      pool, {shape, pool.num_threads(), *windows, to,
             static_cast<float*>(y->untyped_data()), *epilogue});
  return ffi::Error::Success();
}

// dy [B, h, w, O], kernel [size, size, I, O], dx [B, H, W, I]. With a stride,
// `phases` has room for as many values as dx.
ffi::Error ConvTransposedFrom(ffi::ThreadPool pool, ffi::AnyBuffer dy,
                              ffi::AnyBuffer kernel,
                              ffi::Result<ffi::AnyBuffer> dx,
                              ffi::Result<ffi::AnyBuffer> packed,
                              ffi::Result<ffi::AnyBuffer> phases,
                              int64_t stride, int64_t padding) {
  const auto windows = WindowsOf(*dx, kernel, dy, stride, padding);
  if (windows.has_error()) return windows.error();
  const auto d = dx->dimensions(), e = dy.dimensions(), k = kernel.dimensions();
  const Matrices shape{0, k[0] * k[1] * e[3], d[3]};
  if (padding < 0 || !HasRoom(*packed, shape) ||
      phases->element_type() != ffi::F32 ||
      (stride > 1 && phases->element_count() < dx->element_count())) {
    return Invalid("conv_transposed: the operands do not fit dx");
  }
  ConvTransposed(
      pool,
      {d[0], d[1], d[2], d[3], e[1], e[2], e[3], k[0], stride, padding},
      Data<float>(dy), Data<float>(kernel),
      static_cast<float*>(packed->untyped_data()),
      static_cast<float*>(phases->untyped_data()),
      static_cast<float*>(dx->untyped_data()));
  return ffi::Error::Success();
}

// x [B, H, W, I], dy [B, h, w, O], dkernel [size, size, I, O].
ffi::Error ConvGradient(ffi::ThreadPool pool, ffi::AnyBuffer x,
                        ffi::AnyBuffer dy, ffi::Result<ffi::AnyBuffer> dkernel,
                        int64_t stride, int64_t padding) {
  const auto windows = WindowsOf(x, *dkernel, dy, stride, padding);
  if (windows.has_error()) return windows.error();
  const auto d = dy.dimensions(), k = dkernel->dimensions();
  const Matrices shape{k[0] * k[1] * k[2], d[0] * d[1] * d[2], d[3]};
  RunAll<LinearGradientWorker<Windows>>(
      pool, {shape, pool.num_threads(), *windows, Data<float>(dy),
             static_cast<float*>(dkernel->untyped_data())});
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_pack, Pack,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_multiply, Multiply,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .RemainingRets()
                                  .Attr<std::string_view>("steps"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_product, Product,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .RemainingRets()
                                  .Attr<bool>("transposed")
                                  .Attr<std::string_view>("steps"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_linear_gradient, LinearGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .RemainingRets());

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_conv_gradient, ConvGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("padding"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_conv_transposed, ConvTransposedFrom,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("padding"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_conv, Conv,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .RemainingRets()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("padding")
                                  .Attr<std::string_view>("steps"));
