// DROPOUT: y = x / (1 - rate) where a random number says so, else 0. Masks are those of the CPU
// and never stored: backward draws the same numbers again.
#include "device.h"

namespace sknn {

// out = x keep / (1 - rate), or added to it        out, x (n, m); of samples first.. of a
// minibatch, each of which has so many rows that share their random numbers
template<class T> __global__
void dropout(T* out, const T* x, const Progress* progress, int64_t step, int64_t batch,
             int64_t first, int64_t sample_rows, int64_t stream, double rate, int64_t n,
             int64_t m, int64_t ld_out, int64_t ld, int64_t lanes, int64_t accumulate) {
    const uint32_t threshold = uint32_t(rate * 4294967296.0);
    const T scale = T(1 / (1 - rate));
    const uint64_t position = progress->n_seen + (progress->first_step + step) * batch;
    const int64_t blocks = (m + 3) / 4;
    for_elements(n, blocks, lanes, [=](int64_t i, int64_t block) {
        const Block random = random_block(progress->seed, position, uint32_t(stream),
                                          uint32_t((first + i / sample_rows) * blocks + block));
        for (int k = 0; k < 4 && 4 * block + k < m; ++k) {
            const T from = x[i * ld + 4 * block + k];
            const T kept = random.word[k] >= threshold ? from * scale : T(0);
            T& to = out[i * ld_out + 4 * block + k];
            to = accumulate ? to + kept : kept;
        }
    });
}

}  // namespace sknn
