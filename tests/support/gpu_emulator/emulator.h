// Runs a kernel of csrc/ on the CPU: every thread of a block is a coroutine
// that runs until it has to wait for others, in an order that is given.
//
// Takes the place of device.cuh, whose functions it has. It also finds what a
// GPU would not show:
//   - Shared memory begins as NaN, and so do copies until they are waited for.
//   - Two threads access a word between two barriers, and one writes it.
//   - A copy is read before it is waited for.
//   - The source of a copy, or a store, is outside of the arrays that were
//     registered.
//   - Addresses that the instructions do not allow.
// It counts the cycles in which shared memory is accessed (bank conflicts).

#ifndef CONVMIXER_JAX_TESTS_GPU_EMULATOR_H_
#define CONVMIXER_JAX_TESTS_GPU_EMULATOR_H_

#include <cstdint>
#include <cstring>

using u16 = uint16_t;
using u32 = uint32_t;
using i64 = long long;

struct alignas(8) Pair {
  u32 low, high;
};

#define DEVICE inline
#define UNROLL
#define NO_UNROLL
#define KERNEL(threads) inline void
#define SHARED_MEMORY(name) u32* name = emulator::SharedMemory()

namespace emulator {

u32* SharedMemory();
int ThreadIndex();
int BlockX();
int BlockY();
void SyncBlock();
void SyncWarp();
void StartCopy(void* to, const void* from, bool zeros);
void EndGroup();
void WaitForGroups(int n);
// Returns whether a store is inside of a registered array.
bool MayStore(const void* address, int bytes);
// Checks an access of this thread, and counts it.
void Access(const void* address, int bytes, bool writes);
// A lane's part of `count` matrices; see device.cuh.
void LoadMatrices(u32* r, const u32* row, int count, bool transposed);
void Multiply(float* d, const u32* a, const u32* b);
float ShuffleXor(float value, int mask);

inline float FromBits(u32 bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline u32 Bits(float value) {
  u32 bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
inline u32 Round(float value) {  // to bfloat16, ties to even
  if (value != value) return 0x7fff;
  const u32 bits = Bits(value);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

}  // namespace emulator

inline int ThreadIndex() { return emulator::ThreadIndex(); }
inline int BlockX() { return emulator::BlockX(); }
inline int BlockY() { return emulator::BlockY(); }
inline void SyncBlock() { emulator::SyncBlock(); }
inline void SyncWarp() { emulator::SyncWarp(); }

template <typename T>
T LoadShared(const T* p) {
  emulator::Access(p, sizeof(T), false);
  return *p;
}
template <typename T>
void StoreShared(T* p, const T& value) {
  emulator::Access(p, sizeof(T), true);
  *p = value;
}

template <typename T>
void StoreGlobal(T* p, const T& value) {
  if (emulator::MayStore(p, sizeof(T))) *p = value;
}

inline void StartCopy(void* to, const u16* from, bool zeros) {
  emulator::StartCopy(to, from, zeros);
}
inline void EndGroup() { emulator::EndGroup(); }
template <int n>
void WaitForGroups() {
  emulator::WaitForGroups(n);
}

template <int count>
void LoadMatrices(u32 (&r)[count], const u32* row) {
  emulator::LoadMatrices(r, row, count, false);
}
template <int count>
void LoadTransposed(u32 (&r)[count], const u32* row) {
  emulator::LoadMatrices(r, row, count, true);
}
inline void Multiply(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  emulator::Multiply(d, a, b);
}

inline u32 Pack(float low, float high) {
  return emulator::Round(low) | emulator::Round(high) << 16;
}
inline u32 Bits(float value) { return emulator::Bits(value); }
inline float LowFloat(u32 pair) { return emulator::FromBits(pair << 16); }
inline float HighFloat(u32 pair) {
  return emulator::FromBits(pair & 0xffff0000u);
}
inline float Min(float a, float b) { return a < b || a != a ? a : b; }
inline float Max(float a, float b) { return a > b || a != a ? a : b; }
inline float Abs(float a) { return a < 0 ? -a : a; }
inline float ShuffleXor(float value, int mask) {
  return emulator::ShuffleXor(value, mask);
}

#endif  // CONVMIXER_JAX_TESTS_GPU_EMULATOR_H_
