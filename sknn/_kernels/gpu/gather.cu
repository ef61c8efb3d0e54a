// Rows of X, wherever the minibatch takes them from, as rows of the compute type.
#include "device.h"

namespace sknn {

// out_i = x_samples[i] scale       out (n, m), x (n_samples, m); a group of threads takes AT_ONCE
// rows. Where x is no more than the rows that come next, row k of the epoch is x_(k mod n_ring).
template<class From, class T> __global__
void gather(T* out, const From* x, const Progress* progress, const int64_t* order, int64_t step,
            int64_t batch, int64_t n, int64_t m, int64_t ld, int64_t lanes, double scale,
            int64_t begin, int64_t n_ring) {
    const Rows rows(progress, order, step, batch);
    const int64_t place = (progress->first_step + step) * batch + begin;
    const int width = int(lanes), n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1), group = threadIdx.x / width;
    const int64_t first = int64_t(blockIdx.x) * AT_ONCE * n_groups + group;
    int64_t sample[AT_ONCE];
    #pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
        const int64_t i = first + k * n_groups;
        sample[k] = i >= n ? 0 : n_ring ? (place + i) % n_ring : rows[i];
    }
    for (int64_t j = lane; j < m; j += width) {
        From value[AT_ONCE] = {};
        #pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            if (first + k * n_groups < n) value[k] = x[sample[k] * m + j];
        #pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            if (first + k * n_groups < n)
                out[(first + k * n_groups) * ld + j] = T(value[k]) * T(scale);
    }
}

}  // namespace sknn
