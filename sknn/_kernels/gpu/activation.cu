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

// g = g F'(y), and for each block the column sums of its rows of g
//                                  g, y (n, m), sums (blocks, m)
template<class F, class T> __global__
void activation_gradient(T* __restrict__ g, const T* __restrict__ y, T* __restrict__ sums,
                         int64_t n, int64_t m, int64_t ld, int64_t lanes, int64_t block_rows) {
    SKNN_SHARED(T, parts, MOST_THREADS);
    const int width = int(lanes), n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1), group = threadIdx.x / width;
    const int64_t begin = blockIdx.x * block_rows;
    const int64_t end = begin + block_rows < n ? begin + block_rows : n;
    for (int64_t first = 0; first < m; first += width) {
        const int64_t j = first + lane;
        T sum = 0;
        for (int64_t i = begin + group; i < end && j < m; i += AT_ONCE * n_groups) {
            T d[AT_ONCE] = {};
            #pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) {
                const int64_t at = (i + k * n_groups) * ld + j;
                if (i + k * n_groups < end) d[k] = F::gradient(g[at], y[at]);
            }
            #pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) {
                const int64_t row = i + k * n_groups;
                if (!IS_IDENTITY<F> && row < end) g[row * ld + j] = d[k];
                sum += d[k];
            }
        }
        parts[threadIdx.x] = sum;
        __syncthreads();
        if (group == 0 && j < m) {
            for (int k = 1; k < n_groups; ++k) sum += parts[k * width + lane];
            sums[blockIdx.x * m + j] = sum;
        }
        __syncthreads();
    }
}

// out = sum_i parts_i, or added to it      parts (n, m), out (m,); a block takes WARP columns
template<class T> __global__
void column_sums(T* __restrict__ out, const T* __restrict__ parts, int64_t n, int64_t m,
                 int64_t accumulate) {
    const int64_t j = int64_t(blockIdx.x) * WARP + threadIdx.x % WARP;
    const T sum = column_sum(parts + j, n, m, j < m);
    if (threadIdx.x < WARP && j < m) out[j] = accumulate ? out[j] + sum : sum;
}

}  // namespace sknn
