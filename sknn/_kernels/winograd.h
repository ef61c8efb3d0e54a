// Winograd's convolution of 3 x 3 kernels, F(4 x 4, 3 x 3): tiles of 6 x 6 inputs and the weights
// are transformed, multiplied channel by channel in 36 matrix products, and transformed back to
// 4 x 4 outputs. That is a quarter of the multiplications, at some ten times the rounding error.
// Lavin and Gray, Fast algorithms for convolutional neural networks, 2016
#pragma once
#include <numeric>
#include "conv.h"

namespace sknn {

constexpr int OUTPUTS = 4, INPUTS = 6, PLANES = INPUTS * INPUTS;
// Elements of the transformed inputs and outputs that are made at once: as many as there are
// transformed weights, within limits, since each time all weights are read.
constexpr ptrdiff_t PLANES_LEAST = 64 << 10, PLANES_MOST = 256 << 10;
// Elements between two planes: were these a power of two apart, they would drive each other out of
// the cache.
constexpr ptrdiff_t SKEW = 16, LINE_BYTES = 64;

// ---- transforms of vectors, in one direction; `s` and `t` are the distances in the arrays -----

template<class T> struct Lavin {
    using V = VectorOf<T>;
    static constexpr T SIXTH = T(1) / 6;
    // inputs: 6 -> 6
    static inline __attribute__((always_inline)) void input(const V* d, int s, V* out, int t) {
        const V a = d[4 * s] - 4 * d[2 * s], b = d[3 * s] - 4 * d[s];
        const V c = d[4 * s] - d[2 * s], e = 2 * (d[3 * s] - d[s]);
        const V first = 4 * d[0] - 5 * d[2 * s] + d[4 * s];
        const V last = 4 * d[s] - 5 * d[3 * s] + d[5 * s];
        out[0] = first;
        out[t] = a + b;
        out[2 * t] = a - b;
        out[3 * t] = c + e;
        out[4 * t] = c - e;
        out[5 * t] = last;
    }
    // outputs: 6 -> 4
    static inline __attribute__((always_inline)) void output(const V* m, int s, V* out, int t) {
        const V a = m[s] + m[2 * s], b = m[s] - m[2 * s];
        const V c = m[3 * s] + m[4 * s], d = m[3 * s] - m[4 * s];
        out[0] = m[0] + a + c;
        out[t] = b + 2 * d;
        out[2 * t] = a + 4 * c;
        out[3 * t] = b + 8 * d + m[5 * s];
    }
    // the same transposed, for gradients of outputs: 4 -> 6
    static inline __attribute__((always_inline)) void gradient(const V* y, int s, V* out, int t) {
        const V a = y[0] + y[2 * s], b = y[s] + y[3 * s];
        const V c = y[0] + 4 * y[2 * s], d = 2 * y[s] + 8 * y[3 * s];
        out[0] = y[0];
        out[t] = a + b;
        out[2 * t] = a - b;
        out[3 * t] = c + d;
        out[4 * t] = c - d;
        out[5 * t] = y[3 * s];
    }
    // weights: 3 -> 6
    static inline __attribute__((always_inline)) void weights(const V* g, int s, V* out, int t) {
        const V a = (g[0] + g[2 * s]) * SIXTH, b = g[s] * SIXTH;
        const V c = g[0] * (SIXTH / 4) + g[2 * s] * SIXTH, d = g[s] * (SIXTH / 2);
        out[0] = g[0] * (T(1) / 4);
        out[t] = -a - b;
        out[2 * t] = b - a;
        out[3 * t] = c + d;
        out[4 * t] = c - d;
        out[5 * t] = g[2 * s];
    }
    // the same transposed, for gradients of weights: 6 -> 3
    static inline __attribute__((always_inline)) void sums(const V* m, int s, V* out, int t) {
        const V a = (m[s] + m[2 * s]) * SIXTH, b = m[3 * s] + m[4 * s];
        out[0] = m[0] * (T(1) / 4) - a + b * (SIXTH / 4);
        out[t] = (m[2 * s] - m[s]) * SIXTH + (m[3 * s] - m[4 * s]) * (SIXTH / 2);
        out[2 * t] = b * SIXTH - a + m[5 * s];
    }
};

// ---- a layer in tiles -------------------------------------------------------------------------

// y (height, width, filters) from images of `channels` and weights of 3 x 3
struct Tiling {
    ptrdiff_t height, width, channels, filters, top, left;
    ptrdiff_t rows() const { return ceil_div(height, OUTPUTS); }
    ptrdiff_t columns() const { return ceil_div(width, OUTPUTS); }
    ptrdiff_t strip_width() const { return columns() * OUTPUTS + INPUTS - OUTPUTS; }
    // rows of tiles at once, of one or several images: in whole blocks of a product, if possible
    ptrdiff_t rows_at_once() const {
        const ptrdiff_t weights = PLANES * channels * filters;
        const ptrdiff_t most = weights < PLANES_MOST ? weights : PLANES_MOST;
        const ptrdiff_t n = (most > PLANES_LEAST ? most : PLANES_LEAST)
                            / (PLANES * columns() * (channels + filters));
        const ptrdiff_t block = TILE_ROWS / std::gcd<ptrdiff_t>(columns(), TILE_ROWS);
        const ptrdiff_t blocks = (n + block / 2) / block;
        return blocks ? blocks * block : n < 1 ? 1 : n;
    }
    ptrdiff_t x_plane() const { return rows_at_once() * columns() * channels + SKEW; }
    ptrdiff_t y_plane() const { return rows_at_once() * columns() * filters + SKEW; }
};

// f(each of 6, or 4, indices)
template<int N, class F> inline __attribute__((always_inline)) void unrolled(F f) {
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) f(i);
}

// Panels of the transformed weights w (3, 3, channels, filters), plane by plane; with their roles
// exchanged and the kernel turned around if `backward`.
template<class T> __attribute__((noinline))
void transform_weights(T* packed, const T* w, ptrdiff_t channels, ptrdiff_t filters,
                       bool backward) {
    using V = VectorOf<T>;
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES;
    alignas(64) T block[PLANES][LANES][LANES];
    const ptrdiff_t size = channels * filters;
    const ptrdiff_t n = backward ? filters : channels, m = backward ? channels : filters;
    for (ptrdiff_t c = 0; c < channels; c += LANES)
        for (ptrdiff_t k = 0; k < filters; k += LANES) {
            for (ptrdiff_t i = 0; i < LANES; ++i) {
                V g[9], half[18], out[PLANES];
                for (int tap = 0; tap < 9; ++tap)
                    g[tap] = load(w + (backward ? 8 - tap : tap) * size + (c + i) * filters + k);
                for (int b = 0; b < 3; ++b) Lavin<T>::weights(g + b, 3, half + b, 3);
                for (int a = 0; a < INPUTS; ++a)
                    Lavin<T>::weights(half + 3 * a, 1, out + INPUTS * a, 1);
                for (int q = 0; q < PLANES; ++q) store(block[q][i], out[q]);
            }
            const ptrdiff_t row = backward ? k : c, column = backward ? c : k;
            const ptrdiff_t panel = column / WIDTH * WIDTH, stride = panel_width<T>(panel, m);
            for (int q = 0; q < PLANES; ++q) {
                T* to = packed + q * size + panel * n + row * stride + column - panel;
                if (backward)
                    transpose(to, stride, &block[q][0][0], LANES, LANES, LANES, false);
                else
                    for (ptrdiff_t i = 0; i < LANES; ++i)
                        store(to + i * stride, load(block[q][i]));
            }
        }
}

// Rows first.. of image b where they lie, or pooled ones from a strip; `zeros` if there is no such
// row.                              strip (N, width, channels), zeros (width, channels)
template<class T, int N> struct Rows {
    const T* row[N];
    Rows(const Source<T>& s, ptrdiff_t b, ptrdiff_t first, T* strip, const T* zeros) {
        const ptrdiff_t size = s.width * s.channels;
        for (int a = 0; a < N; ++a) {
            const ptrdiff_t i = first + a;
            if (i < 0 || i >= s.height) row[a] = zeros;
            else if (!s.positions) row[a] = s.data + b * s.image + i * size;
            else read_row(s, b, i, s.width, strip + a * size), row[a] = strip + a * size;
        }
    }
};

// A row of tiles of N x N inputs, or gradients of outputs, the first `left` pixels before the
// rows; beyond them are zeros.      planes (36, columns, channels)
template<class T, int N> __attribute__((noinline))
void transform_tiles(T* planes, ptrdiff_t plane, const Rows<T, N>& rows, ptrdiff_t left,
                     ptrdiff_t width, ptrdiff_t columns, ptrdiff_t channels) {
    using V = VectorOf<T>;
    const auto transform = [](const V* x, int s, V* out, int t) __attribute__((always_inline)) {
        if constexpr (N == INPUTS) Lavin<T>::input(x, s, out, t);
        else Lavin<T>::gradient(x, s, out, t);
    };
    const auto tile = [&]<bool INSIDE>(ptrdiff_t j, ptrdiff_t c) __attribute__((always_inline)) {
        const ptrdiff_t first = j * OUTPUTS - left;
        T* to = planes + j * channels + c;
        V d[INPUTS], half[INPUTS * N];
        unrolled<N>([&](int b) __attribute__((always_inline)) {
            const ptrdiff_t at = (first + b) * channels + c;
            const bool there = INSIDE || (first + b >= 0 && first + b < width);
            unrolled<N>([&](int a) __attribute__((always_inline)) {
                d[a] = there ? load(rows.row[a] + at) : V{};
            });
            transform(d, 1, half + b, N);
        });
        unrolled<INPUTS>([&](int a) __attribute__((always_inline)) {
            transform(half + a * N, 1, d, 1);
            unrolled<INPUTS>([&](int b) __attribute__((always_inline)) {
                store(to + (a * INPUTS + b) * plane, d[b]);
            });
        });
    };
    for (ptrdiff_t j = 0; j < columns; ++j) {
        const ptrdiff_t first = j * OUTPUTS - left;
        for (ptrdiff_t c = 0; c < channels; c += Vector<T>::lanes)
            if (first >= 0 && first + N <= width) tile.template operator()<true>(j, c);
            else tile.template operator()<false>(j, c);
    }
}

// What becomes of the outputs.
template<class T> struct Epilogue {
    const T* bias;              // null: none
    bool relu, accumulate, pool;
};

// A row of tiles of outputs, of which only `rows` and `width` are in the image
template<class T> __attribute__((noinline))
void transform_outputs(T* __restrict y, uint8_t* __restrict positions, const T* __restrict planes,
                       ptrdiff_t plane, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t filters,
                       const Epilogue<T>& e) {
    using V = VectorOf<T>;
    constexpr ptrdiff_t LANES = Vector<T>::lanes;
    for (ptrdiff_t j = 0; j < width; j += OUTPUTS)
        for (ptrdiff_t k = 0; k < filters; k += LANES) {
            const T* m = planes + j / OUTPUTS * filters + k;
            V d[INPUTS], half[OUTPUTS * INPUTS], out[OUTPUTS][OUTPUTS];
            unrolled<INPUTS>([&](int b) __attribute__((always_inline)) {
                unrolled<INPUTS>([&](int a) __attribute__((always_inline)) {
                    d[a] = load(m + (a * INPUTS + b) * plane);
                });
                Lavin<T>::output(d, 1, half + b, INPUTS);
            });
            const V bias = e.bias ? load(e.bias + k) : V{};
            unrolled<OUTPUTS>([&](int a) __attribute__((always_inline)) {
                Lavin<T>::output(half + a * INPUTS, 1, out[a], 1);
                unrolled<OUTPUTS>(
                    [&](int b) __attribute__((always_inline)) { out[a][b] += bias; });
            });
            if (e.pool) {
                unrolled<2>([&](int a) __attribute__((always_inline)) {
                    unrolled<2>([&](int b) __attribute__((always_inline)) {
                        if (2 * a + 1 >= rows || j + 2 * b + 1 >= width) return;
                        const ptrdiff_t at = (a * (width / 2) + j / 2 + b) * filters + k;
                        store_pooled<T>(y + at, positions ? positions + at : nullptr,
                                        out[2 * a][2 * b], out[2 * a][2 * b + 1],
                                        out[2 * a + 1][2 * b], out[2 * a + 1][2 * b + 1], e.relu,
                                        LANES);
                    });
                });
                continue;
            }
            unrolled<OUTPUTS>([&](int a) __attribute__((always_inline)) {
                unrolled<OUTPUTS>([&](int b) __attribute__((always_inline)) {
                    if (a >= rows || j + b >= width) return;
                    T* to = y + (a * width + j + b) * filters + k;
                    V v = e.accumulate ? load(to) + out[a][b] : out[a][b];
                    store(to, e.relu ? rectify<T>(v) : v);
                });
            });
        }
}

// c = a b, or added to it: a (n, k) as `Factor` has it, b in panels of filters, of which there
// are m: of `panel` elements each, their rows `row` apart (0: as they are packed)
template<class T>
void multiply_panels(T* c, Factor<T> a, const T* b, ptrdiff_t b_row, ptrdiff_t n, ptrdiff_t m,
                     ptrdiff_t k, bool accumulate) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES;
    const Blocks blocks(n, TILE_ROWS);
    for (ptrdiff_t j = 0; j < m; j += WIDTH) {
        const ptrdiff_t columns = m - j < WIDTH ? m - j : WIDTH;
        const T* panel = b_row ? b + j : b + j * k;
        const ptrdiff_t row = b_row ? b_row : panel_width<T>(j, m);
        const Tiles<T> tiles{k, a.row, a.column, row, 0, m, accumulate, false};
        for (ptrdiff_t block = 0, i = 0; block < blocks.n; i += blocks.size(block++))
            choose_strip<T>(blocks.size(block))(tiles, a.at(i, 0), panel, c + i * m + j, nullptr,
                                                columns);
    }
}

// Into the second-level cache, while something else is computed.
template<class T> inline void fetch_to_write(T* y, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += LINE_BYTES / sizeof(T)) __builtin_prefetch(y + i, 1, 2);
}

// y = source * W, by `packed` as transform_weights makes it
template<class T>
void winograd(const Tiling& s, const Source<T>& source, const T* packed, T* y, ptrdiff_t y_image,
              uint8_t* positions, ptrdiff_t positions_image, ptrdiff_t n_images,
              const Epilogue<T>& e, Workspace<T> work) {
    const ptrdiff_t columns = s.columns(), rows = s.rows();
    const ptrdiff_t strip_row = s.strip_width() * s.channels;
    const ptrdiff_t at_once = s.rows_at_once(), x_plane = s.x_plane(), y_plane = s.y_plane();
    T* strip = work.take(INPUTS * strip_row);
    T* zeros = work.take(strip_row);
    T* x_planes = work.take(PLANES * x_plane);
    T* y_planes = work.take(PLANES * y_plane);
    const ptrdiff_t scale = e.pool ? 2 : 1, y_row = s.width / scale * s.filters;
    fill_zero(zeros, strip_row);
    for (ptrdiff_t first = 0; first < n_images * rows; first += at_once) {
        const ptrdiff_t left = n_images * rows - first, n = left < at_once ? left : at_once;
        for (ptrdiff_t r = 0; r < n; ++r) {
            const ptrdiff_t image = (first + r) / rows, row = (first + r) % rows * OUTPUTS;
            const Rows<T, INPUTS> inputs(source, image, row - s.top, strip, zeros);
            transform_tiles(x_planes + r * columns * s.channels, x_plane, inputs, s.left,
                            source.width, columns, s.channels);
            const ptrdiff_t last = row + OUTPUTS < s.height ? row + OUTPUTS : s.height;
            fetch_to_write(y + image * y_image + row / scale * y_row,
                           (last / scale - row / scale) * y_row);
        }
        for (int q = 0; q < PLANES; ++q)
            multiply_panels(y_planes + q * y_plane,
                            Factor<T>{x_planes + q * x_plane, s.channels, 1},
                            packed + q * s.channels * s.filters, 0, n * columns, s.filters,
                            s.channels, false);
        for (ptrdiff_t r = 0; r < n; ++r) {
            const ptrdiff_t image = (first + r) / rows, row = (first + r) % rows * OUTPUTS;
            const ptrdiff_t at = row / scale * y_row;
            transform_outputs(y + image * y_image + at,
                              positions ? positions + image * positions_image + at : nullptr,
                              y_planes + r * columns * s.filters, y_plane, s.height - row,
                              s.width, s.filters, e);
        }
    }
}

inline Tiling forward_tiling(const Conv& s) {
    return {s.out_height, s.out_width, s.channels, s.filters, s.pad_top, s.pad_left};
}
inline Tiling backward_tiling(const Conv& s) {
    return {s.height, s.width, s.filters, s.channels, 2 - s.pad_top, 2 - s.pad_left};
}

template<class T>
void winograd_forward(const Conv& s, const T* x, ptrdiff_t x_image, const T* w, const T* bias,
                      T* y, ptrdiff_t y_image, uint8_t* positions, ptrdiff_t n_images, bool relu,
                      T* workspace) {
    Workspace<T> work{workspace};
    T* packed = work.take(PLANES * s.channels * s.filters);
    transform_weights(packed, w, s.channels, s.filters, false);
    const Source<T> source{x, x_image, s.height, s.width, s.channels, nullptr, 0};
    winograd(forward_tiling(s), source, packed, y, y_image, positions, s.positions_image,
             n_images, Epilogue<T>{bias, relu, false, s.pool}, work);
}

template<class T>
void winograd_backward(const Conv& s, T* dx, ptrdiff_t x_image, const T* w, const T* g,
                       ptrdiff_t y_image, const uint8_t* positions, ptrdiff_t n_images,
                       bool accumulate, T* workspace) {
    Workspace<T> work{workspace};
    T* packed = work.take(PLANES * s.channels * s.filters);
    transform_weights(packed, w, s.channels, s.filters, true);
    const Source<T> source{g, y_image, s.out_height, s.out_width, s.filters, positions,
                               s.positions_image};
    winograd(backward_tiling(s), source, packed, dx, x_image, nullptr, 0, n_images,
             Epilogue<T>{nullptr, false, accumulate, false}, work);
}

// ---- gradient of the weights -------------------------------------------------------------------

// dw = the sums transformed back, or added to it     sums (36, size), dw (3, 3, size)
template<class T> __attribute__((noinline))
void transform_sums(T* __restrict dw, const T* __restrict sums, ptrdiff_t size, bool accumulate) {
    using V = VectorOf<T>;
    for (ptrdiff_t k = 0; k < size; k += Vector<T>::lanes) {
        V m[PLANES], half[18], out[9];
        for (int q = 0; q < PLANES; ++q) m[q] = load(sums + q * size + k);
        for (int b = 0; b < INPUTS; ++b) Lavin<T>::sums(m + b, INPUTS, half + b, INPUTS);
        for (int a = 0; a < 3; ++a) Lavin<T>::sums(half + a * INPUTS, 1, out + 3 * a, 1);
        for (int tap = 0; tap < 9; ++tap) {
            T* to = dw + tap * size + k;
            store(to, accumulate ? load(to) + out[tap] : out[tap]);
        }
    }
}

template<class T>
void winograd_gradient(const Conv& s, const T* x, ptrdiff_t x_image, T* dw, const T* g,
                       ptrdiff_t y_image, const uint8_t* positions, ptrdiff_t n_images,
                       bool accumulate, T* workspace) {
    const Tiling t = forward_tiling(s);
    const ptrdiff_t columns = t.columns(), rows = t.rows();
    const ptrdiff_t at_once = t.rows_at_once(), x_plane = t.x_plane(), y_plane = t.y_plane();
    const ptrdiff_t size = s.channels * s.filters;
    const ptrdiff_t x_row = t.strip_width() * s.channels, y_row = t.strip_width() * s.filters;
    const Source<T> inputs{x, x_image, s.height, s.width, s.channels, nullptr, 0};
    const Source<T> gradients{g, y_image, s.out_height, s.out_width, s.filters, positions,
                               s.positions_image};
    Workspace<T> work{workspace};
    T* sums = work.take(PLANES * size);
    T* x_zeros = work.take(x_row);
    T* y_zeros = work.take(y_row);
    T* y_strip = work.take(OUTPUTS * y_row);
    T* x_planes = work.take(PLANES * x_plane);
    T* y_planes = work.take(PLANES * y_plane);
    fill_zero(sums, PLANES * size);
    fill_zero(x_zeros, x_row);
    fill_zero(y_zeros, y_row);
    for (ptrdiff_t first = 0; first < n_images * rows; first += at_once) {
        const ptrdiff_t left = n_images * rows - first, n = left < at_once ? left : at_once;
        for (ptrdiff_t r = 0; r < n; ++r) {
            const ptrdiff_t image = (first + r) / rows, row = (first + r) % rows * OUTPUTS;
            const Rows<T, INPUTS> x_rows(inputs, image, row - s.pad_top, nullptr, x_zeros);
            transform_tiles(x_planes + r * columns * s.channels, x_plane, x_rows, s.pad_left,
                            s.width, columns, s.channels);
            const Rows<T, OUTPUTS> y_rows(gradients, image, row, y_strip, y_zeros);
            transform_tiles(y_planes + r * columns * s.filters, y_plane, y_rows, 0, s.out_width,
                            columns, s.filters);
        }
        for (int q = 0; q < PLANES; ++q)
            multiply_panels(sums + q * size, Factor<T>{x_planes + q * x_plane, 1, s.channels},
                            y_planes + q * y_plane, s.filters, s.channels, s.filters, n * columns,
                            true);
    }
    transform_sums(dw, sums, size, accumulate);
}

// ---- where it serves ---------------------------------------------------------------------------

template<class T> bool winograd_serves(const Conv& s) {
    return s.kernel_h == 3 && s.kernel_w == 3 && s.stride_h == 1 && s.stride_w == 1
           && s.dilation_h == 1 && s.dilation_w == 1 && s.groups == 1 && s.pad_top <= 2
           && s.pad_left <= 2 && s.channels % Vector<T>::lanes == 0
           && s.filters % Vector<T>::lanes == 0;
}

// Whether it pays: where half of the tiles' outputs are in the image, and the transformed weights
// are not many megabytes.
template<class T> bool winograd_pays(const Conv& s) {
    const Tiling t = forward_tiling(s);
    return winograd_serves<T>(s) && s.channels * s.filters <= 1 << 17
           && 2 * s.out_height * s.out_width >= t.rows() * t.columns() * OUTPUTS * OUTPUTS;
}

template<class T> ptrdiff_t winograd_workspace(const Conv& s) {
    const auto need = [](const Tiling& t) {
        return PLANES * t.channels * t.filters + (INPUTS + 1) * t.strip_width() * t.channels
               + (OUTPUTS + 1) * t.strip_width() * t.filters
               + PLANES * (t.x_plane() + t.y_plane()) + 6 * 16;
    };
    const ptrdiff_t forward = need(forward_tiling(s)), backward = need(backward_tiling(s));
    return forward > backward ? forward : backward;
}

// ---- either algorithm --------------------------------------------------------------------------

template<class T, class... A> void convolve_forward(const Conv& s, const T* x, A... rest) {
    if constexpr (sizeof(T) == 4)
        if (s.winograd) return winograd_forward<T>(s, x, rest...);
    conv_forward<T>(s, x, rest...);
}
template<class T, class... A> void convolve_backward(const Conv& s, T* dx, A... rest) {
    if constexpr (sizeof(T) == 4)
        if (s.winograd) return winograd_backward<T>(s, dx, rest...);
    conv_backward<T>(s, dx, rest...);
}
template<class T, class... A> void convolve_gradient(const Conv& s, const T* x, A... rest) {
    if constexpr (sizeof(T) == 4)
        if (s.winograd) return winograd_gradient<T>(s, x, rest...);
    conv_gradient<T>(s, x, rest...);
}
template<class T> ptrdiff_t convolve_workspace(const Conv& s) {
    if constexpr (sizeof(T) == 4)
        if (s.winograd) return winograd_workspace<T>(s);
    return conv_workspace<T>(s);
}

}  // namespace sknn
