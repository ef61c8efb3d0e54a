// Dense layers of few units: products that are limited by reading x, each in one kernel. UNITS is
// at least the number of units, and a multiple of 4; those beyond it have weights of 0.
#include "pack.h"

namespace sknn {

// numbers u .. u + 3 of a row of m, zeros behind its end; the row's first is there in any case
template<class T> SKNN_DEVICE Pack<T, 4> four_of(const T* row, int u, int m) {
    Pack<T, 4> four;
    #pragma unroll
    for (int e = 0; e < 4; ++e) {
        const T value = row[u + e < m ? u + e : 0];
        four[e] = u + e < m ? value : T(0);
    }
    return four;
}

// z = x W + b for rows of x (n, k), W (k, m): `lanes` threads, a power of two, take a row, each
// some of its columns, and all get z. out.begin(i) is called early, for what has to be loaded, and
// out.end(i, z, lane) writes what is its lane's; behind the last row, lane is none.
template<int UNITS, class T, class Out> SKNN_DEVICE
void for_narrow_rows(const T* __restrict__ x, const T* __restrict__ W, const T* __restrict__ b,
                     int64_t n, int k, int m, int64_t ld, int64_t lanes, Out& out) {
    constexpr int EACH = 2 * AT_ONCE, TURN = EACH * WARP;
    static_assert(TURN == MOST_THREADS);
    // fours from one column's weights to the next's, so that those of eight lie in other banks
    constexpr int FOURS = UNITS / 4, PITCH = UNITS == 16 ? 5 : FOURS;
    constexpr int CHUNK = 40960 / int(PITCH * sizeof(Pack<T, 4>)) / TURN * TURN;
    using Four = Pack<T, 4>;
    SKNN_SHARED(Four, weights, CHUNK * PITCH);
    SKNN_SHARED(T, biases, UNITS);
    const int width = int(lanes), n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1), group = threadIdx.x / width;
    const int64_t begin = int64_t(blockIdx.x) * n_groups;
    for (int64_t first = begin; first < n; first += int64_t(gridDim.x) * n_groups) {
        const bool active = first + group < n;
        const int64_t i = active ? first + group : n - 1;
        out.begin(i);
        T z[UNITS] = {}, value[EACH];
        for (int start = 0; start < k; start += CHUNK) {
            const int size = k - start < CHUNK ? k - start : CHUNK;
            const T* row = x + i * ld + start;
            auto load = [&](int from) {
                #pragma unroll
                for (int q = 0; q < EACH; ++q) {
                    const int j = from + q * width;
                    value[q] = row[j < size ? j : size - 1];
                }
            };
            load(lane);     // under way while the weights come
            if (first == begin || k > CHUNK) {
                const T bias = b[threadIdx.x < m ? threadIdx.x : 0];
                for (int base = 0; base < size; base += TURN) {     // zeros up to a whole turn
                    Pack<T, 4> four[FOURS];
                    #pragma unroll
                    for (int s = 0; s < FOURS; ++s) {
                        const int t = base * FOURS + s * TURN + threadIdx.x;
                        const bool inside = t / FOURS < size;
                        const T* from = W + (inside ? (start + t / FOURS) * m : 0);
                        four[s] = four_of(from, t % FOURS * 4, inside ? m : 0);
                    }
                    #pragma unroll
                    for (int s = 0; s < FOURS; ++s) {
                        const int t = base * FOURS + s * TURN + threadIdx.x;
                        weights[t / FOURS * PITCH + t % FOURS] = four[s];
                    }
                }
                if (first == begin && start == 0 && threadIdx.x < UNITS)
                    biases[threadIdx.x] = threadIdx.x < m ? bias : T(0);
                __syncthreads();
            }
            for (int from = lane; from < size; from += EACH * width) {
                #pragma unroll
                for (int q = 0; q < EACH; ++q) {
                    const int j = from + q * width;
                    const T v = j < size ? value[q] : T(0);
                    #pragma unroll
                    for (int f = 0; f < FOURS; ++f) {
                        const Pack<T, 4> four = weights[j * PITCH + f];
                        #pragma unroll
                        for (int e = 0; e < 4; ++e) z[4 * f + e] += v * four[e];
                    }
                }
                if (from + EACH * width < size) load(from + EACH * width);
            }
            if (k > CHUNK) __syncthreads();
        }
        for (int apart = width / 2; apart > 0; apart /= 2) {
            #pragma unroll
            for (int u = 0; u < UNITS; ++u) z[u] += __shfl_xor_sync(ALL_LANES, z[u], apart);
        }
        #pragma unroll
        for (int u = 0; u < UNITS; ++u) z[u] += biases[u];
        out.end(i, z, active ? lane : -1);
    }
}

// y = F(x W + b)                   x (n, k), W (k, m), b (m,), y (n, m)
template<int UNITS, class F, class T> struct ActivatedRows {
    T* y;
    int64_t m, ld;
    int width;
    SKNN_DEVICE void begin(int64_t) {}
    SKNN_DEVICE void end(int64_t i, const T (&z)[UNITS], int lane) {
        #pragma unroll
        for (int u = 0; u < UNITS; ++u)
            if ((u & (width - 1)) == lane && u < m) y[i * ld + u] = F::value(z[u]);
    }
};
template<int UNITS, class F, class T> __global__
void narrow_dense(T* y, const T* x, const T* W, const T* b, int64_t n, int64_t k, int64_t m,
                  int64_t ldy, int64_t ldx, int64_t lanes) {
    ActivatedRows<UNITS, F, T> out{y, m, ldy, int(lanes)};
    for_narrow_rows<UNITS>(x, W, b, n, int(k), int(m), ldx, lanes, out);
}

// p = softmax(x W + b); in training g = weight_i (p - 1 at the true class), and each block writes
// the sum of its rows' losses, as softmax_log_loss does behind a product       p, g (n, m)
template<int UNITS, class T> struct SoftmaxRows {
    T *p, *g;
    const int32_t* classes;
    const double* weights;
    const Rows rows;
    const int64_t m, ld;
    const int width;
    const double factor;
    double loss = 0, weight = 1;
    int true_class = 0;
    SKNN_DEVICE void begin(int64_t i) {
        if (!classes) return;
        const int64_t sample = rows[i];
        true_class = classes[sample];
        if (weights) weight = weights[sample];
    }
    SKNN_DEVICE void end(int64_t i, T (&z)[UNITS], int lane) {
        T largest = z[0], sum = 0, true_p = 0;
        #pragma unroll
        for (int u = 1; u < UNITS; ++u) largest = u < m && z[u] > largest ? z[u] : largest;
        #pragma unroll
        for (int u = 0; u < UNITS; ++u) {
            z[u] = exp(z[u] - largest);
            sum += u < m ? z[u] : T(0);
        }
        const T scale = T(1) / sum;
        #pragma unroll
        for (int u = 0; u < UNITS; ++u) {
            const T q = z[u] * scale;
            true_p = u == true_class ? q : true_p;
            if ((u & (width - 1)) != lane || u >= m) continue;
            p[i * ld + u] = q;
            if (classes) g[i * ld + u] = q * T(weight) - (u == true_class ? T(weight) : T(0));
        }
        if (lane == 0 && classes) loss += factor * log_loss(true_p) * weight;
    }
};
template<int UNITS, class T> __global__
void narrow_softmax_log_loss(T* p, T* g, double* losses, const T* x, const T* W, const T* b,
                             const int32_t* classes, const double* weights,
                             const Progress* progress, const int64_t* order, int64_t step,
                             int64_t batch, int64_t n, int64_t k, int64_t m, int64_t ldp,
                             int64_t ldx, int64_t lanes, double factor) {
    SoftmaxRows<UNITS, T> out{p, g, classes, weights, Rows(progress, order, step, batch), m, ldp,
                              int(lanes), factor};
    for_narrow_rows<UNITS>(x, W, b, n, int(k), int(m), ldx, lanes, out);
    if (!classes) return;
    const double loss = block_sum(out.loss);
    if (threadIdx.x == 0) losses[step * gridDim.x + blockIdx.x] = loss;
}

// dx = F'(x) (dy W'), and for each part of the rows dx's column sums and dW = x' dy, transposed;
// each that has an address. A group of threads takes a part, the groups of a block other parts of
// the same columns.                dx, x = F(..) (n, k), dy (n, m), W (k, m), sums (parts, k),
//                                  parts (parts, m, k)
template<int UNITS, class F, class T> __global__
__launch_bounds__(MOST_THREADS, UNITS * sizeof(T) <= 48 ? 4 : 1)
void narrow_gradient(T* __restrict__ dx, const T* __restrict__ x, const T* __restrict__ dy,
                     const T* __restrict__ W, T* __restrict__ sums, T* __restrict__ parts,
                     int64_t n, int64_t k, int64_t m, int64_t ldx, int64_t ldy,
                     int64_t part_rows) {
    constexpr int EACH = 2 * AT_ONCE, FOURS = UNITS / 4;
    constexpr int WIDTH = 2 * WARP, GROUPS = MOST_THREADS / WIDTH;
    using Four = Pack<T, 4>;
    SKNN_SHARED(Four, slopes, GROUPS * EACH * FOURS);
    SKNN_SHARED(T, values, EACH * MOST_THREADS);    // each its own: registers are few
    const int lane = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, rows = int(part_rows);
    const unsigned n_strips = unsigned(k + WIDTH - 1) / WIDTH, pitch = unsigned(ldx);
    const int64_t first_part = int64_t(blockIdx.x / n_strips) * GROUPS;
    const int64_t part = first_part + group, begin = part * rows;
    const int count = n - begin < rows ? int(n - begin) : rows;     // below 1 behind the last part
    const unsigned j = blockIdx.x % n_strips * WIDTH + lane;
    const bool active = j < k;
    // of dy, a thread brings four numbers at most
    const int slope_unit = threadIdx.x % FOURS * 4, slope_row = threadIdx.x / FOURS % EACH;
    const int slope_group = threadIdx.x / (FOURS * EACH);
    T weight[UNITS], gradient[UNITS] = {}, sum = 0;
    #pragma unroll
    for (int u = 0; u < UNITS; ++u) weight[u] = u < m && active ? W[j * m + u] : T(0);
    for (int r = 0; r < rows; r += EACH) {
        int64_t at = (r < count ? begin + r : 0) * ldx + (active ? j : 0);
        T value[EACH];
        #pragma unroll
        for (int q = 0; q < EACH; ++q) value[q] = x[at + (r + q < count ? q * pitch : 0)];
        if (slope_group < GROUPS) {
            const int64_t i = (first_part + slope_group) * rows + r + slope_row;
            const bool inside = r + slope_row < rows && i < n;
            const T* from = dy + (inside ? i * ldy : 0);
            slopes[threadIdx.x] = four_of(from, slope_unit, inside ? int(m) : 0);
        }
        #pragma unroll
        for (int q = 0; q < EACH; ++q) values[q * MOST_THREADS + threadIdx.x] = value[q];
        __syncthreads();
        #pragma unroll 2
        for (int q = 0; q < EACH && r + q < count; ++q, at += pitch) {
            const T v = values[q * MOST_THREADS + threadIdx.x];
            T d = 0;
            #pragma unroll
            for (int f = 0; f < FOURS; ++f) {
                const Pack<T, 4> four = slopes[(group * EACH + q) * FOURS + f];
                #pragma unroll
                for (int e = 0; e < 4; ++e) {
                    d += four[e] * weight[4 * f + e];
                    gradient[4 * f + e] += v * four[e];
                }
            }
            d = F::gradient(d, v);
            sum += d;
            if (dx && active) dx[at] = d;
        }
        __syncthreads();
    }
    if (count <= 0 || !active) return;
    if (sums) sums[part * k + j] = sum;
    #pragma unroll
    for (int u = 0; u < UNITS; ++u)
        if (parts && u < m) parts[(part * m + u) * k + j] = gradient[u];
}

}  // namespace sknn
