// Activations in float32.

#ifndef CONVMIXER_JAX_KERNELS_GPU_ACTIVATIONS_CUH_
#define CONVMIXER_JAX_KERNELS_GPU_ACTIVATIONS_CUH_

#include "device.cuh"

// x Phi(x), the exact GELU, within 9e-5. erff takes about 200 instructions,
// this 13: Phi(x) - 1/2 is an odd polynomial up to 4.2, fitted to the error of
// GELU, and 1/2 beyond. bfloat16 rounds by as much where GELU is 0.044.
DEVICE float Gelu(float x) {
  x = Max(x, -4.2f);  // below, the rounding of 1/2 - 1/2 would be multiplied
  const float z = Min(x, 4.2f);
  const float s = z * z;
  float p = -9.017530499e-10f;
  p = p * s + 7.941338238e-8f;
  p = p * s - 3.037931228e-6f;
  p = p * s + 6.689069031e-5f;
  p = p * s - 9.506574528e-4f;
  p = p * s + 9.298229048e-3f;
  p = p * s - 6.552820137e-2f;
  p = p * s + 3.984658726e-1f;
  return x * (z * p + 0.5f);
}

// `number` as in ACTIVATION_NUMBERS of instances.py.
template <int number>
DEVICE float Activate(float x) {
  if (number == 1) return Max(x, 0.f);
  if (number == 2) return Gelu(x);
  return x;
}

#endif  // CONVMIXER_JAX_KERNELS_GPU_ACTIVATIONS_CUH_
