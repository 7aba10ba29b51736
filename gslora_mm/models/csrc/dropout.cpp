// Dropout on a CPU; see ../fast_dropout.py.
//
// Whether an element is dropped is a hash of the seed and its index, so that
// nothing is kept for the backward pass, and threads have no say in it.
#include <cstdint>
#include <cstring>

namespace {

struct BFloat16 {
  uint16_t bits;
};

template <typename T>
inline T widen(T x) { return x; }

inline float widen(BFloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

template <typename T>
inline void narrow(T wide, T& x) { x = wide; }

inline void narrow(float wide, BFloat16& x) {  // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &wide, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  x.bits = uint16_t(wide == wide ? rounded : 0x7fc0);
}

// SplitMix64's finalizer: a key of its own for each seed and block.
inline uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

// 32 bits of an index, by two rounds with half of the key each.
inline uint32_t hash(uint32_t x, uint32_t low, uint32_t high) {
  x = x * 0x9e3779b9 + low;
  x = (x ^ x >> 16) * 0x21f0aaad;
  x = ((x ^ x >> 15) + high) * 0xd35a2d97;
  x = (x ^ x >> 15) * 0x846ca68b;
  return x ^ x >> 16;
}

constexpr int64_t BLOCK = 4096;

// 0 < p < 1. T is read and written, and multiplied as its wider type.
template <typename T>
void dropout(const T* from, T* to, int64_t size, uint64_t seed, double p,
             int64_t threads) {
  using Wide = decltype(widen(T()));
  const Wide scale = Wide(1 / (1 - p));
  const uint32_t bound = uint32_t(p * 4294967296.0);
  const uint64_t start = mix(seed);
  const int64_t blocks = (size + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static) \
    if (blocks > threads)
  for (int64_t block = 0; block < blocks; ++block) {
    const uint64_t key = mix(start + block * 0x9e3779b97f4a7c15);
    const uint32_t low = uint32_t(key), high = uint32_t(key >> 32);
    const int64_t first = block * BLOCK;
    const T* x = from + first;
    T* y = to + first;
    const int length = int(size - first < BLOCK ? size - first : BLOCK);
#pragma omp simd
    for (int i = 0; i < length; ++i) {
      const Wide factor = hash(i, low, high) < bound ? Wide(0) : scale;
      narrow(widen(x[i]) * factor, y[i]);
    }
  }
}

}  // namespace

#define FOR_TYPE(name, T)                                                \
  extern "C" void dropout_##name(const T* x, T* y, int64_t size,         \
                                 uint64_t seed, double p,                \
                                 int64_t threads) {                      \
    dropout(x, y, size, seed, p, threads);                               \
  }

FOR_TYPE(float32, float)
FOR_TYPE(float64, double)
FOR_TYPE(bfloat16, BFloat16)
