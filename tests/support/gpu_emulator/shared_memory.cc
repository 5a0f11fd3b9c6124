// Memory: checks of shared memory, the count of its cycles, copies to it, and
// stores to global memory.

#include <algorithm>
#include <cstring>
#include <set>

#include "state.h"

namespace emulator {
namespace {

// When a word of shared memory was last read or written.
struct When {
  int barriers = -1;         // of the block, until then
  int thread = -1;           // -1: several
  int warp = -1, syncs = 0;  // -1: several; of the warp, until then
};
struct Word {
  When written, read;
  bool copying = false;
};

// What a warp accesses by one instruction: addresses of its lanes, in words.
struct Instruction {
  std::vector<std::pair<int, int>> accesses;  // lane, word
  int bytes = 4;
};

std::vector<Word> words;
std::vector<std::vector<Instruction>> instructions;  // by warp

bool IsArray(const char* from, int bytes) {
  for (const auto& [begin, end] : arrays) {
    if (from >= begin && from + bytes <= end) return true;
  }
  return false;
}

int WordOf(const void* address, int bytes, int alignment) {
  const i64 offset = static_cast<const char*>(address) -
                     reinterpret_cast<const char*>(shared);
  if (offset < 0 || offset + bytes > shared_words * 4) {
    Fail("access beyond shared memory");
    return 0;
  }
  if (offset % alignment) Fail("misaligned access of shared memory");
  return offset / 4;
}

When Now() {
  return {block.generation, current, current / 32, ThisWarp().syncs};
}

bool IsBefore(const When& then, const When& now) {
  return then.barriers != now.barriers || then.thread == now.thread ||
         (then.warp == now.warp && then.syncs != now.syncs);
}

void CheckWord(int index, bool writes) {
  Word& word = words[index];
  When now = Now();
  if (word.copying) Fail("access of a copy that was not waited for");
  if (!IsBefore(word.written, now)) {
    Fail("race: written by another thread since the last barrier");
  }
  if (writes) {
    if (!IsBefore(word.read, now)) {
      Fail("race: read by another thread since the last barrier");
    }
    word.written = now;
  } else {
    if (!IsBefore(word.read, now)) {
      now.thread = -1;
      if (word.read.warp != now.warp) now.warp = -1;
    }
    word.read = now;
  }
}

// The n-th access of a lane since the last barrier belongs to the n-th
// instruction of its warp: lanes that skip one make the count inexact.
void Count(int first_word, int bytes) {
  auto& list = instructions[current / 32];
  const int index = threads[current].accesses++;
  if (index >= static_cast<int>(list.size())) list.resize(index + 1);
  list[index].bytes = std::max(list[index].bytes, bytes);
  for (int i = 0; i < bytes / 4; ++i) {
    list[index].accesses.emplace_back(Lane(), first_word + i);
  }
}

}  // namespace

void ClearSharedMemory() {
  std::fill(shared, shared + kSharedBytes / 4, kPoison);
  words.assign(shared_words, Word());
  instructions.assign(warps.size(), {});
}

// The cycles of all accesses since the last barrier. 32 lanes have 32 banks, 16
// lanes of 8 bytes, 8 of 16: the busiest bank decides.
void CountCycles() {
  for (auto& list : instructions) {
    for (const Instruction& instruction : list) {
      const int lanes = 128 / instruction.bytes;
      for (int first = 0; first < 32; first += lanes) {
        std::set<int> banks[32];
        size_t most = 0;
        for (const auto& [lane, word] : instruction.accesses) {
          if (lane < first || lane >= first + lanes) continue;
          banks[word % 32].insert(word);
          most = std::max(most, banks[word % 32].size());
        }
        report.shared_cycles += most;
        report.shared_accesses += most > 0;
      }
    }
    list.clear();
  }
}

bool MayStore(const void* address, int bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes) Fail("misaligned store");
  const bool inside = IsArray(static_cast<const char*>(address), bytes);
  if (!inside) Fail("store outside of all arrays");
  return inside;
}

void Access(const void* address, int bytes, bool writes) {
  const int first = WordOf(address, bytes, bytes);
  for (int i = 0; i < bytes / 4; ++i) CheckWord(first + i, writes);
  Count(first, bytes);
}

void StartCopy(void* to, const void* from, bool zeros) {
  const int first = WordOf(to, 16, 16);
  for (int i = 0; i < 4; ++i) {
    CheckWord(first + i, true);
    words[first + i].copying = true;
    shared[first + i] = kPoison;
  }
  Count(first, 16);
  const char* source = zeros ? nullptr : static_cast<const char*>(from);
  if (source && !IsArray(source, 16)) {
    Fail("copy from outside of all arrays");
    source = nullptr;
  }
  if (reinterpret_cast<uintptr_t>(source) % 16) Fail("misaligned copy");
  report.bytes_copied += source ? 16 : 0;
  auto& groups = threads[current].groups;
  if (groups.empty()) groups.emplace_back();
  groups.back().push_back({static_cast<char*>(to), source});
}

void EndGroup() {
  auto& groups = threads[current].groups;
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}

void WaitForGroups(int n) {
  auto& groups = threads[current].groups;
  while (static_cast<int>(groups.size()) - 1 > n) {
    for (const Copy& copy : groups.front()) {
      if (copy.from) std::memcpy(copy.to, copy.from, 16);
      if (!copy.from) std::memset(copy.to, 0, 16);
      const int first = WordOf(copy.to, 16, 16);
      for (int i = 0; i < 4; ++i) words[first + i].copying = false;
    }
    groups.erase(groups.begin());
  }
}

}  // namespace emulator
