// Activations in float32.

#ifndef CONVMIXER_JAX_KERNELS_GPU_ACTIVATIONS_CUH_
#define CONVMIXER_JAX_KERNELS_GPU_ACTIVATIONS_CUH_

#include "device.cuh"

// x Phi(x), the exact GELU, within 1.3e-4. erff takes about 200 instructions,
// this 9: u Phi(-u) is a polynomial of u = |x| up to 3.84, fitted to the
// largest error, and GELU is max(x, 0) less that. bfloat16 rounds by as much
// where GELU is 0.05. The same as in gelu.py.
DEVICE float Gelu(float x) {
  const float u = Min(Abs(x), 3.84f);
  float p = -7.13101304e-4f;
  p = p * u + 1.08320226e-2f;
  p = p * u - 6.21917316e-2f;
  p = p * u + 1.51589654e-1f;
  p = p * u - 5.77125864e-2f;
  p = p * u - 3.81855365e-1f;
  p = p * u + 4.98622426e-1f;
  return Max(x, 0.f) - u * p;
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
