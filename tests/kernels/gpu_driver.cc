// The handler of the GPU kernels for the CPU, where XLA has no stream.

#include "launch.cc"

namespace {

ffi::Error LaunchOnCpu(int32_t device, ffi::RemainingArgs operands,
                       ffi::RemainingRets results, std::string_view module,
                       std::string_view entry, Numbers grid, Numbers block,
                       int64_t shared_bytes, Numbers pointers, Numbers bytes,
                       Numbers numbers) {
  // The fake driver's streams are the numbers of their devices.
  return Launch(reinterpret_cast<CUstream>(static_cast<intptr_t>(device)),
                operands, results, module, entry, grid, block, shared_bytes,
                pointers, bytes, numbers);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    convmixer_cpu_launch, LaunchOnCpu,
    BindLaunch(ffi::Ffi::Bind().Ctx<ffi::DeviceOrdinal>()));
