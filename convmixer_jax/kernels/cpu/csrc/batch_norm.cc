// The kernels of batch_norm.h, as handlers that XLA calls.

#include "batch_norm.h"

#include "buffers.h"
#include "tasks.h"

namespace {

using Buffer = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;

// Returns the shape of x [B, H, W, C], if the others are like x, rows [B, C]
// and pairs [B, 2, C], in float32.
ffi::ErrorOr<Images> ShapeOf(const Buffer& x, const std::vector<Buffer>& like_x,
                             const std::vector<Buffer>& rows,
                             const std::vector<Buffer>& pairs) {
  const auto found = x.dimensions();
  const std::vector<int64_t> d(found.begin(), found.end());
  bool fit = d.size() == 4 && Is(x, ffi::F32, d);
  for (const auto& array : like_x) fit = fit && Is(array, ffi::F32, d);
  for (const auto& row : rows) fit = fit && Is(row, ffi::F32, {d[0], d[3]});
  for (const auto& pair : pairs) {
    fit = fit && Is(pair, ffi::F32, {d[0], 2, d[3]});
  }
  if (!fit) return ffi::Unexpected(Invalid("batch_norm: operands do not fit"));
  return Images{d[0], d[1] * d[2], d[3]};
}

// Returns the operands that a call may have after the others.
std::vector<Buffer> Optional(const ffi::RemainingArgs& arguments) {
  std::vector<Buffer> found;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (const auto array = arguments.get<Buffer>(i)) found.push_back(*array);
  }
  return found;
}

std::vector<Buffer> Optional(const ffi::RemainingRets& results) {
  std::vector<Buffer> found;
  for (size_t i = 0; i < results.size(); ++i) {
    if (auto array = results.get<Buffer>(i)) found.push_back(**array);
  }
  return found;
}

// Returns where an optional array is, or nullptr.
float* First(const std::vector<Buffer>& arrays) {
  return arrays.empty() ? nullptr
                        : static_cast<float*>(arrays[0].untyped_data());
}

float* To(Result& result) {
  return static_cast<float*>(result->untyped_data());
}

ffi::Error Moments(ffi::ThreadPool pool, Buffer x, Result sums) {
  const auto shape = ShapeOf(x, {}, {}, {*sums});
  if (shape.has_error()) return shape.error();
  RunAll<MomentsWorker>(pool, {*shape, Data<float>(x), To(sums)});
  return ffi::Error::Success();
}

// The residual is optional.
ffi::Error Affine(ffi::ThreadPool pool, Buffer x, Buffer factor, Buffer shift,
                  ffi::RemainingArgs optional, Result y, bool relu) {
  auto like_x = Optional(optional);
  const float* residual = First(like_x);
  like_x.push_back(*y);
  const auto shape = ShapeOf(x, like_x, {factor, shift}, {});
  if (shape.has_error()) return shape.error();
  const BatchNormAffineArguments arguments{
      *shape,   Data<float>(x), Data<float>(factor), Data<float>(shift),
      residual, To(y)};
  if (residual != nullptr && relu) {
    RunAll<BatchNormAffineWorker<true, true>>(pool, arguments);
  } else if (residual != nullptr) {
    RunAll<BatchNormAffineWorker<true, false>>(pool, arguments);
  } else if (relu) {
    RunAll<BatchNormAffineWorker<false, true>>(pool, arguments);
  } else {
    RunAll<BatchNormAffineWorker<false, false>>(pool, arguments);
  }
  return ffi::Error::Success();
}

// y is optional, and if it is given, the masked g is too.
ffi::Error Products(ffi::ThreadPool pool, Buffer x, Buffer g,
                    ffi::RemainingArgs optional, Result sums,
                    ffi::RemainingRets optional_results) {
  auto like_x = Optional(optional);
  const auto results = Optional(optional_results);
  const float* y = First(like_x);
  float* masked = First(results);
  like_x.push_back(g);
  like_x.insert(like_x.end(), results.begin(), results.end());
  const auto shape = ShapeOf(x, like_x, {}, {*sums});
  if (shape.has_error()) return shape.error();
  const ProductsArguments arguments{*shape, Data<float>(x), Data<float>(g),
                                    y,      To(sums),       masked};
  if (y == nullptr) {
    RunAll<ProductsWorker<false, false>>(pool, arguments);
  } else if (masked == nullptr) {
    RunAll<ProductsWorker<true, false>>(pool, arguments);
  } else {
    RunAll<ProductsWorker<true, true>>(pool, arguments);
  }
  return ffi::Error::Success();
}

// y is optional.
ffi::Error Gradient(ffi::ThreadPool pool, Buffer x, Buffer g, Buffer p,
                    Buffer q, Buffer r, ffi::RemainingArgs optional,
                    Result dx) {
  auto like_x = Optional(optional);
  const float* y = First(like_x);
  like_x.push_back(g);
  like_x.push_back(*dx);
  const auto shape = ShapeOf(x, like_x, {p, q, r}, {});
  if (shape.has_error()) return shape.error();
  const BatchNormGradientArguments arguments{
      *shape,         Data<float>(x), Data<float>(g), y,
      Data<float>(p), Data<float>(q), Data<float>(r), To(dx)};
  if (y == nullptr) {
    RunAll<BatchNormGradientWorker<false>>(pool, arguments);
  } else {
    RunAll<BatchNormGradientWorker<true>>(pool, arguments);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    convmixer_batch_norm_sums, Moments,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Buffer>().Ret<Buffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_batch_norm_affine, Affine,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .RemainingArgs()
                                  .Ret<Buffer>()
                                  .Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_batch_norm_products, Products,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .RemainingArgs()
                                  .Ret<Buffer>()
                                  .RemainingRets());

XLA_FFI_DEFINE_HANDLER_SYMBOL(convmixer_batch_norm_gradient, Gradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .RemainingArgs()
                                  .Ret<Buffer>());
