// LAYER_NORM: y = activation(gamma z + beta), z = (x - mean) inverse over the channels of a pixel.
// BATCH_NORM: the same over all pixels of a channel in the minibatch, weighted by the samples'
// weights; predictions and a minibatch of one sample take running means and variances.
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

// What a minibatch says of c channels, in memory one vector after the other. The weight, of all
// pixels, is 0 where running statistics were used.
template<class T> struct Statistics {
    T *weight, *mean, *inverse, *gradient_sum, *product_sum;
    SKNN_DEVICE Statistics(T* s, int64_t c)
        : weight(s), mean(s + c), inverse(s + 2 * c), gradient_sum(s + 3 * c),
          product_sum(s + 4 * c) {}
};

// parts_b = sums of f(i, j), N numbers for each of c columns, over the rows i of block b
//                                  parts (blocks, N, c)
template<int N, class T, class F> SKNN_DEVICE
void block_sums(double* parts, int64_t n, int64_t c, int width, int64_t block_rows, F f) {
    SKNN_SHARED(double, shared, MOST_THREADS);
    const int n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1), group = threadIdx.x / width;
    const int64_t begin = blockIdx.x * block_rows;
    const int64_t end = begin + block_rows < n ? begin + block_rows : n;
    for (int64_t first = 0; first < c; first += width) {
        const int64_t j = first + lane;
        double sums[N] = {};
        for (int64_t i = begin + group; i < end && j < c; i += AT_ONCE * n_groups) {
            T part[N] = {};
            #pragma unroll
            for (int k = 0; k < AT_ONCE; ++k)
                if (i + k * n_groups < end) f(i + k * n_groups, j, part);
            for (int k = 0; k < N; ++k) sums[k] += part[k];
        }
        for (int k = 0; k < N; ++k) {
            shared[threadIdx.x] = sums[k];
            __syncthreads();
            if (group == 0 && j < c) {
                double sum = sums[k];
                for (int g = 1; g < n_groups; ++g) sum += shared[g * width + lane];
                parts[(blockIdx.x * N + k) * c + j] = sum;
            }
            __syncthreads();
        }
    }
}

// Sums of the weights, of the deviations from the first row, and of their squares, of each
// block's rows                     x (n, c), parts (blocks, 3, c)
template<class T> __global__
void batch_moments(double* parts, const T* x, const double* weights, const Progress* progress,
                   const int64_t* order, int64_t step, int64_t batch, int64_t n, int64_t c,
                   int64_t ldx, int64_t pixels, int64_t lanes, int64_t block_rows) {
    const Rows rows(progress, order, step, batch);
    block_sums<3, T>(parts, n, c, int(lanes), block_rows, [=](int64_t i, int64_t j, T* part) {
        const T weight = weights ? T(weights[rows[i / pixels]]) : T(1), d = x[i * ldx + j] - x[j];
        part[0] += weight;
        part[1] += weight * d;
        part[2] += weight * d * d;
    });
}

// Mean and 1 / sqrt(variance + epsilon) of each channel from the sums of n_parts blocks, the
// running ones without any; moves these if asked to.        state: means, `padded` on variances
template<class T> __global__
void finish_moments(T* statistics, T* state, const double* parts, const T* x, int64_t n_parts,
                    int64_t c, int64_t padded, double epsilon, double momentum, int64_t moves) {
    const int64_t j = int64_t(blockIdx.x) * WARP + threadIdx.x % WARP;
    double sums[3];
    for (int k = 0; k < 3; ++k) sums[k] = column_sum(parts + k * c + j, n_parts, 3 * c, j < c);
    if (threadIdx.x >= WARP || j >= c) return;
    T &running_mean = state[j], &running_variance = state[padded + j];
    double mean = running_mean, variance = running_variance;
    if (sums[0] > 0) {
        const double d = sums[1] / sums[0];
        mean = x[j] + d;
        variance = sums[2] / sums[0] - d * d;
        variance = variance < 0 ? 0.0 : variance;
        if (moves) {
            running_mean += T(momentum * (mean - running_mean));
            running_variance += T(momentum * (variance - running_variance));
        }
    }
    const Statistics<T> s(statistics, c);
    s.weight[j] = T(sums[0]);
    s.mean[j] = T(mean);
    s.inverse[j] = T(1 / root(variance + epsilon));
}

// y = F(gamma z + beta)            y, x (n, c), gamma, beta (c,)
template<class F, class T> __global__
void batch_norm(T* y, const T* x, const T* gamma, const T* beta, T* statistics, int64_t n,
                int64_t c, int64_t ldy, int64_t ldx, int64_t lanes) {
    const Statistics<T> s(statistics, c);
    for_elements(n, c, lanes, [=](int64_t i, int64_t j) {
        const T z = (x[i * ldx + j] - s.mean[j]) * s.inverse[j];
        y[i * ldy + j] = F::value(gamma[j] * z + beta[j]);
    });
}

// g = g F'(y), and sums of g and of g z over each block's rows   g, y, x (n, c)
template<class F, class T> __global__
void batch_norm_sums(double* parts, T* g, const T* y, const T* x, T* statistics, int64_t n,
                     int64_t c, int64_t ldy, int64_t ldx, int64_t lanes, int64_t block_rows) {
    const Statistics<T> s(statistics, c);
    block_sums<2, T>(parts, n, c, int(lanes), block_rows, [=](int64_t i, int64_t j, T* part) {
        const T d = F::gradient(g[i * ldy + j], y[i * ldy + j]);
        if (!IS_IDENTITY<F>) g[i * ldy + j] = d;
        part[0] += d;
        part[1] += d * ((x[i * ldx + j] - s.mean[j]) * s.inverse[j]);
    });
}

// The sums of all blocks, which are the gradients of beta and gamma
template<class T> __global__
void finish_sums(T* statistics, T* dgamma, T* dbeta, const double* parts, int64_t n_parts,
                 int64_t c, int64_t accumulate) {
    const int64_t j = int64_t(blockIdx.x) * WARP + threadIdx.x % WARP;
    double sums[2];
    for (int k = 0; k < 2; ++k) sums[k] = column_sum(parts + k * c + j, n_parts, 2 * c, j < c);
    if (threadIdx.x >= WARP || j >= c) return;
    const Statistics<T> s(statistics, c);
    s.gradient_sum[j] = T(sums[0]);
    s.product_sum[j] = T(sums[1]);
    dbeta[j] = T(accumulate ? dbeta[j] + sums[0] : sums[0]);
    dgamma[j] = T(accumulate ? dgamma[j] + sums[1] : sums[1]);
}

// dx = gamma inverse (g - share (sum of g + z sum of g z)), or added to it; a pixel's share is its
// weight by that of all                        dx, g, x (n, c)
template<class T> __global__
void batch_norm_gradient(T* dx, const T* g, const T* x, const T* gamma, T* statistics,
                         const double* weights, const Progress* progress, const int64_t* order,
                         int64_t step, int64_t batch, int64_t n, int64_t c, int64_t lddx,
                         int64_t ldg, int64_t ldx, int64_t pixels, int64_t lanes,
                         int64_t accumulate) {
    const Rows rows(progress, order, step, batch);
    const Statistics<T> s(statistics, c);
    for_elements(n, c, lanes, [=](int64_t i, int64_t j) {
        const T weight = weights ? T(weights[rows[i / pixels]]) : T(1);
        const T share = s.weight[j] > 0 ? weight / s.weight[j] : T(0);
        const T z = (x[i * ldx + j] - s.mean[j]) * s.inverse[j];
        const T d = gamma[j] * s.inverse[j]
            * (g[i * ldg + j] - share * (s.gradient_sum[j] + z * s.product_sum[j]));
        dx[i * lddx + j] = accumulate ? dx[i * lddx + j] + d : d;
    });
}

}  // namespace sknn
