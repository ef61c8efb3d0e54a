// Activations: the loops around the formulas, instantiated for each of the enumeration.
#include "device.h"

namespace sknn {

// y = F(y + b)                     y (n, m), b (m,)
template<class F, class T> __global__
void bias_activation(T* y, const T* b, int64_t n, int64_t m, int64_t ld, int64_t lanes) {
    for_elements(n, m, lanes, [=](int64_t i, int64_t j) {
        y[i * ld + j] = F::value(y[i * ld + j] + b[j]);
    });
}

// y = F(y)                         y (n, m), where a product has added the bias
template<class F, class T> __global__
void activation(T* y, int64_t n, int64_t m, int64_t ld, int64_t lanes) {
    for_elements(n, m, lanes, [=](int64_t i, int64_t j) {
        y[i * ld + j] = F::value(y[i * ld + j]);
    });
}

// g = g F'(y), and for each part of the rows the column sums of g: a block takes a part and as
// many columns as it has lanes         g, y (n, m), sums (parts, m)
template<class F, class T> __global__
void activation_gradient(T* __restrict__ g, const T* __restrict__ y, T* __restrict__ sums,
                         int64_t n, int64_t m, int64_t ld, int64_t lanes, int64_t part_rows) {
    constexpr int EACH = 2 * AT_ONCE;
    SKNN_SHARED(T, parts, MOST_THREADS);
    const int width = int(lanes), n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1), group = threadIdx.x / width;
    const unsigned n_strips = unsigned(m + width - 1) / width;
    const int64_t part = blockIdx.x / n_strips;
    const int64_t j = int64_t(blockIdx.x % n_strips) * width + lane;
    const int64_t begin = part * part_rows;
    const int64_t end = begin + part_rows < n ? begin + part_rows : n;
    T sum = 0;
    for (int64_t i = begin + group; i < end && j < m; i += EACH * n_groups) {
        T slope[EACH], value[EACH];
        #pragma unroll
        for (int k = 0; k < EACH; ++k) {
            const int64_t at = (i + k * n_groups < end ? i + k * n_groups : i) * ld + j;
            slope[k] = g[at];
            if constexpr (!IS_IDENTITY<F>) value[k] = y[at];
        }
        #pragma unroll
        for (int k = 0; k < EACH; ++k) {
            const bool inside = i + k * n_groups < end;
            if constexpr (!IS_IDENTITY<F>) {
                slope[k] = F::gradient(slope[k], value[k]);
                if (inside) g[(i + k * n_groups) * ld + j] = slope[k];
            }
            sum += inside ? slope[k] : T(0);
        }
    }
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (group > 0 || j >= m) return;
    for (int k = 1; k < n_groups; ++k) sum += parts[k * width + lane];
    sums[part * m + j] = sum;
}

// out = sum_i parts_i, or added to it      parts (n, m), out (m,); a block takes `lanes` columns.
// Column j is out's (j % inner, j / inner): parts may be those of a transposed matrix.
template<class T> __global__
void column_sums(T* __restrict__ out, const T* __restrict__ parts, int64_t n, int64_t m,
                 int64_t inner, int64_t lanes, int64_t accumulate) {
    const unsigned width = unsigned(lanes), rows = unsigned(inner), size = unsigned(m);
    const unsigned j = blockIdx.x * width + (threadIdx.x & (width - 1));
    const T sum = column_sum(parts + j, unsigned(n), size, j < size, width);
    if (threadIdx.x >= width || j >= size) return;
    T& total = out[j % rows * (size / rows) + j / rows];
    total = accumulate ? total + sum : sum;
}

}  // namespace sknn
