// What all kernels share: how rows are dealt to threads, where a step's rows are, sums.
// The subset that NVRTC compiles without headers; a block has a whole number of warps.
#pragma once
#include "formulas.h"

#define SKNN_DEVICE __device__ __forceinline__

namespace sknn {

constexpr int WARP = 32, MOST_THREADS = 256;
constexpr unsigned ALL_LANES = 0xffffffffu;
// loads of a thread that are under way together, where it waits for memory
constexpr int AT_ONCE = 4;

// A captured graph is replayed with the same arguments. What changes between replays lies here.
struct Progress {
    int64_t first_step;     // of the epoch, that the graph's step 0 stands for
    double loss;            // of the epoch so far
    int64_t n_seen;         // rows of earlier epochs, which random ops count from
    uint64_t seed;
};

// Step `step` of a graph takes the rows of X, the targets and the weights that the order names.
struct Rows {
    const int64_t* samples;
    SKNN_DEVICE Rows(const Progress* progress, const int64_t* order, int64_t step, int64_t batch)
        : samples(order + (progress->first_step + step) * batch) {}
    SKNN_DEVICE int64_t operator[](int64_t i) const { return samples[i]; }
};

// f(i, j) for all elements of n rows of m: `lanes` threads, a power of two, take a row
template<class F> SKNN_DEVICE void for_elements(int64_t n, int64_t m, int lanes, F f) {
    const int rows = blockDim.x / lanes, lane = threadIdx.x & (lanes - 1);
    const int64_t first = int64_t(blockIdx.x) * rows + threadIdx.x / lanes;
    for (int64_t i = first; i < n; i += int64_t(gridDim.x) * rows)
        for (int64_t j = lane; j < m; j += lanes) f(i, j);
}

template<class F> constexpr bool IS_IDENTITY = false;
template<> constexpr bool IS_IDENTITY<Identity> = true;

// over groups of `lanes` threads, a power of two; every thread gets it
template<class T> SKNN_DEVICE T group_sum(T v, int lanes) {
    for (int k = lanes / 2; k > 0; k /= 2) v += __shfl_xor_sync(ALL_LANES, v, k);
    return v;
}
template<class T> SKNN_DEVICE T group_max(T v, int lanes) {
    for (int k = lanes / 2; k > 0; k /= 2) {
        const T other = __shfl_xor_sync(ALL_LANES, v, k);
        v = other > v ? other : v;
    }
    return v;
}

// over the block, always in the same order; thread 0 gets it, once in a kernel
SKNN_DEVICE double block_sum(double v) {
    SKNN_SHARED(double, parts, WARP);
    v = group_sum(v, WARP);
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    if (threadIdx.x >= WARP) return 0;
    return group_sum(threadIdx.x < blockDim.x / WARP ? parts[threadIdx.x] : 0.0, WARP);
}

// Of n numbers, stride apart: each group of `width` threads, a power of two, adds up some of a
// column each, and the first group's threads, which get it, the sums of all. Inactive columns have
// none. No load stands behind a branch, so that all of a turn are under way together. Once in a
// kernel.
template<class T> SKNN_DEVICE T column_sum(const T* column, unsigned n, unsigned stride,
                                           bool active, unsigned width = WARP) {
    SKNN_SHARED(T, sums, MOST_THREADS);
    constexpr int EACH = 4 * AT_ONCE;
    const unsigned n_groups = blockDim.x / width;
    T sum = 0;
    for (unsigned i = threadIdx.x / width; i < n && active; i += EACH * n_groups) {
        T part[EACH];
        #pragma unroll
        for (int k = 0; k < EACH; ++k) {
            const unsigned row = i + k * n_groups;
            part[k] = column[uint64_t(row < n ? row : i) * stride];
        }
        #pragma unroll
        for (int k = 0; k < EACH; ++k) sum += i + k * n_groups < n ? part[k] : T(0);
    }
    for (int k = width; k < WARP; k *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, k);
    sums[threadIdx.x] = sum;
    __syncthreads();
    const unsigned apart = width < WARP ? WARP : width;
    for (unsigned k = apart; threadIdx.x < width && k < blockDim.x; k += apart)
        sum += sums[threadIdx.x + k];
    return sum;
}

}  // namespace sknn
