// DENSE_CSR: y = activation(x W + b) for rows x in compressed sparse row format, which are never
// made dense. Of a row, columns come in order and each once.
#include "device.h"

namespace sknn {

// columns of which a block makes the gradient
constexpr int CSR_COLUMNS = 8;

// y_i = F(x_i W + b)               y (n, m), W (k, m), b (m,)
template<class F, class T> __global__
void csr_dense(T* __restrict__ y, const T* __restrict__ data, const int32_t* __restrict__ indices,
               const int64_t* __restrict__ indptr, const T* __restrict__ W,
               const T* __restrict__ b, const Progress* progress, const int64_t* order,
               int64_t step, int64_t batch, int64_t n, int64_t m, int64_t ld, int64_t lanes) {
    const Rows rows(progress, order, step, batch);
    for_elements(n, m, lanes, [=](int64_t i, int64_t j) {
        const int64_t sample = rows[i], end = indptr[sample + 1];
        T sum = 0;
        for (int64_t at = indptr[sample]; at < end; at += AT_ONCE) {
            T part[AT_ONCE] = {};
            #pragma unroll
            for (int k = 0; k < AT_ONCE; ++k)
                if (at + k < end) part[k] = data[at + k] * W[indices[at + k] * m + j];
            #pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) sum += part[k];
        }
        y[i * ld + j] = F::value(sum + b[j]);
    });
}

// the first place in begin..end with that column or a later one
SKNN_DEVICE int64_t find_column(const int32_t* indices, int64_t begin, int64_t end,
                                int64_t column) {
    while (begin < end) {
        const int64_t middle = begin + (end - begin) / 2;
        if (indices[middle] < column) begin = middle + 1;
        else end = middle;
    }
    return begin;
}

// dW = x' dy, or added to it       dW (k, m), x (n, k), dy (n, m)
// A thread finds what one row has in the block's columns; then groups of threads add up for
// each column the rows that have it, in their order.
template<class T> __global__
void csr_gradient(T* __restrict__ dW, const T* __restrict__ data,
                  const int32_t* __restrict__ indices, const int64_t* __restrict__ indptr,
                  const Progress* progress, const int64_t* order, int64_t step, int64_t batch,
                  const T* __restrict__ dy, int64_t n, int64_t k, int64_t m, int64_t ld,
                  int64_t lanes, int64_t accumulate) {
    constexpr int WARPS = MOST_THREADS / WARP;
    SKNN_SHARED(T, values, CSR_COLUMNS * MOST_THREADS);
    SKNN_SHARED(unsigned, found, CSR_COLUMNS * WARPS);      // a bit for each row
    const Rows rows(progress, order, step, batch);
    const int width = int(lanes), n_groups = blockDim.x / width, n_warps = blockDim.x / WARP;
    const int lane = threadIdx.x & (width - 1), group = threadIdx.x / width;
    const int64_t first = int64_t(blockIdx.x) * CSR_COLUMNS;
    for (int64_t top = 0; top < n; top += blockDim.x) {
        int64_t at = 0, end = 0;
        if (top + threadIdx.x < n) {
            const int64_t sample = rows[top + threadIdx.x];
            end = indptr[sample + 1];
            at = find_column(indices, indptr[sample], end, first);
        }
        for (int c = 0; c < CSR_COLUMNS; ++c) {
            const bool has = at < end && indices[at] == first + c;
            if (has) values[c * MOST_THREADS + threadIdx.x] = data[at++];
            const unsigned bits = __ballot_sync(ALL_LANES, has);
            if (threadIdx.x % WARP == 0) found[c * WARPS + threadIdx.x / WARP] = bits;
        }
        __syncthreads();
        for (int c = group; c < CSR_COLUMNS && first + c < k; c += n_groups)
            for (int64_t j = lane; j < m; j += width) {
                T sum = 0;
                for (int warp = 0; warp < n_warps; ++warp)
                    for (unsigned bits = found[c * WARPS + warp]; bits;) {
                        T part[AT_ONCE] = {};
                        #pragma unroll
                        for (int u = 0; u < AT_ONCE; ++u) {
                            if (!bits) continue;
                            const int row = warp * WARP + __ffs(bits) - 1;
                            bits &= bits - 1;
                            part[u] = values[c * MOST_THREADS + row] * dy[(top + row) * ld + j];
                        }
                        #pragma unroll
                        for (int u = 0; u < AT_ONCE; ++u) sum += part[u];
                    }
                T& out = dW[(first + c) * m + j];
                out = top > 0 || accumulate ? out + sum : sum;
            }
        __syncthreads();
    }
}

}  // namespace sknn
