// What the kernels need of the processor, one function an instruction, so that
// an emulator can take its place. No header of CUDA is included: NVRTC compiles
// this without any.

#ifndef CONVMIXER_JAX_KERNELS_GPU_DEVICE_CUH_
#define CONVMIXER_JAX_KERNELS_GPU_DEVICE_CUH_

#ifdef CONVMIXER_EMULATOR
#include "emulator.h"
#else

using u16 = unsigned short;  // also the bits of a bfloat16
using u32 = unsigned int;    // also two bfloat16, the first in the low half
using i64 = long long;

struct alignas(8) Pair {
  u32 low, high;
};

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#define KERNEL(threads) \
  extern "C" __global__ void __launch_bounds__(threads, 1)
#define SHARED_MEMORY(name) extern __shared__ __align__(16) u32 name[]

DEVICE int ThreadIndex() { return threadIdx.x; }
DEVICE int BlockX() { return blockIdx.x; }
DEVICE int BlockY() { return blockIdx.y; }

DEVICE void SyncBlock() { __syncthreads(); }
DEVICE void SyncWarp() { __syncwarp(); }

DEVICE u32 SharedAddress(const void* p) {
  return static_cast<u32>(__cvta_generic_to_shared(p));
}

// Shared memory is only accessed by these and the following functions.
template <typename T>
DEVICE T LoadShared(const T* p) { return *p; }
template <typename T>
DEVICE void StoreShared(T* p, const T& value) { *p = value; }

// Global memory is only written by this.
template <typename T>
DEVICE void StoreGlobal(T* p, const T& value) { *p = value; }

// Starts to copy 16 bytes from global to shared memory, or to write zeros. The
// whole line of 128 bytes is fetched into the L2 cache: the blocks of the next
// channels read the rest of it at about the same time.
DEVICE void StartCopy(void* to, const u16* from, bool zeros) {
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
          SharedAddress(to)),
      "l"(from), "r"(zeros ? 0 : 16)
      : "memory");
}
// Ends a group of this thread's copies.
DEVICE void EndGroup() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most n groups of this thread's copies are under way.
template <int n>
DEVICE void WaitForGroups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

// Loads 8x8 matrices of 16-bit elements, of which lane 8 q + i gives row i of
// matrix q. Lane 4 g + t gets the elements 2 t and 2 t + 1 of row g of each;
// `Transposed`: of column g.
DEVICE void LoadMatrices(u32 (&r)[4], const u32* row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(SharedAddress(row))
      : "memory");
}
DEVICE void LoadMatrices(u32 (&r)[2], const u32* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(SharedAddress(row))
               : "memory");
}
DEVICE void LoadTransposed(u32 (&r)[4], const u32* row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(SharedAddress(row))
      : "memory");
}
DEVICE void LoadTransposed(u32 (&r)[2], const u32* row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
      : "=r"(r[0]), "=r"(r[1])
      : "r"(SharedAddress(row))
      : "memory");
}

// d += a b for a 16x16, b 16x8, d 16x8. With g = lane / 4 and t = lane % 4, a
// lane has the elements
//   a: rows g, g + 8, g, g + 8 of columns 2 t, 2 t + 1, the last two + 8
//   b: rows 2 t, 2 t + 1, and the same + 8, of column g
//   d: row g of columns 2 t, 2 t + 1, and row g + 8 of the same
DEVICE void Multiply(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Two float32, rounded to bfloat16.
DEVICE u32 Pack(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEVICE u32 Bits(float value) { return __float_as_uint(value); }
DEVICE float LowFloat(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float HighFloat(u32 pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

// NaN if either is, unlike fminf and fmaxf.
DEVICE float Min(float a, float b) {
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
DEVICE float Max(float a, float b) {
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
DEVICE float Abs(float a) {
  float r;
  asm("abs.f32 %0, %1;" : "=f"(r) : "f"(a));
  return r;
}

// The value of lane `lane ^ mask`.
DEVICE float ShuffleXor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

#endif  // CONVMIXER_EMULATOR
#endif  // CONVMIXER_JAX_KERNELS_GPU_DEVICE_CUH_
