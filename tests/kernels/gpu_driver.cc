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

extern "C" {

// What the handler for GPUs says of itself to XLA.
unsigned convmixer_gpu_launch_traits() {
  XLA_FFI_Metadata metadata = {};
  metadata.struct_size = XLA_FFI_Metadata_STRUCT_SIZE;
  metadata.api_version.struct_size = XLA_FFI_Api_Version_STRUCT_SIZE;
  XLA_FFI_Metadata_Extension extension = {};
  extension.extension_base.struct_size =
      XLA_FFI_Metadata_Extension_STRUCT_SIZE;
  extension.extension_base.type = XLA_FFI_Extension_Metadata;
  extension.metadata = &metadata;
  XLA_FFI_CallFrame frame = {};
  frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
  frame.extension_start = &extension.extension_base;
  return convmixer_gpu_launch(&frame) == nullptr ? metadata.traits : 0;
}

}  // extern "C"

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    convmixer_cpu_launch, LaunchOnCpu,
    BindLaunch(ffi::Ffi::Bind().Ctx<ffi::DeviceOrdinal>()));
