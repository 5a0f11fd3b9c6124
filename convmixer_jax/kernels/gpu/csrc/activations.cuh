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

// The derivative of exact GELU, within 7e-5: an odd polynomial, plus 1/2.
DEVICE float GeluSlope(float x) {
  const float z = Max(Min(x, 4.4f), -4.4f);
  const float s = z * z;
  float p = -2.637923870e-11f;
  p = p * s + 2.897038672e-9f;
  p = p * s - 1.406583670e-7f;
  p = p * s + 3.999799504e-6f;
  p = p * s - 7.451391381e-5f;
  p = p * s + 9.639435219e-4f;
  p = p * s - 8.912732135e-3f;
  p = p * s + 5.882423078e-2f;
  p = p * s - 2.651395939e-1f;
  p = p * s + 7.976875581e-1f;
  return z * p + 0.5f;
}

// `number` as in ACTIVATION_NUMBERS of instances.py.
template <int number>
DEVICE float Activate(float x) {
  if (number == 1) return Max(x, 0.f);
  if (number == 2) return Gelu(x);
  return x;
}

// activation'(x) (p g + q a + r), where a is activation(x).
template <int number>
DEVICE float ActivationGradient(float x, float g, float p, float q, float r) {
  const float slope = p * g + (q * Activate<number>(x) + r);
  if (number == 1) return x > 0 ? slope : 0.f;
  if (number == 2) return slope * GeluSlope(x);
  return slope;
}

#endif  // CONVMIXER_JAX_KERNELS_GPU_ACTIVATIONS_CUH_
