// Pooling of channels-last images. A window that reaches beyond the image has fewer elements.
#pragma once
#include "images.h"

namespace sknn {

struct Pool {
    ptrdiff_t height, width, channels;      // of x
    ptrdiff_t out_height, out_width;
    ptrdiff_t window_h, window_w, stride_h, stride_w, pad_top, pad_left;
};

// The part of output pixel o's window that lies in the image: begin..end, `first` being the
// position of `begin` in the whole window.
struct Span { ptrdiff_t begin, end, first; };
inline Span span(ptrdiff_t o, ptrdiff_t stride, ptrdiff_t pad, ptrdiff_t window, ptrdiff_t n) {
    const ptrdiff_t start = o * stride - pad, end = start + window;
    const ptrdiff_t begin = start < 0 ? 0 : start;
    return {begin, end < n ? end : n, begin - start};
}

// f(output pixel, input pixel, position in the window, whether it is the first, elements of the
// window)
template<class F> void for_windows(const Pool& s, F f) {
    for (ptrdiff_t i = 0; i < s.out_height; ++i) {
        const Span rows = span(i, s.stride_h, s.pad_top, s.window_h, s.height);
        for (ptrdiff_t j = 0; j < s.out_width; ++j) {
            const Span columns = span(j, s.stride_w, s.pad_left, s.window_w, s.width);
            const ptrdiff_t size = (rows.end - rows.begin) * (columns.end - columns.begin);
            for (ptrdiff_t a = rows.begin; a < rows.end; ++a)
                for (ptrdiff_t b = columns.begin; b < columns.end; ++b)
                    f((i * s.out_width + j) * s.channels, (a * s.width + b) * s.channels,
                      (rows.first + a - rows.begin) * s.window_w + columns.first + b
                          - columns.begin,
                      a == rows.begin && b == columns.begin, size);
        }
    }
}

// y = the larger of y and x, and its position if that is wanted; NaN is larger than all
template<class T> __attribute__((noinline))
void larger(T* __restrict y, uint8_t* __restrict positions, const T* __restrict x, int position,
            ptrdiff_t m) {
    for_vectors<T>(m, [&](ptrdiff_t k, ptrdiff_t n) __attribute__((always_inline)) {
        const VectorOf<T> a = load_lanes(y + k, n), b = load_lanes(x + k, n);
        const MaskOf<T> takes = (b > a) | ((b != b) & (a == a));
        store_lanes(y + k, takes ? b : a, n);
        if (!positions) return;
        const MaskOf<T> where = load_positions<T>(positions + k, n);
        store_positions<T>(positions + k, takes ? MaskOf<T>{} + position : where, n);
    });
}

// x (height, width, channels), y and positions (out_height, out_width, channels)
template<class T>
void max_pool(const Pool& s, T* y, uint8_t* positions, const T* x) {
    for_windows(s, [&](ptrdiff_t to, ptrdiff_t from, ptrdiff_t position, bool first, ptrdiff_t) {
        if (!first) {
            larger(y + to, positions ? positions + to : nullptr, x + from,
                   static_cast<int>(position), s.channels);
            return;
        }
        for (ptrdiff_t k = 0; k < s.channels; ++k) y[to + k] = x[from + k];
        for (ptrdiff_t k = 0; positions && k < s.channels; ++k)
            positions[to + k] = static_cast<uint8_t>(position);
    });
}

// dx += dy where the maximum was
template<class T> __attribute__((noinline))
void add_at_position(T* __restrict dx, const T* __restrict dy,
                     const uint8_t* __restrict positions, int position, ptrdiff_t m) {
    for_vectors<T>(m, [&](ptrdiff_t k, ptrdiff_t n) __attribute__((always_inline)) {
        const MaskOf<T> here = load_positions<T>(positions + k, n) == position;
        const VectorOf<T> g = here ? load_lanes(dy + k, n) : VectorOf<T>{};
        store_lanes(dx + k, load_lanes(dx + k, n) + g, n);
    });
}

template<class T>
void max_pool_gradient(const Pool& s, T* dx, const T* dy, const uint8_t* positions) {
    for_windows(s, [&](ptrdiff_t at, ptrdiff_t to, ptrdiff_t position, bool, ptrdiff_t) {
        add_at_position(dx + to, dy + at, positions + at, static_cast<int>(position), s.channels);
    });
}

// Pixels of which float sums are added up in double: what they round away grows with their number.
constexpr ptrdiff_t PIXELS_AT_ONCE = 64;

// y = the mean of a window of x     y (channels,), x with `width` pixels a row
template<class T> __attribute__((noinline))
void mean_of_window(T* __restrict y, const T* __restrict x, const Span& rows, const Span& columns,
                    ptrdiff_t width, ptrdiff_t channels) {
    const ptrdiff_t size = (rows.end - rows.begin) * (columns.end - columns.begin);
    for_vectors<T>(channels, [&](ptrdiff_t k, ptrdiff_t n) __attribute__((always_inline)) {
        constexpr int LANES = Vector<T>::lanes;
        double total[LANES] = {};
        VectorOf<T> sum{};
        ptrdiff_t summed = 0;
        for (ptrdiff_t a = rows.begin; a < rows.end; ++a)
            for (ptrdiff_t b = columns.begin; b < columns.end; ++b) {
                sum += load_lanes(x + (a * width + b) * channels + k, n);
                if (++summed % PIXELS_AT_ONCE) continue;
                for (int l = 0; l < LANES; ++l) total[l] += sum[l];
                sum = VectorOf<T>{};
            }
        if (size >= PIXELS_AT_ONCE)
            for (int l = 0; l < LANES; ++l) sum[l] = T(total[l] + sum[l]);
        store_lanes(y + k, sum * (T(1) / T(size)), n);
    });
}

template<class T> void average_pool(const Pool& s, T* y, const T* x) {
    for (ptrdiff_t i = 0; i < s.out_height; ++i)
        for (ptrdiff_t j = 0; j < s.out_width; ++j, y += s.channels)
            mean_of_window(y, x, span(i, s.stride_h, s.pad_top, s.window_h, s.height),
                           span(j, s.stride_w, s.pad_left, s.window_w, s.width), s.width,
                           s.channels);
}

// y = y + a x
template<class T> __attribute__((noinline))
void add_scaled(T* __restrict y, const T* __restrict x, T a, ptrdiff_t m) {
    for (ptrdiff_t k = 0; k < m; ++k) y[k] += a * x[k];
}

template<class T> void average_pool_gradient(const Pool& s, T* dx, const T* dy) {
    for_windows(s, [&](ptrdiff_t at, ptrdiff_t to, ptrdiff_t, bool, ptrdiff_t size) {
        add_scaled(dx + to, dy + at, T(1) / T(size), s.channels);
    });
}

// g = 0 where a rectifier after the maximum was off
template<class T> __attribute__((noinline))
void zero_dead(T* __restrict g, const uint8_t* __restrict positions, ptrdiff_t m) {
    for_vectors<T>(m, [&](ptrdiff_t k, ptrdiff_t n) __attribute__((always_inline)) {
        const MaskOf<T> dead = load_positions<T>(positions + k, n) == DEAD;
        store_lanes(g + k, dead ? VectorOf<T>{} : load_lanes(g + k, n), n);
    });
}

}  // namespace sknn
