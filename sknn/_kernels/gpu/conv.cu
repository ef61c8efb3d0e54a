// CONV: y = activation(x * W + b). Most are products of matrices: of the columns, where every
// output pixel has a row with all that its window sees, and the weights. Convolutions in groups
// are made directly. x and y have a row for each pixel of n images.
#include "windows.h"

namespace sknn {

// columns (n out_pixels, taps channels) of x: 0 where a window reaches beyond the image
template<class T, int V> __global__
void im2col(T* __restrict__ columns, const T* __restrict__ x, Windows w, int64_t n, int64_t ld,
            int64_t ldx, Deal deal) {
    const Place<V> at(deal);
    if (at.image >= n) return;
    const T* image = x + at.image * w.in_pixels() * ldx + at.channel;
    T* row = columns + (at.image * w.out_pixels() + at.pixel) * ld + at.channel;
    for_taps(w, at.row, at.column, [&](int tap, int pixel) {
        Pack<T, V> v = {};
        if (pixel >= 0) v = load<V>(image + pixel * int(ldx));
        store(row + tap * w.channels, v);
    });
}

// dx = the sum of all columns where a pixel is seen, or added to it
template<class T, int V> __global__
void col2im(T* __restrict__ dx, const T* __restrict__ columns, Windows w, int64_t n, int64_t lddx,
            int64_t ld, Deal deal, int64_t accumulate) {
    const Place<V> at(deal);
    if (at.image >= n) return;
    const T* image = columns + at.image * w.out_pixels() * ld + at.channel;
    Pack<T, V> sum = {};
    for_outputs(w, at.row, at.column, [&](int tap, int i, int j) {
        const T* row = image + (i * w.out_width + j) * ld;
        const Pack<T, V> d = load<V>(row + tap * w.channels);
        for (int k = 0; k < V; ++k) sum[k] += d[k];
    });
    store(dx + (at.image * w.in_pixels() + at.pixel) * lddx + at.channel, sum, accumulate);
}

// ---- in groups: filter f sees the channels f / (filters / groups) (channels / groups) on ------

// y = F(x * W + b)                 W (taps, channels / groups, filters), b (filters,)
template<class F, class T> __global__
void grouped_conv(T* y, const T* x, const T* W, const T* b, Windows w, int64_t n, int64_t ldy,
                  int64_t ldx, Deal deal) {
    const Place<1> at(deal);
    if (at.image >= n) return;
    const int sees = w.channels / w.groups, each = w.filters / w.groups, f = at.channel;
    const T* image = x + at.image * w.in_pixels() * ldx + f / each * sees;
    T sum = b[f];
    for_taps(w, at.row, at.column, [&](int tap, int pixel) {
        const T* seen = image + pixel * int(ldx);
        for (int c = 0; c < sees && pixel >= 0; ++c)
            sum += seen[c] * W[(tap * sees + c) * w.filters + f];
    });
    y[(at.image * w.out_pixels() + at.pixel) * ldy + f] = F::value(sum);
}

// dx = dy * W turned around, or added to it
template<class T> __global__
void grouped_conv_gradient(T* dx, const T* dy, const T* W, Windows w, int64_t n, int64_t lddx,
                           int64_t lddy, Deal deal, int64_t accumulate) {
    const Place<1> at(deal);
    if (at.image >= n) return;
    const int sees = w.channels / w.groups, each = w.filters / w.groups;
    const int group = at.channel / sees, c = at.channel - group * sees;
    const T* slopes = dy + at.image * w.out_pixels() * lddy + group * each;
    Pack<T, 1> sum = {};
    for_outputs(w, at.row, at.column, [&](int tap, int i, int j) {
        const T* slope = slopes + (i * w.out_width + j) * int(lddy);
        const T* weights = W + (tap * sees + c) * w.filters + group * each;
        for (int f = 0; f < each; ++f) sum[0] += slope[f] * weights[f];
    });
    store(dx + (at.image * w.in_pixels() + at.pixel) * lddx + at.channel, sum, accumulate);
}

// parts_b = the gradient of W over the output pixels of share b; there is a block for each share
// and each row of W, one after the other        parts (shares, taps channels / groups, filters)
template<class T> __global__
void grouped_weight_gradient(T* parts, const T* x, const T* dy, Windows w, int64_t n,
                             int64_t ldx, int64_t lddy, int64_t lanes, int64_t share_rows) {
    SKNN_SHARED(T, sums, MOST_THREADS);
    const int64_t sees = w.channels / w.groups, each = w.filters / w.groups;
    const int64_t n_rows = w.kernel_h * w.kernel_w * sees;
    const int64_t row = blockIdx.x % n_rows, wanted = row / sees, c = row % sees;
    const int64_t begin = blockIdx.x / n_rows * share_rows, all = n * w.out_pixels();
    const int64_t end = begin + share_rows < all ? begin + share_rows : all;
    const int width = int(lanes), n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1), group = threadIdx.x / width;
    for (int64_t first = 0; first < w.filters; first += width) {
        const int64_t f = first + lane, channel = f / each * sees + c;
        T sum = 0;
        for (int64_t i = begin + group; i < end && f < w.filters; i += n_groups) {
            const int64_t pixel = w.seen(i, wanted);
            if (pixel >= 0) sum += x[pixel * ldx + channel] * dy[i * lddy + f];
        }
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (group == 0 && f < w.filters) {
            for (int k = 1; k < n_groups; ++k) sum += sums[k * width + lane];
            parts[blockIdx.x * w.filters + f] = sum;
        }
        __syncthreads();
    }
}

}  // namespace sknn
