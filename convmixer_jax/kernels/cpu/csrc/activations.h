// The activations and their derivatives.

#ifndef CONVMIXER_JAX_KERNELS_CPU_ACTIVATIONS_H_
#define CONVMIXER_JAX_KERNELS_CPU_ACTIVATIONS_H_

#include "vectors.h"

namespace {

INLINE inline Vec Splat(float value) { return Vec{} + value; }

// e^z for z <= 0; below -87 it is e^-87, which is almost 0.
INLINE inline Vec Exp(Vec z) {
  z = z < -87.0f ? Splat(-87.0f) : z;  // a NaN remains NaN
  // e^z = 2^n e^r with |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds to an
  // integer, which is then in the low bits of the sum.
  const Vec shifted = z * 1.44269504f + 12582912.0f;
  const Vec n = shifted - 12582912.0f;
  const Vec r = (z - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = Splat(1.9875691500e-4f);  // Cephes' polynomial
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return (p * (r * r) + r + 1.0f) * (Vec)(((Bits)shifted << 23) + 0x3f800000);
}

// x Phi(x), Phi being the normal distribution.
struct Gelu {
  // Phi(x) = 1/2 + x P(x^2), where P is the polynomial with the smallest
  // maximal error up to kEnd; there, Phi is within 1e-7 of 0 and 1. It is a
  // polynomial in t = 2 x^2 / kEnd^2 - 1, because in powers of x^2 its terms
  // would cancel. With all roundings the error is below 1.2e-7.
  static constexpr float kEnd = 5.2f;
  static constexpr float kCoefficients[] = {
      0.135949984f,     -0.067743808f,    0.0500261113f,   -0.0399253964f,
      0.0319623239f,    -0.0247634482f,   0.0181339215f,   -0.0123533625f,
      0.00801009405f,   -0.00506736152f,  0.00266243354f,  -0.00097852177f,
      0.000600767613f,  -0.000562288275f, 0.000202387164f};
  static constexpr int kDegree = 14;

  static INLINE inline Vec Distribution(Vec x) {
    Vec clamped = x < -kEnd ? Splat(-kEnd) : x;  // a NaN remains NaN
    clamped = clamped > kEnd ? Splat(kEnd) : clamped;
    const Vec t = clamped * clamped * (2 / (kEnd * kEnd)) - 1.0f;
    Vec p = Splat(kCoefficients[kDegree]);
    Unroll<kDegree>([&](auto i) INLINE {
      p = p * t + kCoefficients[kDegree - 1 - i];
    });
    const Vec distribution = p * clamped + 0.5f;
    return x < -kEnd ? Vec{} : distribution;
  }

  static INLINE inline Vec Value(Vec x) { return x * Distribution(x); }

  static INLINE inline Vec Value(Vec x, Vec* slope) {
    const Vec distribution = Distribution(x);
    *slope = distribution + x * (Exp(x * x * -0.5f) * 0.398942280f);
    return x * distribution;
  }
};

struct Relu {
  static INLINE inline Vec Value(Vec x) {
    return x < 0.0f ? Vec{} : x;  // a NaN remains NaN
  }

  static INLINE inline Vec Value(Vec x, Vec* slope) {
    *slope = x > 0.0f ? Splat(1.0f) : Vec{};
    return Value(x);
  }
};

struct NoActivation {
  static INLINE inline Vec Value(Vec x) { return x; }
};

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_ACTIVATIONS_H_
