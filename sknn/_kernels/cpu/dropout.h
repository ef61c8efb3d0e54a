// Random masks that are never stored: backward draws the same numbers again.
#pragma once
#include "elementwise.h"

namespace sknn {

// 4 LANES random words of the blocks from `block` on, in order
SKNN_FN void random_words(uint32_t* words, uint64_t seed, uint64_t step, uint32_t stream,
                          uint64_t block) {
    uint32_t word[4][LANES];
    #pragma omp simd
    for (int k = 0; k < LANES; ++k) {
        Block b = random_block(seed, step, stream, uint32_t(block) + k);
        for (int q = 0; q < 4; ++q) word[q][k] = b.word[q];
    }
    for (int k = 0; k < LANES; ++k)
        for (int q = 0; q < 4; ++q) words[4 * k + q] = word[q][k];
}

// out_ij = x_ij keep_j / (1 - rate), or added to it: x (n, m), keep_j from block first + j / 4
template<class T> SKNN_LOOP
void dropout(T* __restrict out, const T* __restrict x, ptrdiff_t n, ptrdiff_t m, double rate,
             uint64_t seed, uint64_t step, uint32_t stream, uint64_t first, bool accumulate) {
    constexpr ptrdiff_t WORDS = 4 * LANES;
    const uint32_t threshold = uint32_t(rate * 4294967296.0);
    const T scale = T(1 / (1 - rate));
    uint32_t words[WORDS];
    for (ptrdiff_t j = 0; j < m; j += WORDS) {
        const ptrdiff_t width = m - j < WORDS ? m - j : WORDS;
        random_words(words, seed, step, stream, first + j / 4);
        for (ptrdiff_t i = 0; i < n; ++i) {
            const T* from = x + i * m + j;
            T* to = out + i * m + j;
            for (ptrdiff_t k = 0; k < width; ++k) {
                const T kept = words[k] >= threshold ? from[k] * scale : T(0);
                to[k] = accumulate ? to[k] + kept : kept;
            }
        }
    }
}

}  // namespace sknn
