"""GPU kernels: CUDA C++ for NVIDIA GPUs."""
