// MAX_POOL and AVERAGE_POOL: y = the largest, or the mean, of each window of x. A window that
// reaches beyond the image has fewer elements. x and y have a row for each pixel of n images; a
// thread takes V channels of one.
#include "windows.h"

namespace sknn {

// y = the largest, where NaN is larger than all; and the tap where the first of them is, if
// somebody will ask               positions (n out_pixels, channels)
template<class T, int V> __global__
void max_pool(T* __restrict__ y, uint8_t* __restrict__ positions, const T* __restrict__ x,
              Windows w, int64_t n, int64_t ldy, int64_t ldx, Deal deal) {
    const Place<V> at(deal);
    if (at.image >= n) return;
    const T* image = x + at.image * w.in_pixels() * ldx + at.channel;
    Pack<T, V> largest = {};
    Pack<uint8_t, V> taps = {};
    bool is_first = true;
    for_taps(w, at.row, at.column, [&](int tap, int pixel) {
        if (pixel < 0) return;
        const Pack<T, V> v = load<V>(image + pixel * int(ldx));
        for (int k = 0; k < V; ++k) {
            if (!(is_first || v[k] > largest[k] || (v[k] != v[k] && largest[k] == largest[k])))
                continue;
            largest[k] = v[k];
            taps[k] = uint8_t(tap);
        }
        is_first = false;
    });
    const int64_t output = at.image * w.out_pixels() + at.pixel;
    store(y + output * ldy + at.channel, largest);
    if (positions) store(positions + output * w.channels + at.channel, taps);
}

// dx = the sum of dy over the windows whose maximum it was, or added to it
template<class T, int V> __global__
void max_pool_gradient(T* __restrict__ dx, const T* __restrict__ dy,
                       const uint8_t* __restrict__ positions, Windows w, int64_t n, int64_t lddx,
                       int64_t lddy, Deal deal, int64_t accumulate) {
    const Place<V> at(deal);
    if (at.image >= n) return;
    const int64_t first = at.image * w.out_pixels();
    const uint8_t* taps = positions + first * w.channels + at.channel;
    const T* slopes = dy + first * lddy + at.channel;
    Pack<T, V> sum = {};
    for_outputs(w, at.row, at.column, [&](int tap, int i, int j) {
        const int output = i * w.out_width + j;
        const Pack<uint8_t, V> largest = load<V>(taps + output * w.channels);
        const Pack<T, V> d = load<V>(slopes + output * int(lddy));
        for (int k = 0; k < V; ++k) sum[k] += largest[k] == tap ? d[k] : T(0);
    });
    const int64_t input = at.image * w.in_pixels() + at.pixel;
    store(dx + input * lddx + at.channel, sum, accumulate);
}

// of an axis: elements of output o's window in the image
SKNN_DEVICE int window_size(int o, int stride, int pad, int window, int n) {
    const int start = o * stride - pad, end = start + window;
    return (end < n ? end : n) - (start < 0 ? 0 : start);
}

// of which float sums are added up in double: what they round away grows with their number
constexpr int PIXELS_AT_ONCE = 64;

template<class T, int V> __global__
void average_pool(T* __restrict__ y, const T* __restrict__ x, Windows w, int64_t n, int64_t ldy,
                  int64_t ldx, Deal deal) {
    const Place<V> at(deal);
    if (at.image >= n) return;
    const T* image = x + at.image * w.in_pixels() * ldx + at.channel;
    Pack<T, V> sum = {};
    double total[V] = {};
    int size = 0;
    for_taps(w, at.row, at.column, [&](int, int pixel) {
        if (pixel < 0) return;
        const Pack<T, V> v = load<V>(image + pixel * int(ldx));
        for (int k = 0; k < V; ++k) sum[k] += v[k];
        if (++size % PIXELS_AT_ONCE) return;
        for (int k = 0; k < V; ++k) total[k] += sum[k];
        sum = {};
    });
    for (int k = 0; k < V; ++k) sum[k] = T((total[k] + sum[k]) / size);
    store(y + (at.image * w.out_pixels() + at.pixel) * ldy + at.channel, sum);
}

// dx = the sum of dy / size over the windows that it is in, or added to it
template<class T, int V> __global__
void average_pool_gradient(T* __restrict__ dx, const T* __restrict__ dy, Windows w, int64_t n,
                           int64_t lddx, int64_t lddy, Deal deal, int64_t accumulate) {
    const Place<V> at(deal);
    if (at.image >= n) return;
    const T* slopes = dy + at.image * w.out_pixels() * lddy + at.channel;
    Pack<T, V> sum = {};
    for_outputs(w, at.row, at.column, [&](int, int i, int j) {
        const int size = window_size(i, w.stride_h, w.pad_top, w.kernel_h, w.height)
            * window_size(j, w.stride_w, w.pad_left, w.kernel_w, w.width);
        const Pack<T, V> d = load<V>(slopes + (i * w.out_width + j) * int(lddy));
        const T share = T(1) / T(size);
        for (int k = 0; k < V; ++k) sum[k] += d[k] * share;
    });
    const int64_t input = at.image * w.in_pixels() + at.pixel;
    store(dx + input * lddx + at.channel, sum, accumulate);
}

}  // namespace sknn
