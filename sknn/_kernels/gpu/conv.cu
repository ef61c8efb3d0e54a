// CONV: y = activation(x * W + b). Most are products of matrices: of the columns, where every
// output pixel has a row with all that its window sees, and the weights. Convolutions in groups
// are made directly. x and y have a row for each pixel of n images.
#include "windows.h"

namespace sknn {

// columns (n out_pixels, taps channels) of x: 0 where a window reaches beyond the image
template<class T> __global__
void im2col(T* columns, const T* x, Windows w, int64_t n, int64_t ld, int64_t ldx,
            int64_t lanes) {
    for_elements(n * w.out_pixels(), w.channels, lanes, [=](int64_t i, int64_t j) {
        for_taps(w, i, [&](int tap, int64_t pixel) {
            columns[i * ld + tap * w.channels + j] = pixel < 0 ? T(0) : x[pixel * ldx + j];
        });
    });
}

// dx = the sum of all columns where a pixel is seen, or added to it
template<class T> __global__
void col2im(T* dx, const T* columns, Windows w, int64_t n, int64_t lddx, int64_t ld,
            int64_t lanes, int64_t accumulate) {
    for_elements(n * w.in_pixels(), w.channels, lanes, [=](int64_t i, int64_t j) {
        T sum = 0;
        for_outputs(w, i, [&](int tap, int64_t output) {
            sum += columns[output * ld + tap * w.channels + j];
        });
        T& to = dx[i * lddx + j];
        to = accumulate ? to + sum : sum;
    });
}

// ---- in groups: filter f sees the channels f / (filters / groups) (channels / groups) on ------

// y = F(x * W + b)                 W (taps, channels / groups, filters), b (filters,)
template<class F, class T> __global__
void grouped_conv(T* y, const T* x, const T* W, const T* b, Windows w, int64_t n, int64_t ldy,
                  int64_t ldx, int64_t lanes) {
    const int64_t sees = w.channels / w.groups, each = w.filters / w.groups;
    for_elements(n * w.out_pixels(), w.filters, lanes, [=](int64_t i, int64_t f) {
        const int64_t first = f / each * sees;
        T sum = b[f];
        for_taps(w, i, [&](int tap, int64_t pixel) {
            for (int64_t c = 0; c < sees && pixel >= 0; ++c)
                sum += x[pixel * ldx + first + c] * W[(tap * sees + c) * w.filters + f];
        });
        y[i * ldy + f] = F::value(sum);
    });
}

// dx = dy * W turned around, or added to it
template<class T> __global__
void grouped_conv_gradient(T* dx, const T* dy, const T* W, Windows w, int64_t n, int64_t lddx,
                           int64_t lddy, int64_t lanes, int64_t accumulate) {
    const int64_t sees = w.channels / w.groups, each = w.filters / w.groups;
    for_elements(n * w.in_pixels(), w.channels, lanes, [=](int64_t i, int64_t j) {
        const int64_t first = j / sees * each, c = j % sees;
        T sum = 0;
        for_outputs(w, i, [&](int tap, int64_t output) {
            const T* weights = W + (tap * sees + c) * w.filters;
            for (int64_t f = first; f < first + each; ++f)
                sum += dy[output * lddy + f] * weights[f];
        });
        T& to = dx[i * lddx + j];
        to = accumulate ? to + sum : sum;
    });
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
