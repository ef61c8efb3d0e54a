// LAYER_NORM: y = activation(gamma z + beta), z = (x - mean) inverse over the channels of a row.
#include "device.h"

namespace sknn {

// A row's share of a group of threads: the rows are clamped, so that all threads shuffle.
template<class T> struct Standard { T mean, inverse; };

template<class T> SKNN_DEVICE Standard<T> standard_of(const T* x, int64_t c, int lane, int width,
                                                      T epsilon) {
    T sum = 0, squares = 0;
    for (int64_t j = lane; j < c; j += width) sum += x[j];
    const T mean = group_sum(sum, width) / T(c);
    for (int64_t j = lane; j < c; j += width) squares += (x[j] - mean) * (x[j] - mean);
    return {mean, T(1) / root(group_sum(squares, width) / T(c) + epsilon)};
}

// x, y (n, c), gamma, beta (c,)
template<class F, class T> __global__
void layer_norm(T* y, const T* x, const T* gamma, const T* beta, int64_t n, int64_t c,
                int64_t ldy, int64_t ldx, int64_t lanes, double epsilon) {
    const int width = int(lanes), n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1);
    for (int64_t first = int64_t(blockIdx.x) * n_groups; first < n;
         first += int64_t(gridDim.x) * n_groups) {
        const int64_t own = first + threadIdx.x / width, i = own < n ? own : n - 1;
        const Standard<T> s = standard_of(x + i * ldx, c, lane, width, T(epsilon));
        for (int64_t j = lane; j < c && own < n; j += width) {
            const T z = (x[i * ldx + j] - s.mean) * s.inverse;
            y[i * ldy + j] = F::value(gamma[j] * z + beta[j]);
        }
    }
}

// dx = inverse (h - mean of h - z mean of h z), h = gamma g, or added to it, unless it is null;
// then g = g z, whose column sums are the gradient of gamma      dx, x, g (n, c), gamma (c,)
template<class T> __global__
void layer_norm_gradient(T* dx, T* g, const T* x, const T* gamma, int64_t n, int64_t c,
                         int64_t ldx, int64_t ldg, int64_t lanes, double epsilon,
                         int64_t accumulate) {
    const int width = int(lanes), n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1);
    for (int64_t first = int64_t(blockIdx.x) * n_groups; first < n;
         first += int64_t(gridDim.x) * n_groups) {
        const int64_t own = first + threadIdx.x / width, i = own < n ? own : n - 1;
        const T* row = x + i * ldx;
        T* slope = g + i * ldg;
        const Standard<T> s = standard_of(row, c, lane, width, T(epsilon));
        T h = 0, hz = 0;
        for (int64_t j = lane; j < c && own < n; j += width) {
            h += gamma[j] * slope[j];
            hz += gamma[j] * slope[j] * ((row[j] - s.mean) * s.inverse);
        }
        h = group_sum(h, width) / T(c);
        hz = group_sum(hz, width) / T(c);
        for (int64_t j = lane; j < c && own < n; j += width) {
            const T z = (row[j] - s.mean) * s.inverse;
            const T d = s.inverse * (gamma[j] * slope[j] - h - z * hz);
            if (dx) dx[i * ldx + j] = accumulate ? dx[i * ldx + j] + d : d;
            slope[j] *= z;
        }
    }
}

}  // namespace sknn
