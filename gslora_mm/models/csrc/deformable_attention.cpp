// Multi-scale deformable attention on a CPU; see ../compiled_attention.py.
//
// A query sums, for each head, what it reads at the points of each level's
// map, between four pixels each. The backward pass reads the same pixels
// again. A thread has heads of images of its own, so that no two write to the
// same place and the order of a sum does not depend on their number.
#include <cmath>
#include <cstdint>
#include <limits>

namespace {

struct Sizes {
  int64_t images, pixels, heads, channels, queries, levels, points;
  int64_t coordinates;  // of a reference point: 2, 4 of a box, 0 without one
  int64_t threads;
};

template <typename T>
struct Inputs {
  const T* value;         // (images, pixels, heads, channels)
  const int64_t* shapes;  // (levels, 2): height and width
  const T* references;    // (images, queries, levels, coordinates)
  const T* offsets;       // (images, queries, heads, levels, points, 2)
  T* weights;             // (images, queries, heads, levels, points)
};

// Where a sample lies, and the pixels around it: the rows of the upper left,
// upper right, lower left and lower right one, -1 beyond the edge.
template <typename T>
struct Place {
  int64_t row[4];
  T right, down;
};

enum Where { ON_THE_MAP, BEYOND, NOWHERE };

// What an offset is multiplied by, as a part of the map.
template <typename T>
inline T unit(const T* reference, int64_t size, int axis, const Sizes& s) {
  if (s.coordinates == 0) return 1;
  if (s.coordinates == 2) return 1 / T(size);
  return reference[2 + axis] * T(0.5) / s.points;
}

// In pixels, rounded as mmcv and grid_sample do it.
template <typename T>
inline T pixel(const T* reference, const T* offset, int64_t size, int axis,
               const Sizes& s) {
  T location = offset[axis];
  if (s.coordinates == 2) location = reference[axis] + location / size;
  if (s.coordinates == 4)
    location = reference[axis] +
               location / s.points * reference[2 + axis] * T(0.5);
  return std::fma((2 * location - 1) + 1, T(size) / 2, T(-0.5));
}

template <typename T>
inline Where find(const T* reference, const T* offset, const int64_t* shape,
                  int64_t start, const Sizes& s, Place<T>& place) {
  const int64_t height = shape[0], width = shape[1];
  const T x = pixel(reference, offset, width, 0, s);
  const T y = pixel(reference, offset, height, 1, s);
  if (!std::isfinite(x) || !std::isfinite(y)) return NOWHERE;
  if (!(x >= -1 && y >= -1 && x < width && y < height)) return BEYOND;
  const T left = std::floor(x), top = std::floor(y);
  const int64_t column = int64_t(left), line = int64_t(top);
  place.right = x - left;
  place.down = y - top;
  const int64_t first = start + line * width + column;
  const bool has[4] = {column >= 0, column + 1 < width, line >= 0,
                       line + 1 < height};
  place.row[0] = has[0] && has[2] ? first : -1;
  place.row[1] = has[1] && has[2] ? first + 1 : -1;
  place.row[2] = has[0] && has[3] ? first + width : -1;
  place.row[3] = has[1] && has[3] ? first + width + 1 : -1;
  return ON_THE_MAP;
}

template <typename T>
inline void softmax(T* x, int64_t size) {
  T most = x[0], sum = 0;
  for (int64_t i = 1; i < size; ++i) most = x[i] > most ? x[i] : most;
  for (int64_t i = 0; i < size; ++i) sum += x[i] = std::exp(x[i] - most);
  for (int64_t i = 0; i < size; ++i) x[i] /= sum;
}

// C is the number of channels where it is known, else 0. The weights are
// scores where there are references, and become weights.
template <typename T, int C>
void forward(const Inputs<T>& in, T* output, const Sizes& s) {
  const int64_t channels = C ? C : s.channels;
  const int64_t step = s.heads * channels, samples = s.levels * s.points;
#pragma omp parallel for num_threads(s.threads) schedule(static)
  for (int64_t task = 0; task < s.images * s.heads; ++task) {
    const int64_t image = task / s.heads, head = task % s.heads;
    const T* map = in.value + image * s.pixels * step + head * channels;
    for (int64_t query = 0; query < s.queries; ++query) {
      const int64_t row = image * s.queries + query;
      const int64_t bag = row * s.heads + head;
      const T* reference = in.references + row * s.levels * s.coordinates;
      const T* offset = in.offsets + 2 * bag * samples;
      T* weight = in.weights + bag * samples;
      if (s.coordinates) softmax(weight, samples);
      T* out = output + bag * channels;
      T sum[C ? C : 1];  // in registers, where C is known
      T* total = C ? sum : out;
      for (int64_t c = 0; c < channels; ++c) total[c] = 0;
      int64_t start = 0;
      for (int64_t level = 0; level < s.levels; ++level) {
        const int64_t* shape = in.shapes + 2 * level;
        for (int64_t i = 0; i < s.points; ++i, offset += 2, ++weight) {
          Place<T> at;
          const Where where = find(reference, offset, shape, start, s, at);
          if (where == BEYOND) continue;
          if (where == NOWHERE) {  // it will be seen
            for (int64_t c = 0; c < channels; ++c)
              total[c] = std::numeric_limits<T>::quiet_NaN();
            continue;
          }
          const T left = 1 - at.right, up = 1 - at.down;
          const T share[4] = {left * up, at.right * up, left * at.down,
                              at.right * at.down};
          for (int k = 0; k < 4; ++k) {
            if (at.row[k] < 0) continue;
            const T part = share[k] * *weight;
            const T* from = map + at.row[k] * step;
#pragma omp simd
            for (int64_t c = 0; c < channels; ++c) total[c] += part * from[c];
          }
        }
        start += shape[0] * shape[1];
        reference += s.coordinates;
      }
      if (C)
        for (int64_t c = 0; c < channels; ++c) out[c] = total[c];
    }
  }
}

// Of what is null, no gradient is needed; that of the value begins with 0.
template <typename T>
struct Gradients {
  T* value;
  T* locations;
  T* offsets;
  T* weights;  // of the scores, where there are references
};

template <typename T, int C>
void backward(const Inputs<T>& in, const T* grad, const Gradients<T>& of,
              const Sizes& s) {
  const int64_t channels = C ? C : s.channels;
  const int64_t step = s.heads * channels, samples = s.levels * s.points;
#pragma omp parallel for num_threads(s.threads) schedule(static)
  for (int64_t task = 0; task < s.images * s.heads; ++task) {
    const int64_t image = task / s.heads, head = task % s.heads;
    const int64_t map = image * s.pixels * step + head * channels;
    for (int64_t query = 0; query < s.queries; ++query) {
      const int64_t row = image * s.queries + query;
      const int64_t bag = row * s.heads + head;
      const T* reference = in.references + row * s.levels * s.coordinates;
      const T* from = grad + bag * channels;
      int64_t start = 0, sample = bag * samples;
      for (int64_t level = 0; level < s.levels; ++level) {
        const int64_t* shape = in.shapes + 2 * level;
        for (int64_t i = 0; i < s.points; ++i, ++sample) {
          const T weight = in.weights[sample];
          const T* offset = in.offsets + 2 * sample;
          Place<T> at;
          const Where where = find(reference, offset, shape, start, s, at);
          T dot[4] = {0, 0, 0, 0};  // gradient times pixel
          if (where != ON_THE_MAP) at.right = at.down = 0;
          if (where == NOWHERE) dot[0] = std::numeric_limits<T>::quiet_NaN();
          const T left = 1 - at.right, up = 1 - at.down;
          const T share[4] = {left * up, at.right * up, left * at.down,
                              at.right * at.down};
          for (int k = 0; k < 4 && where == ON_THE_MAP; ++k) {
            if (at.row[k] < 0) continue;
            const T* pixel = in.value + map + at.row[k] * step;
            T sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < channels; ++c) sum += from[c] * pixel[c];
            dot[k] = sum;
            if (!of.value) continue;
            const T part = share[k] * weight;
            T* to = of.value + map + at.row[k] * step;
#pragma omp simd
            for (int64_t c = 0; c < channels; ++c) to[c] += part * from[c];
          }
          if (of.weights)
            of.weights[sample] =
                up * (left * dot[0] + at.right * dot[1]) +
                at.down * (left * dot[2] + at.right * dot[3]);
          const T slope[2] = {
              up * (dot[1] - dot[0]) + at.down * (dot[3] - dot[2]),
              left * (dot[2] - dot[0]) + at.right * (dot[3] - dot[1])};
          for (int axis = 0; axis < 2; ++axis) {
            const int64_t size = shape[1 - axis];
            const T of_location = weight * size * slope[axis];
            if (of.locations) of.locations[2 * sample + axis] = of_location;
            if (of.offsets)
              of.offsets[2 * sample + axis] =
                  of_location * unit(reference, size, axis, s);
          }
        }
        start += shape[0] * shape[1];
        reference += s.coordinates;
      }
      if (of.weights && s.coordinates) {  // through the softmax
        const T* weight = in.weights + bag * samples;
        T* of_weight = of.weights + bag * samples;
        T mean = 0;
        for (int64_t i = 0; i < samples; ++i) mean += weight[i] * of_weight[i];
        for (int64_t i = 0; i < samples; ++i)
          of_weight[i] = weight[i] * (of_weight[i] - mean);
      }
    }
  }
}

}  // namespace

#define BY_CHANNELS(function, T, ...)             \
  switch (s->channels) {                          \
    case 8: return function<T, 8>(__VA_ARGS__);   \
    case 16: return function<T, 16>(__VA_ARGS__); \
    case 32: return function<T, 32>(__VA_ARGS__); \
    default: return function<T, 0>(__VA_ARGS__);  \
  }

#define FOR_TYPE(name, T)                                                    \
  extern "C" void forward_##name(const Inputs<T>* in, T* output,             \
                                 const Sizes* s) {                           \
    BY_CHANNELS(forward, T, *in, output, *s)                                 \
  }                                                                          \
  extern "C" void backward_##name(const Inputs<T>* in, const T* grad,        \
                                  const Gradients<T>* of, const Sizes* s) {  \
    BY_CHANNELS(backward, T, *in, grad, *of, *s)                             \
  }

FOR_TYPE(float32, float)
FOR_TYPE(float64, double)
