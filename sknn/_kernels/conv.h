// Convolution, its input's gradient and its weights' gradient, from tiles of sums. Zeros around an
// image are read from a copy in the thread's workspace, of some images at once.
#pragma once
#include "conv_first.h"
#include "conv_tile.h"

namespace sknn {

// ---- forward ---------------------------------------------------------------------------------

// y = x * W + b                     x (n, height, width, channels), y (n, ...)
template<class T>
void conv_forward(const Conv& s, const T* x, ptrdiff_t x_image, const T* w, const T* bias, T* y,
                  ptrdiff_t y_image, uint8_t* positions, ptrdiff_t n_images, bool relu,
                  T* workspace) {
    const Padded p = padded_input(s);
    const ptrdiff_t channels = s.sum_channels(), filters = s.part_filters();
    const ptrdiff_t n = s.taps() * channels, size = p.size(s.channels);
    const ptrdiff_t at_once = images_at_once(s, size), panels = panels_size<T>(n, filters);
    Workspace<T> work{workspace};
    T* packed = work.take(s.parts() * panels);
    int32_t* offsets = work.take_integers(s.taps());
    T* images = p.copied ? work.take(at_once * size) : nullptr;
    for (ptrdiff_t g = 0; g < s.parts(); ++g)
        pack_rows(packed + g * panels, n, 0, Factor<T>{w + g * filters, s.filters, 1}, n, filters);
    // a run is a row of the kernel, or a tap
    const ptrdiff_t in_run = s.joins_taps() ? s.kernel_w : 1;
    const ptrdiff_t n_runs = s.taps() / in_run;
    for (ptrdiff_t a = 0, t = 0; a < s.kernel_h; ++a)
        for (ptrdiff_t b = 0; b < s.kernel_w; b += in_run)
            offsets[t++] = static_cast<int32_t>(
                (a * s.dilation_h * p.width + b * s.dilation_w) * s.channels);
    if (p.copied) fill_zero(images, at_once * size);
    const Source<T> source{x, x_image, s.height, s.width, s.channels, nullptr, 0};
    Sums<T> sums{offsets, n_runs, in_run * channels, s.stride_h * p.width * s.channels,
                 s.stride_w * s.channels, s.out_width / (s.pool ? 2 : 1) * s.filters, s.filters,
                 s.out_height, s.out_width, filters, nullptr, nullptr, relu, false, s.pool,
                 s.depthwise()};
    for (ptrdiff_t i = 0; i < n_images; i += at_once) {
        const ptrdiff_t m = n_images - i < at_once ? n_images - i : at_once;
        const T* from = x + i * x_image;
        for (ptrdiff_t j = 0; p.copied && j < m; ++j)
            copy_inside(images + j * size, p, source, i + j);
        for (ptrdiff_t g = 0; g < s.parts(); ++g) {
            uint8_t* at = positions ? positions + i * s.positions_image + g * filters : nullptr;
            sums.weights = packed + g * panels;
            sums.bias = bias ? bias + g * filters : nullptr;
            sum_images(sums, (p.copied ? images : from) + g * channels, p.copied ? size : x_image,
                       y + i * y_image + g * filters, y_image, at, s.positions_image, m);
        }
    }
}

// ---- gradient of the input ---------------------------------------------------------------------

// The taps that reach x at (row, column) and every stride from there: f(tap, distance in dy).
template<class F>
void for_taps_of_phase(const Conv& s, const Padded& p, ptrdiff_t row, ptrdiff_t column, F f) {
    for (ptrdiff_t a = s.kernel_h - 1; a >= 0; --a)
        for (ptrdiff_t b = s.kernel_w - 1; b >= 0; --b) {
            const ptrdiff_t i = row + s.pad_top - a * s.dilation_h;
            const ptrdiff_t j = column + s.pad_left - b * s.dilation_w;
            if (i % s.stride_h == 0 && j % s.stride_w == 0)
                f(a * s.kernel_w + b, ((p.top + i / s.stride_h) * p.width
                                       + p.left + j / s.stride_w) * s.filters);
        }
}

// How many taps a phase has, and in how many runs: those of a row of the kernel, or each one.
struct Phase {
    ptrdiff_t taps = 0, runs = 0;
};

// Count them, write down their distances and, unless that is done, pack their weights.
template<class T>
Phase pack_phase(const Conv& s, const Padded& p, ptrdiff_t row, ptrdiff_t column, const T* w,
                 int32_t* offsets, T* packed, bool packing) {
    const ptrdiff_t channels = s.part_channels(), filters = s.sum_filters();
    Phase phase;
    ptrdiff_t last = -1, first = 0;
    for_taps_of_phase(s, p, row, column, [&](ptrdiff_t tap, ptrdiff_t at) {
        const ptrdiff_t run = s.joins_taps() ? tap / s.kernel_w : tap;
        if (run != last) offsets[phase.runs++] = static_cast<int32_t>(at);
        last = run;
        ++phase.taps;
    });
    if (!packing) return phase;
    const ptrdiff_t n = phase.taps * filters, panels = panels_size<T>(n, channels);
    for_taps_of_phase(s, p, row, column, [&](ptrdiff_t tap, ptrdiff_t) {
        const T* from = w + tap * s.sum_channels() * s.filters;
        if (s.depthwise()) pack_rows(packed, n, first, Factor<T>{from, 0, 1}, 1, channels);
        else for (ptrdiff_t g = 0; g < s.parts(); ++g)
            pack_rows(packed + g * panels, n, first, Factor<T>{from + g * filters, 1, s.filters},
                      filters, channels);
        first += filters;
    });
    return phase;
}

// dx = dy * flipped W, or added to it; g is dy or, pooled, its gradient
template<class T>
void conv_backward(const Conv& s, T* dx, ptrdiff_t x_image, const T* w, const T* g,
                   ptrdiff_t y_image, const uint8_t* positions, ptrdiff_t n_images,
                   bool accumulate, T* workspace) {
    const Padded p = padded_gradient(s);
    const ptrdiff_t channels = s.part_channels(), filters = s.sum_filters();
    const ptrdiff_t n = s.taps() * filters, size = p.size(s.filters);
    const ptrdiff_t at_once = images_at_once(s, size);
    Workspace<T> work{workspace};
    T* all_packed = work.take(s.parts() * panels_size<T>(n, channels));
    int32_t* all_offsets = work.take_integers(s.taps());
    T* images = p.copied ? work.take(at_once * size) : nullptr;
    if (p.copied) fill_zero(images, at_once * size);
    const Source<T> source{g, y_image, s.out_height, s.out_width, s.filters, positions,
                               s.positions_image};
    for (ptrdiff_t i = 0; i < n_images; i += at_once) {
        const ptrdiff_t m = n_images - i < at_once ? n_images - i : at_once;
        const T* from = g + i * y_image;
        for (ptrdiff_t j = 0; p.copied && j < m; ++j)
            copy_inside(images + j * size, p, source, i + j);
        for (ptrdiff_t j = 0; !accumulate && !s.reaches_all() && j < m; ++j)
            fill_zero(dx + (i + j) * x_image, s.height * s.width * s.channels);
        T* packed = all_packed;
        int32_t* offsets = all_offsets;
        for (ptrdiff_t row = 0; row < s.stride_h && row < s.height; ++row)
            for (ptrdiff_t column = 0; column < s.stride_w && column < s.width; ++column) {
                Sums<T> sums{offsets, 0, 0, p.width * s.filters, s.filters,
                             s.stride_h * s.width * s.channels, s.stride_w * s.channels,
                             ceil_div(s.height - row, s.stride_h),
                             ceil_div(s.width - column, s.stride_w),
                             channels, nullptr, nullptr, false, accumulate, false,
                             s.depthwise()};
                const Phase phase = pack_phase(s, p, row, column, w, offsets, packed, i == 0);
                if (!phase.taps) continue;
                sums.n_runs = phase.runs;
                sums.run = phase.taps / phase.runs * filters;
                const ptrdiff_t panels = panels_size<T>(phase.taps * filters, channels);
                T* to = dx + i * x_image + (row * s.width + column) * s.channels;
                for (ptrdiff_t k = 0; k < s.parts(); ++k) {
                    sums.weights = packed + k * panels;
                    sum_images(sums, (p.copied ? images : from) + k * filters,
                               p.copied ? size : y_image, to + k * channels, x_image,
                               nullptr, 0, m);
                }
                offsets += sums.n_runs;
                packed += s.parts() * panels;
            }
    }
}

// ---- gradient of the weights -------------------------------------------------------------------

// dw = sum over pixels of RUNS x LENGTH inputs by VECTORS vectors of dy, or added to it. Inputs of
// a run follow each other, runs are `step` apart; if DEPTHWISE, each input is the vectors' own.
template<class T, int RUNS, int LENGTH, int VECTORS, bool DEPTHWISE> __attribute__((noinline))
void outer_tile(const Pixels& s, const T* x, ptrdiff_t step, const T* dy, T* dw, ptrdiff_t ld,
                ptrdiff_t columns, bool accumulate) {
    constexpr int LANES = Vector<T>::lanes, ROWS = RUNS * LENGTH;
    VectorOf<T> sum[ROWS][VECTORS];
    const ptrdiff_t last = columns - (VECTORS - 1) * LANES;
    const auto input = [&](const T* from, int r, int v) __attribute__((always_inline)) {
        if constexpr (DEPTHWISE) return load(from + r * step + v * LANES);
        else return from[r / LENGTH * step + r % LENGTH];
    };
    const auto add = [&]<bool WHOLE>() __attribute__((always_inline)) {
#pragma GCC unroll 32
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sum[r][v] = VectorOf<T>{};
        const ptrdiff_t x_pixel = s.x_pixel, dy_pixel = s.dy_pixel, width = s.width;
        for (ptrdiff_t b = 0; b < s.n_images; ++b)
            for (ptrdiff_t i = 0; i < s.height; ++i) {
                const T* from = x + b * s.x_image + i * s.x_row;
                const T* g = dy + b * s.dy_image + i * s.dy_row;
                for (ptrdiff_t j = 0; j < width; ++j, from += x_pixel, g += dy_pixel) {
                    VectorOf<T> d[VECTORS];
#pragma GCC unroll 4
                    for (int v = 0; v < VECTORS; ++v)
                        d[v] = WHOLE || v + 1 < VECTORS ? load(g + v * LANES)
                                                        : load(g + v * LANES, last);
#pragma GCC unroll 32
                    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
                        for (int v = 0; v < VECTORS; ++v) sum[r][v] += input(from, r, v) * d[v];
                }
            }
    };
    if (last == LANES) add.template operator()<true>();
    else add.template operator()<false>();
#pragma GCC unroll 32
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
            T* out = dw + r * ld + v * LANES;
            if (v + 1 < VECTORS || last == LANES)
                store(out, accumulate ? load(out) + sum[r][v] : sum[r][v]);
            else
                store(out, accumulate ? load(out, last) + sum[r][v] : sum[r][v], last);
        }
}

template<class T> using OuterTile = void (*)(const Pixels&, const T*, ptrdiff_t, const T*, T*,
                                             ptrdiff_t, ptrdiff_t, bool);

template<class T, int VECTORS, bool DEPTHWISE, int... I>
OuterTile<T> outer_tile_of(ptrdiff_t rows, std::integer_sequence<int, I...>) {
    static constexpr OuterTile<T> TILES[] = {outer_tile<T, 1, I + 1, VECTORS, DEPTHWISE>...};
    return TILES[rows - 1];
}
template<class T>
OuterTile<T> choose_outer_tile(ptrdiff_t rows, int vectors, bool depthwise) {
    constexpr std::make_integer_sequence<int, TILE_ROWS> all;
    constexpr std::make_integer_sequence<int, TILE_PIXELS> few;
    if (depthwise)
        return vectors == 1 ? outer_tile_of<T, 1, true>(rows, few)
                            : outer_tile_of<T, TILE_VECTORS, true>(rows, few);
    return vectors == 1 ? outer_tile_of<T, 1, false>(rows, all)
                        : outer_tile_of<T, TILE_VECTORS, false>(rows, all);
}

// dw (9, filters) of a kernel whose rows are 3 inputs each: all at once, since the few sums of one
// row would wait for each other.
template<class T>
void sum_square(const Pixels& pixels, const T* x, ptrdiff_t row, const T* dy, T* dw,
                ptrdiff_t filters, bool accumulate) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes;
    constexpr int VECTORS = TILE_ROWS < 9 ? 1 : TILE_VECTORS;
    for (ptrdiff_t k = 0; k < filters; k += VECTORS * LANES) {
        const ptrdiff_t columns = filters - k < VECTORS * LANES ? filters - k : VECTORS * LANES;
        (columns > LANES ? outer_tile<T, 3, 3, VECTORS, false> : outer_tile<T, 3, 3, 1, false>)(
            pixels, x, row, dy + k, dw + k, filters, columns, accumulate);
    }
}

// dw (taps, channels, filters) of one part
template<class T>
void sum_outer(const Conv& s, const Padded& p, const Pixels& pixels, const T* x, const T* dy,
               T* dw, bool accumulate) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES;
    const ptrdiff_t filters = s.part_filters(), row = s.dilation_h * p.width * s.channels;
    const ptrdiff_t tap = s.dilation_w * s.channels;
    // pieces of inputs that lie together, or of taps if depthwise; blocks of a piece are tiles
    const bool depthwise = s.depthwise(), whole_rows = s.groups == 1 && s.dilation_w == 1;
    const bool by_rows = whole_rows || depthwise;
    const ptrdiff_t length = s.sum_channels() * (by_rows ? s.kernel_w : 1);
    const ptrdiff_t pieces = s.taps() * s.sum_channels() / length;
    const Blocks blocks(length, depthwise ? TILE_PIXELS : TILE_ROWS);
    if (whole_rows && length == 3 && pieces == 3)
        return sum_square(pixels, x, row, dy, dw, filters, accumulate);
    for (ptrdiff_t k = 0; k < filters; k += WIDTH) {
        const ptrdiff_t columns = filters - k < WIDTH ? filters - k : WIDTH;
        for (ptrdiff_t piece = 0; piece < pieces; ++piece) {
            const ptrdiff_t a = by_rows ? piece : piece / s.kernel_w;
            const T* from = x + a * row + (by_rows ? 0 : piece % s.kernel_w * tap);
            for (ptrdiff_t block = 0, first = 0; block < blocks.n; first += blocks.size(block++)) {
                const ptrdiff_t n = blocks.size(block);
                choose_outer_tile<T>(n, columns > LANES ? TILE_VECTORS : 1, depthwise)(
                    pixels, from + (depthwise ? first * tap + k : first), tap, dy + k,
                    dw + (piece * length + first) * s.filters + k, s.filters, columns, accumulate);
            }
        }
    }
}

// dW = x' dy over n images, or added to it; g is dy or, pooled, its gradient
template<class T>
void conv_gradient(const Conv& s, const T* x, ptrdiff_t x_image, T* dw, const T* g,
                   ptrdiff_t y_image, const uint8_t* positions, ptrdiff_t n_images,
                   bool accumulate, T* workspace) {
    const bool spread = s.pool && !is_first_layer(s);
    const Padded p = padded_input(s), q{s.out_height, s.out_width, 0, 0, spread};
    const ptrdiff_t size = p.size(s.channels), y_size = q.size(s.filters);
    const ptrdiff_t at_once = images_at_once(s, size + y_size);
    Workspace<T> work{workspace};
    T* images = p.copied ? work.take(at_once * size) : nullptr;
    T* gradients = spread ? work.take(at_once * y_size) : nullptr;
    if (p.copied) fill_zero(images, at_once * size);
    const Source<T> x_source{x, x_image, s.height, s.width, s.channels, nullptr, 0};
    const Source<T> y_source{g, y_image, s.out_height, s.out_width, s.filters, positions,
                               s.positions_image};
    if (!n_images && !accumulate) fill_zero(dw, s.taps() * s.sum_channels() * s.filters);
    for (ptrdiff_t i = 0; i < n_images; i += at_once) {
        const ptrdiff_t m = n_images - i < at_once ? n_images - i : at_once;
        const T *from = x + i * x_image, *dy = g + i * y_image;
        for (ptrdiff_t j = 0; p.copied && j < m; ++j)
            copy_inside(images + j * size, p, x_source, i + j);
        for (ptrdiff_t j = 0; spread && j < m; ++j)
            copy_inside(gradients + j * y_size, q, y_source, i + j);
        const T* source = p.copied ? images : from;
        Pixels pixels{m, s.out_height, s.out_width,
                      p.copied ? size : x_image, s.stride_h * p.width * s.channels,
                      s.stride_w * s.channels, spread ? y_size : y_image,
                      s.out_width * s.filters, s.filters};
        if (is_first_layer(s)) {
            pixels.height /= 2;
            pixels.width /= 2;
            pixels.dy_row = pixels.width * s.filters;
            sum_first_layer(s, pixels, source, s.dilation_h * p.width * s.channels, dy,
                            positions + i * s.positions_image, dw, accumulate || i > 0);
            continue;
        }
        for (ptrdiff_t k = 0; k < s.parts(); ++k)
            sum_outer(s, p, pixels, source + k * s.part_channels(),
                      (spread ? gradients : dy) + k * s.part_filters(),
                      dw + k * s.part_filters(), accumulate || i > 0);
    }
}

// ---- workspace ---------------------------------------------------------------------------------

// elements that the three of them need at most
template<class T> ptrdiff_t conv_workspace(const Conv& s) {
    const Padded p = padded_input(s), q = padded_gradient(s);
    const ptrdiff_t x_size = p.size(s.channels), y_size = q.size(s.filters);
    const ptrdiff_t out = s.out_height * s.out_width * s.filters;
    const ptrdiff_t n = s.taps() * s.sum_channels(), m = s.taps() * s.sum_filters();
    const ptrdiff_t forward = s.parts() * panels_size<T>(n, s.part_filters()) + s.taps()
                              + images_at_once(s, x_size) * x_size;
    const ptrdiff_t backward = s.parts() * panels_size<T>(m, s.part_channels()) + s.taps()
                               + images_at_once(s, y_size) * y_size;
    const ptrdiff_t gradient = images_at_once(s, x_size + out) * (x_size + out);
    ptrdiff_t most = forward > backward ? forward : backward;
    if (gradient > most) most = gradient;
    // parts begin at multiples of 16; whole vectors are read at the end
    return most + 5 * 16;
}

}  // namespace sknn
