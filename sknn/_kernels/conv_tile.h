// The sums of a convolution: those of some pixels of two rows stay in vector registers, a vector
// of filters each, while the inputs are broadcast against the weights. A kernel's taps are a list
// of distances, so that strides, dilation, groups and the input's gradient are the same loop over
// another list.
#pragma once
#include "images.h"
#include "tiles.h"

namespace sknn {

// pixels of each of a tile's two rows, at most
constexpr int TILE_PIXELS = TILE_ROWS / 2;

// ---- a tile of sums ---------------------------------------------------------------------------

// What the tiles of a layer have in common. One input value for each weight of a filter: its
// distance from the first one, in elements.
template<class T> struct Sums {
    const int32_t* offsets;
    ptrdiff_t n;                        // of offsets
    ptrdiff_t x_row, x_pixel, y_row, y_pixel;       // to the next one in the output
    ptrdiff_t height, width;            // of the output, before pooling
    ptrdiff_t columns;                  // filters
    const T* weights;                   // panels (n, vectors) of filters
    const T* bias;                      // null: none
    bool relu, accumulate, pool;
    bool depthwise;                     // one channel for each filter
};

// the larger one of two, and where it was; NaN is larger than all
template<class T> inline void take_larger(VectorOf<T>& most, MaskOf<T>& where, VectorOf<T> v,
                                          int position) {
    const MaskOf<T> larger = (v > most) | (v != v);
    most = larger ? v : most;
    where = larger ? MaskOf<T>{} + position : where;
}

// y = the largest of 2 x 2 sums; n lanes of it
template<class T>
inline void store_pooled(T* y, uint8_t* position, VectorOf<T> a, VectorOf<T> b, VectorOf<T> c,
                         VectorOf<T> d, bool relu, ptrdiff_t n) {
    using Mask = MaskOf<T>;
    Mask where{};
    take_larger<T>(a, where, b, 1);
    take_larger<T>(a, where, c, 2);
    take_larger<T>(a, where, d, 3);
    if (relu) {
        const Mask dead = a <= VectorOf<T>{};
        a = dead ? VectorOf<T>{} : a;
        where = dead ? Mask{} + DEAD : where;
    }
    store_lanes(y, a, n);
    if (position) store_positions<T>(position, where, n);
}

// y = the sums, or added to it; of the last vector `last` lanes unless it is WHOLE
template<class T, int PIXELS, int VECTORS, bool WHOLE> __attribute__((always_inline))
inline void finish(const Sums<T>& s, VectorOf<T> (&a)[PIXELS][VECTORS],
                   VectorOf<T> (&b)[PIXELS][VECTORS], T* y0, T* y1, ptrdiff_t last) {
    constexpr int LANES = Vector<T>::lanes;
    const auto each = [&](auto f) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) {
                f(a[p][v], y0 + p * s.y_pixel + v * LANES, WHOLE || v + 1 < VECTORS);
                f(b[p][v], y1 + p * s.y_pixel + v * LANES, WHOLE || v + 1 < VECTORS);
            }
    };
    if (s.accumulate)
        each([&](VectorOf<T>& sum, const T* y, bool whole) __attribute__((always_inline)) {
            sum += whole ? load(y) : load(y, last);
        });
    if (s.relu)
        each([&](VectorOf<T>& sum, const T*, bool) __attribute__((always_inline)) {
            sum = rectify<T>(sum);
        });
    each([&](VectorOf<T>& sum, T* y, bool whole) __attribute__((always_inline)) {
        if (whole) store(y, sum);
        else store(y, sum, last);
    });
}

// y = the sums of PIXELS pixels of two rows by VECTORS vectors of filters, of which there are
// `columns`; pooled to one row if POOL; of one channel for each filter if DEPTHWISE
template<class T, int PIXELS, int VECTORS, bool POOL, bool DEPTHWISE> __attribute__((noinline))
void conv_tile(const Sums<T>& s, const T* x0, const T* x1, const T* w, const T* bias, T* y0, T* y1,
               uint8_t* positions, ptrdiff_t columns) {
    constexpr int LANES = Vector<T>::lanes;
    VectorOf<T> a[PIXELS][VECTORS], b[PIXELS][VECTORS];
    const ptrdiff_t last = columns - (VECTORS - 1) * LANES;
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) {
        VectorOf<T> first{};
        if (bias) first = v + 1 < VECTORS || last == LANES ? load(bias + v * LANES)
                                                           : load(bias + v * LANES, last);
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; ++p) a[p][v] = b[p][v] = first;
    }
    const auto input = [](const T* x) __attribute__((always_inline)) {
        if constexpr (DEPTHWISE) return load(x);
        else return *x;
    };
    constexpr int STEP = DEPTHWISE ? LANES : 0;     // from the input of one vector to the next
    const ptrdiff_t pixel = s.x_pixel, n = s.n;
    const int32_t* __restrict offsets = s.offsets;
    for (ptrdiff_t t = 0; t < n; ++t, w += VECTORS * LANES) {
        const T *from0 = x0 + offsets[t], *from1 = x1 + offsets[t];
        VectorOf<T> weight[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) weight[v] = load(w + v * LANES);
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) 
                a[p][v] += input(from0 + p * pixel + v * STEP) * weight[v];
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) 
                b[p][v] += input(from1 + p * pixel + v * STEP) * weight[v];
    }
    if constexpr (POOL) {
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; p += 2)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) {
                const ptrdiff_t at = p / 2 * s.y_pixel + v * LANES;
                store_pooled<T>(y0 + at, positions ? positions + at : nullptr, a[p][v],
                                a[p + 1][v], b[p][v], b[p + 1][v], s.relu,
                                v + 1 < VECTORS ? LANES : last);
            }
    } else {
        if (last == LANES) finish<T, PIXELS, VECTORS, true>(s, a, b, y0, y1, last);
        else finish<T, PIXELS, VECTORS, false>(s, a, b, y0, y1, last);
    }
}

template<class T> using ConvTile = void (*)(const Sums<T>&, const T*, const T*, const T*, const T*,
                                            T*, T*, uint8_t*, ptrdiff_t);

template<class T, int VECTORS, int... I>
ConvTile<T> conv_tile_of(ptrdiff_t pixels, const Sums<T>& s, std::integer_sequence<int, I...>) {
    static constexpr ConvTile<T> PLAIN[] = {conv_tile<T, I + 1, VECTORS, false, false>...};
    static constexpr ConvTile<T> DEPTHWISE[] = {conv_tile<T, I + 1, VECTORS, false, true>...};
    static constexpr ConvTile<T> POOLED[] = {
        conv_tile<T, I < 2 ? 2 : (I + 1) / 2 * 2, VECTORS, true, false>...};
    return s.pool ? POOLED[pixels - 1] : s.depthwise ? DEPTHWISE[pixels - 1] : PLAIN[pixels - 1];
}
template<class T> ConvTile<T> choose_conv_tile(ptrdiff_t pixels, int vectors, const Sums<T>& s) {
    constexpr std::make_integer_sequence<int, TILE_PIXELS> all;
    return vectors == 1 ? conv_tile_of<T, 1>(pixels, s, all)
                        : conv_tile_of<T, TILE_VECTORS>(pixels, s, all);
}

// Two rows of the output, panel by panel of its pixels; of a lone row its two halves.
template<class T>
void sum_rows(const Sums<T>& s, const T* x0, const T* x1, const T* w, const T* bias, T* y0, T* y1,
              uint8_t* positions, ptrdiff_t width, ptrdiff_t columns) {
    const int vectors = columns > Vector<T>::lanes ? TILE_VECTORS : 1;
    const ptrdiff_t unit = s.pool ? 2 : 1;
    const Blocks blocks(width / unit, s.pool ? TILE_PIXELS / 2 : TILE_PIXELS);
    for (ptrdiff_t block = 0; block < blocks.n; ++block) {
        const ptrdiff_t units = blocks.size(block);
        choose_conv_tile<T>(units * unit, vectors, s)(s, x0, x1, w, bias, y0, y1, positions,
                                                      columns);
        x0 += units * unit * s.x_pixel;
        x1 += units * unit * s.x_pixel;
        y0 += units * s.y_pixel;
        y1 += units * s.y_pixel;
        if (positions) positions += units * s.y_pixel;
    }
}

// A row of an image among several, and the one after it
struct Row {
    ptrdiff_t image, row;
    Row next(ptrdiff_t height) const {
        return row + 1 < height ? Row{image, row + 1} : Row{image + 1, 0};
    }
};

// y = the sums of all pixels of n images
template<class T>
void sum_images(const Sums<T>& s, const T* x, ptrdiff_t x_image, T* y, ptrdiff_t y_image,
                uint8_t* positions, ptrdiff_t positions_image, ptrdiff_t n_images) {
    constexpr ptrdiff_t WIDTH = TILE_VECTORS * Vector<T>::lanes;
    const ptrdiff_t height = s.pool ? s.height / 2 * 2 : s.height, rows = n_images * height;
    for (ptrdiff_t k = 0; k < s.columns; k += WIDTH) {
        const ptrdiff_t columns = s.columns - k < WIDTH ? s.columns - k : WIDTH;
        const T* w = s.weights + k * s.n;
        const T* bias = s.bias ? s.bias + k : nullptr;
        Row here{0, 0};
        for (ptrdiff_t r = 0; r < rows; r += 2) {
            const auto from = [&](Row i) {
                return x + i.image * x_image + i.row * s.x_row + (s.depthwise ? k : 0);
            };
            const auto to = [&](Row i, ptrdiff_t image) {
                return i.image * image + (s.pool ? i.row / 2 : i.row) * s.y_row + k;
            };
            const T* row = from(here);
            T* out = y + to(here, y_image);
            uint8_t* at = positions ? positions + to(here, positions_image) : nullptr;
            const Row next = here.next(height);
            here = next.next(height);
            if (r + 1 < rows) {
                sum_rows(s, row, from(next), w, bias, out, y + to(next, y_image), at, s.width,
                         columns);
            } else {
                const ptrdiff_t half = s.width / 2, x_half = half * s.x_pixel;
                const ptrdiff_t y_half = half * s.y_pixel;
                sum_rows(s, row, row + x_half, w, bias, out, out + y_half, at, half, columns);
                if (s.width % 2) {      // the last pixel, twice
                    row += 2 * x_half;
                    out += 2 * y_half;
                    sum_rows(s, row, row, w, bias, out, out, at, 1, columns);
                }
            }
        }
    }
}

// ---- weights in panels -----------------------------------------------------------------------

// elements of the panels of n weights for each of m filters
template<class T> ptrdiff_t panels_size(ptrdiff_t n, ptrdiff_t m) {
    return ceil_div(m, Vector<T>::lanes) * Vector<T>::lanes * n;
}

// elements from one row of a panel that begins at filter k of m to the next
template<class T> ptrdiff_t panel_width(ptrdiff_t k, ptrdiff_t m) {
    return (m - k > Vector<T>::lanes ? TILE_VECTORS : 1) * Vector<T>::lanes;
}

// Rows first.. of panels of n rows each, from w (rows, m)
template<class T> __attribute__((noinline))
void pack_rows(T* __restrict out, ptrdiff_t n, ptrdiff_t first, Factor<T> w, ptrdiff_t rows,
               ptrdiff_t m) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES;
    for (ptrdiff_t k = 0; k < m; k += LANES) {
        const ptrdiff_t panel = k / WIDTH * WIDTH, stride = panel_width<T>(panel, m);
        const ptrdiff_t lanes = m - k < LANES ? m - k : LANES;
        T* to = out + panel * n + (k - panel) + first * stride;
        if (w.column == 1)
            for (ptrdiff_t r = 0; r < rows; ++r, to += stride)
                store(to, lanes == LANES ? load(w.at(r, k)) : load(w.at(r, k), lanes));
        else
            for (ptrdiff_t r = 0; r < rows; r += LANES)
                transpose(to + r * stride, stride, w.at(r, k), w.column, lanes,
                          rows - r < LANES ? rows - r : LANES, false);
    }
}

}  // namespace sknn
