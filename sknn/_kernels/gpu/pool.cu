// MAX_POOL and AVERAGE_POOL: y = the largest, or the mean, of each window of x. A window that
// reaches beyond the image has fewer elements. x and y have a row for each pixel of n images.
#include "windows.h"

namespace sknn {

// y = the largest, where NaN is larger than all; and the tap where the first of them is, if
// somebody will ask               positions (n out_pixels, channels)
template<class T> __global__
void max_pool(T* y, uint8_t* positions, const T* x, Windows w, int64_t n, int64_t ldy,
              int64_t ldx, int64_t lanes) {
    for_elements(n * w.out_pixels(), w.channels, lanes, [=](int64_t i, int64_t j) {
        T largest = 0;
        int position = -1;
        for_taps(w, i, [&](int tap, int64_t pixel) {
            if (pixel < 0) return;
            const T v = x[pixel * ldx + j];
            if (position >= 0 && !(v > largest || (v != v && largest == largest))) return;
            largest = v;
            position = tap;
        });
        y[i * ldy + j] = largest;
        if (positions) positions[i * w.channels + j] = uint8_t(position);
    });
}

// dx = the sum of dy over the windows whose maximum it was, or added to it
template<class T> __global__
void max_pool_gradient(T* dx, const T* dy, const uint8_t* positions, Windows w, int64_t n,
                       int64_t lddx, int64_t lddy, int64_t lanes, int64_t accumulate) {
    for_elements(n * w.in_pixels(), w.channels, lanes, [=](int64_t i, int64_t j) {
        T sum = 0;
        for_outputs(w, i, [&](int tap, int64_t output) {
            if (positions[output * w.channels + j] == tap) sum += dy[output * lddy + j];
        });
        T& to = dx[i * lddx + j];
        to = accumulate ? to + sum : sum;
    });
}

// of an axis: elements of output o's window in the image
SKNN_DEVICE int window_size(int64_t o, int64_t stride, int64_t pad, int64_t window, int64_t n) {
    const int64_t start = o * stride - pad, end = start + window;
    return int((end < n ? end : n) - (start < 0 ? 0 : start));
}

template<class T> __global__
void average_pool(T* y, const T* x, Windows w, int64_t n, int64_t ldy, int64_t ldx,
                  int64_t lanes) {
    for_elements(n * w.out_pixels(), w.channels, lanes, [=](int64_t i, int64_t j) {
        T sum = 0;
        int size = 0;
        for_taps(w, i, [&](int, int64_t pixel) {
            if (pixel < 0) return;
            sum += x[pixel * ldx + j];
            ++size;
        });
        y[i * ldy + j] = sum / T(size);
    });
}

// dx = the sum of dy / size over the windows that it is in, or added to it
template<class T> __global__
void average_pool_gradient(T* dx, const T* dy, Windows w, int64_t n, int64_t lddx, int64_t lddy,
                           int64_t lanes, int64_t accumulate) {
    for_elements(n * w.in_pixels(), w.channels, lanes, [=](int64_t i, int64_t j) {
        T sum = 0;
        for_outputs(w, i, [&](int, int64_t output) {
            const Pixel p(output, w.out_height, w.out_width);
            const int size = window_size(p.row, w.stride_h, w.pad_top, w.kernel_h, w.height)
                * window_size(p.column, w.stride_w, w.pad_left, w.kernel_w, w.width);
            sum += dy[output * lddy + j] / T(size);
        });
        T& to = dx[i * lddx + j];
        to = accumulate ? to + sum : sum;
    });
}

}  // namespace sknn
