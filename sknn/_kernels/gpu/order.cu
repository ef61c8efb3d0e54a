// The order of an epoch drawn on the device: a permutation of which every place is computed by
// itself; and what the host needs to know of the minibatches that it makes.
#include "device.h"

namespace sknn {

constexpr int FEISTEL_ROUNDS = 8;

// A permutation of the numbers of that many bits, 2 to 64: Feistel's network (Luby and Rackoff,
// 1988) of two halves, each in turn changed by random numbers that the other one chooses
SKNN_DEVICE uint64_t permuted(uint64_t x, int bits, uint64_t seed, uint64_t epoch) {
    int n_left = bits / 2, n_right = bits - n_left;
    uint32_t left = uint32_t(x >> n_right), right = uint32_t(x & ((uint64_t(1) << n_right) - 1));
    for (int round = 0; round < FEISTEL_ROUNDS; ++round) {
        const uint32_t random = random_block(seed, epoch, uint32_t(round), right).word[0];
        const uint32_t changed = left ^ uint32_t(random & ((uint64_t(1) << n_left) - 1));
        left = right;
        right = changed;
        const int swapped = n_left;
        n_left = n_right;
        n_right = swapped;
    }
    return uint64_t(left) << n_right | right;
}

// order_i = rows_p(i), or p(i) itself, where p permutes 0..n - 1: of the numbers of as many bits
// as n - 1 has, those below n, each followed until it comes back among them (Black and Rogaway,
// 2002)                            order (n,), rows (n,) or none
__global__
void draw_order(int64_t* order, const int64_t* rows, int64_t n, int64_t seed, int64_t epoch) {
    int bits = 2;
    while (n - 1 >> bits) ++bits;
    const int64_t n_threads = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += n_threads) {
        uint64_t place = i;
        do place = permuted(place, bits, seed, epoch);
        while (place >= uint64_t(n));
        order[i] = rows ? rows[place] : int64_t(place);
    }
}

// sums_b = sum of the weights of minibatch b, one of each block     order (n,), sums (blocks,)
__global__
void weight_sums(double* sums, const double* weights, const int64_t* order, int64_t n,
                 int64_t batch) {
    const int64_t begin = int64_t(blockIdx.x) * batch;
    const int64_t end = begin + batch < n ? begin + batch : n;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) sum += weights[order[i]];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

}  // namespace sknn
