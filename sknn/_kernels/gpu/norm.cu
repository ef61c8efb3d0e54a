// LAYER_NORM: y = activation(gamma z + beta), z = (x - mean) inverse over the channels of a pixel.
// BATCH_NORM: the same over all pixels of a channel in the minibatch, weighted by the samples'
// weights; predictions and a minibatch of one sample take running means and variances.
#include "pack.h"

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

// Rows of a block, of which each group of `width` threads, a power of two, takes one at a time
struct Share {
    int width, n_groups, lane, group;
    int64_t begin, end;
    SKNN_DEVICE Share(int64_t n, int64_t lanes, int64_t block_rows)
        : width(int(lanes)), n_groups(blockDim.x / width), lane(threadIdx.x & (width - 1)),
          group(threadIdx.x / width), begin(blockIdx.x * block_rows),
          end(begin + block_rows < n ? begin + block_rows : n) {}
};

// use(i, read(i)) for a thread's rows; some reads are under way together, then() comes after them
template<class Read, class Use, class Then>
SKNN_DEVICE void for_rows(const Share& share, Read read, Use use, Then then) {
    const int step = share.n_groups;
    for (int64_t i = share.begin + share.group; i < share.end; i += AT_ONCE * step) {
        decltype(read(i)) v[AT_ONCE];
        #pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            if (i + k * step < share.end) v[k] = read(i + k * step);
        #pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            if (i + k * step < share.end) use(i + k * step, v[k]);
        then();
    }
}

// Sums of N numbers for each of V columns: of a few rows, and of all
template<int N, class T, int V> struct Sums {
    T part[N][V] = {};
    double all[N][V] = {};
    SKNN_DEVICE void close_part() {
        for (int k = 0; k < N; ++k)
            for (int v = 0; v < V; ++v) {
                all[k][v] += part[k][v];
                part[k][v] = 0;
            }
    }
};

// parts_b = N sums for each of c columns over the rows of block b. f(share, j, sums) adds up a
// thread's rows of the V columns from j on.        parts (blocks, N, c)
template<int N, class T, int V, class F> SKNN_DEVICE
void block_sums(double* parts, int64_t n, int64_t c, int64_t lanes, int64_t block_rows, F f) {
    SKNN_SHARED(double, shared, N * V * MOST_THREADS);
    const Share share(n, lanes, block_rows);
    // groups of a warp are added up by shuffles, which leaves one for each warp
    const int width = share.width, taken = width < WARP ? WARP : width;
    const int n_slots = blockDim.x / taken, slot = threadIdx.x / taken;
    for (int64_t first = 0; first < c; first += width * V) {
        Sums<N, T, V> sums;
        if (first + share.lane * V < c) f(share, first + share.lane * V, sums);
        for (int k = 0; k < N; ++k)
            for (int v = 0; v < V; ++v) {
                double sum = sums.all[k][v];
                for (int m = width; m < WARP; m *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, m);
                if (threadIdx.x % taken < width)
                    shared[((k * n_slots + slot) * width + share.lane) * V + v] = sum;
            }
        __syncthreads();
        for (int at = threadIdx.x; at < N * V * width; at += blockDim.x) {
            const int k = at / (V * width), column = at - k * V * width;
            double sum = 0;
            for (int g = 0; g < n_slots; ++g) sum += shared[(k * n_slots + g) * V * width + column];
            if (first + column < c) parts[(blockIdx.x * N + k) * c + first + column] = sum;
        }
        __syncthreads();
    }
}

// The weight of the sample that row i, a pixel, is of
struct Weights {
    const double* weights;
    Rows rows;
    int64_t pixels;
    SKNN_DEVICE double operator[](int64_t i) const {
        return weights ? weights[rows[i / pixels]] : 1.0;
    }
};

// Sums of the weights, of the deviations from the first row, and of their squares, of each
// block's rows                     x (n, c), parts (blocks, 3, c)
template<class T, int V> __global__
void batch_moments(double* parts, const T* x, const double* weights, const Progress* progress,
                   const int64_t* order, int64_t step, int64_t batch, int64_t n, int64_t c,
                   int64_t ldx, int64_t pixels, int64_t lanes, int64_t block_rows) {
    const Weights of{weights, Rows(progress, order, step, batch), pixels};
    block_sums<3, T, V>(parts, n, c, lanes, block_rows,
                        [=](const Share& share, int64_t j, Sums<3, T, V>& sums) {
        const Pack<T, V> first = load<V>(x + j);
        for_rows(share, [=](int64_t i) { return load<V>(x + i * ldx + j); },
                 [&](int64_t i, const Pack<T, V>& v) {
            const T weight = T(of[i]);
            for (int k = 0; k < V; ++k) {
                const T d = v[k] - first[k];
                sums.part[0][k] += weight;
                sums.part[1][k] += weight * d;
                sums.part[2][k] += weight * d * d;
            }
        }, [&] { sums.close_part(); });
    });
}

// Of n rows of N vectors of c numbers each: the sums of column j of these vectors. A warp's
// threads have FINISHED columns, one after the other; the first ones of a block get the sums.
constexpr int FINISHED = 8;
template<int N> SKNN_DEVICE void finish(double (&sums)[N], const double* parts, int64_t n,
                                        int64_t c, int64_t j) {
    SKNN_SHARED(double, shared, N * MOST_THREADS / WARP * FINISHED);
    const int n_groups = blockDim.x / FINISHED, group = threadIdx.x / FINISHED;
    for (int k = 0; k < N; ++k) sums[k] = 0;
    for (int64_t i = group; i < n && j < c; i += AT_ONCE * n_groups) {
        double part[AT_ONCE][N] = {};
        #pragma unroll
        for (int m = 0; m < AT_ONCE; ++m)
            for (int k = 0; k < N; ++k)
                if (i + m * n_groups < n) part[m][k] = parts[((i + m * n_groups) * N + k) * c + j];
        #pragma unroll
        for (int m = 0; m < AT_ONCE; ++m)
            for (int k = 0; k < N; ++k) sums[k] += part[m][k];
    }
    const int warp = threadIdx.x / WARP, n_warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    for (int k = 0; k < N; ++k) {
        for (int m = FINISHED; m < WARP; m *= 2) sums[k] += __shfl_xor_sync(ALL_LANES, sums[k], m);
        if (lane < FINISHED) shared[(k * n_warps + warp) * FINISHED + lane] = sums[k];
    }
    __syncthreads();
    for (int k = 0; k < N && threadIdx.x < FINISHED; ++k)
        for (int m = 1; m < n_warps; ++m) sums[k] += shared[(k * n_warps + m) * FINISHED + lane];
}

// Mean and 1 / sqrt(variance + epsilon) of each channel from the sums of n_parts blocks, the
// running ones without any; moves these if asked to.        state: means, `padded` on variances
template<class T> __global__
void finish_moments(T* statistics, T* state, const double* parts, const T* x, int64_t n_parts,
                    int64_t c, int64_t padded, double epsilon, double momentum, int64_t moves) {
    const int64_t j = int64_t(blockIdx.x) * FINISHED + threadIdx.x % FINISHED;
    double sums[3];
    finish(sums, parts, n_parts, c, j);
    if (threadIdx.x >= FINISHED || j >= c) return;
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

// f(share, j) for the columns that a thread has, V from each j on
template<int V, class F> SKNN_DEVICE
void for_columns(int64_t n, int64_t c, int64_t lanes, int64_t block_rows, F f) {
    const Share share(n, lanes, block_rows);
    for (int64_t j = share.lane * V; j < c; j += share.width * V) f(share, j);
}

// y = F(gamma z + beta)            y, x (n, c), gamma, beta (c,)
template<class F, class T, int V> __global__
void batch_norm(T* y, const T* x, const T* gamma, const T* beta, T* statistics, int64_t n,
                int64_t c, int64_t ldy, int64_t ldx, int64_t lanes, int64_t block_rows) {
    const Statistics<T> s(statistics, c);
    for_columns<V>(n, c, lanes, block_rows, [=](const Share& share, int64_t j) {
        const Pack<T, V> mean = load<V>(s.mean + j), shift = load<V>(beta + j);
        Pack<T, V> scale = load<V>(gamma + j);
        for (int k = 0; k < V; ++k) scale[k] *= s.inverse[j + k];
        for_rows(share, [=](int64_t i) { return load<V>(x + i * ldx + j); },
                 [=](int64_t i, Pack<T, V> v) {
            for (int k = 0; k < V; ++k) v[k] = F::value(scale[k] * (v[k] - mean[k]) + shift[k]);
            store(y + i * ldy + j, v);
        }, [] {});
    });
}

// What a thread reads of two matrices
template<class T, int V> struct Two { Pack<T, V> first, second; };
template<class T, int V> struct Three { Pack<T, V> first, second, third; };

// g = g F'(y), and sums of g and of g z over each block's rows   g, y, x (n, c)
template<class F, class T, int V> __global__
void batch_norm_sums(double* parts, T* g, const T* y, const T* x, T* statistics, int64_t n,
                     int64_t c, int64_t ldy, int64_t ldx, int64_t lanes, int64_t block_rows) {
    const Statistics<T> s(statistics, c);
    block_sums<2, T, V>(parts, n, c, lanes, block_rows,
                        [=](const Share& share, int64_t j, Sums<2, T, V>& sums) {
        const Pack<T, V> mean = load<V>(s.mean + j), inverse = load<V>(s.inverse + j);
        for_rows(share, [=](int64_t i) {
            const int64_t at = i * ldy + j;
            return Three<T, V>{load<V>(g + at), load<V>(y + at), load<V>(x + i * ldx + j)};
        }, [&](int64_t i, Three<T, V>& v) {
            for (int k = 0; k < V; ++k) {
                const T d = F::gradient(v.first[k], v.second[k]);
                v.first[k] = d;
                sums.part[0][k] += d;
                sums.part[1][k] += d * ((v.third[k] - mean[k]) * inverse[k]);
            }
            if (!IS_IDENTITY<F>) store(g + i * ldy + j, v.first);
        }, [&] { sums.close_part(); });
    });
}

// The sums of all blocks, which are the gradients of beta and gamma
template<class T> __global__
void finish_sums(T* statistics, T* dgamma, T* dbeta, const double* parts, int64_t n_parts,
                 int64_t c, int64_t accumulate) {
    const int64_t j = int64_t(blockIdx.x) * FINISHED + threadIdx.x % FINISHED;
    double sums[2];
    finish(sums, parts, n_parts, c, j);
    if (threadIdx.x >= FINISHED || j >= c) return;
    const Statistics<T> s(statistics, c);
    s.gradient_sum[j] = T(sums[0]);
    s.product_sum[j] = T(sums[1]);
    dbeta[j] = T(accumulate ? dbeta[j] + sums[0] : sums[0]);
    dgamma[j] = T(accumulate ? dgamma[j] + sums[1] : sums[1]);
}

// dx = gamma inverse (g - share (sum of g + z sum of g z)), or added to it; a pixel's share is its
// weight by that of all                        dx, g, x (n, c)
template<class T, int V> __global__
void batch_norm_gradient(T* dx, const T* g, const T* x, const T* gamma, T* statistics,
                         const double* weights, const Progress* progress, const int64_t* order,
                         int64_t step, int64_t batch, int64_t n, int64_t c, int64_t lddx,
                         int64_t ldg, int64_t ldx, int64_t pixels, int64_t lanes,
                         int64_t block_rows, int64_t accumulate) {
    const Weights of{weights, Rows(progress, order, step, batch), pixels};
    const Statistics<T> s(statistics, c);
    for_columns<V>(n, c, lanes, block_rows, [=](const Share& share, int64_t j) {
        const Pack<T, V> mean = load<V>(s.mean + j);
        Pack<T, V> scale = load<V>(gamma + j), sum, product;
        for (int k = 0; k < V; ++k) {
            const T total = s.weight[j + k], inverse = s.inverse[j + k];
            scale[k] *= inverse;
            sum[k] = total > 0 ? s.gradient_sum[j + k] / total : T(0);
            product[k] = total > 0 ? s.product_sum[j + k] / total * inverse : T(0);
        }
        for_rows(share, [=](int64_t i) {
            return Two<T, V>{load<V>(g + i * ldg + j), load<V>(x + i * ldx + j)};
        }, [=](int64_t i, Two<T, V>& v) {
            const T weight = T(of[i]);
            for (int k = 0; k < V; ++k) {
                const T slope = sum[k] + (v.second[k] - mean[k]) * product[k];
                v.first[k] = scale[k] * (v.first[k] - weight * slope);
            }
            store(dx + i * lddx + j, v.first, accumulate);
        }, [] {});
    });
}

}  // namespace sknn
