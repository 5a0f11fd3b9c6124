// Vectors of channels, which all kernels use.
//
// A Vec contains neighbouring channels of one position, as float32. It needs
// only the compiler's vector extensions, so that the kernels run on any CPU;
// what those lack is written for some CPUs and, slower, for all.

#ifndef CONVMIXER_JAX_KERNELS_CPU_VECTORS_H_
#define CONVMIXER_JAX_KERNELS_CPU_VECTORS_H_

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kRegisters = 32;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

constexpr int kLanes = kVectorBytes / 4;

using Vec [[gnu::vector_size(kVectorBytes)]] = float;
using Bits [[gnu::vector_size(kVectorBytes)]] = uint32_t;
using HalfBits [[gnu::vector_size(kVectorBytes / 2)]] = uint16_t;

struct BFloat16 {
  uint16_t bits;
};

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls f with 0, 1, ..., n - 1 as compile-time constants, so that arrays that
// it indexes with them can be in registers.
template <typename F, int... i>
INLINE inline void Unroll(F f, std::integer_sequence<int, i...>) {
  (f(std::integral_constant<int, i>()), ...);
}
template <int n, typename F>
INLINE inline void Unroll(F f) {
  Unroll(f, std::make_integer_sequence<int, n>());
}

inline Vec Widen(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline Vec Widen(const BFloat16* from) {
  HalfBits half;
  std::memcpy(&half, from, sizeof half);
  return (Vec)(__builtin_convertvector(half, Bits) << 16);
}

inline void Narrow(Vec v, float* to) { std::memcpy(to, &v, sizeof v); }

inline void Narrow(Vec v, BFloat16* to) {
  // To nearest, ties to even; a NaN must not be rounded to infinity.
  const Bits bits = (Bits)v;
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Bits nan = (bits >> 16) | 0x40;
  const Bits is_nan = (Bits)(v != v);
  const HalfBits half = __builtin_convertvector(
      (rounded & ~is_nan) | (nan & is_nan), HalfBits);
  std::memcpy(to, &half, sizeof half);
}

// Returns the first `lanes` channels at `from`, followed by zeros.
template <typename T>
inline Vec Load(const T* from, int lanes) {
  if (lanes == kLanes) return Widen(from);
  T copy[kLanes] = {};
  std::memcpy(copy, from, lanes * sizeof(T));
  return Widen(copy);
}

template <typename T>
inline void Store(Vec v, T* to, int lanes) {
  if (lanes == kLanes) return Narrow(v, to);
  T copy[kLanes];
  Narrow(v, copy);
  std::memcpy(to, copy, lanes * sizeof(T));
}

inline Vec SquareRoot(Vec v) {
#if defined(__AVX512F__)  // GCC takes vectors of half the length for the loop
  return (Vec)_mm512_maskz_sqrt_ps(0xffff, (__m512)v);
#else
  float lanes[kLanes];
  Narrow(v, lanes);
  for (float& lane : lanes) lane = __builtin_sqrtf(lane);
  return Widen(lanes);
#endif
}

// Returns the lanes with these numbers of two vectors, one after the other.
template <int... lane>
INLINE inline Vec Shuffle(Vec a, Vec b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, lane...);
#else
  return __builtin_shuffle(a, b, Bits{lane...});
#endif
}

// Returns the lanes of a's and b's first (0) or second half, in turns.
template <int half, int... lane>
INLINE inline Vec Interleave(Vec a, Vec b,
                             std::integer_sequence<int, lane...>) {
  return Shuffle<(half * kLanes / 2 + lane / 2 + lane % 2 * kLanes)...>(a, b);
}

// Transposes a matrix of kLanes vectors: once for each bit of a row's number,
// vectors that are half of them apart are interleaved.
INLINE inline void TransposeLanes(Vec (&rows)[kLanes]) {
  constexpr std::make_integer_sequence<int, kLanes> lanes{};
  for (int bit = 1; bit < kLanes; bit *= 2) {
    Vec next[kLanes];
    Unroll<kLanes / 2>([&](auto i) INLINE {
      next[2 * i] = Interleave<0>(rows[i], rows[i + kLanes / 2], lanes);
      next[2 * i + 1] = Interleave<1>(rows[i], rows[i + kLanes / 2], lanes);
    });
    Unroll<kLanes>([&](auto i) INLINE { rows[i] = next[i]; });
  }
}

// Combines the lanes of a vector in pairs, and these in pairs again.
template <int width, typename F, int... lane>
INLINE inline float Reduce(Vec vector, F combine,
                           std::integer_sequence<int, lane...> lanes) {
  if constexpr (width == 0) {
    return vector[0];
  } else {
    const Vec others = Shuffle<((lane + width) % kLanes)...>(vector, vector);
    return Reduce<width / 2>(combine(vector, others), combine, lanes);
  }
}
template <typename F>
INLINE inline float Reduce(Vec vector, F combine) {
  return Reduce<kLanes / 2>(vector, combine,
                            std::make_integer_sequence<int, kLanes>());
}

INLINE inline float Sum(Vec vector) {
  return Reduce(vector, [](Vec a, Vec b) INLINE { return a + b; });
}

INLINE inline float Largest(Vec vector) {
  return Reduce(vector, [](Vec a, Vec b) INLINE { return a > b ? a : b; });
}

// Returns the first lanes of a vector, and `other` in those after them.
template <int... lane>
INLINE inline Vec FirstLanes(Vec vector, int count, float other,
                             std::integer_sequence<int, lane...>) {
  const Vec others = Vec{} + other;
  return Bits{lane...} < static_cast<uint32_t>(count) ? vector : others;
}
INLINE inline Vec FirstLanes(Vec vector, int count, float other) {
  return FirstLanes(vector, count, other,
                    std::make_integer_sequence<int, kLanes>());
}

}  // namespace

#endif  // CONVMIXER_JAX_KERNELS_CPU_VECTORS_H_
