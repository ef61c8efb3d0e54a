// The sums of a convolution: those of some pixels of two or four rows stay in vector registers, a
// vector of filters each, while the inputs are broadcast against the weights. What a kernel reads
// is a list of runs of inputs, so that strides, dilation, groups and the input's gradient are the
// same loop over another list.
#pragma once
#include "images.h"
#include "tiles.h"

namespace sknn {

// pixels of each row of a tile, at most
constexpr int TILE_PIXELS = TILE_ROWS / 2;
// Its rows: as many sums whether a pixel is two vectors or one, so that the weights and the
// addresses, which all rows share, cost as little in both.
constexpr int rows_of_tile(int vectors) { return 2 * TILE_VECTORS / vectors; }

// ---- a tile of sums ---------------------------------------------------------------------------

// What the tiles of a layer have in common. One input value for each weight of a filter, in runs
// that lie together: the distance of each run from the first one, in elements.
template<class T> struct Sums {
    const int32_t* offsets;
    ptrdiff_t n_runs, run;              // how many, and inputs of each
    ptrdiff_t x_row, x_pixel, y_row, y_pixel;       // to the next one in the output
    ptrdiff_t height, width;            // of the output, before pooling
    ptrdiff_t columns;                  // filters
    const T* weights;                   // panels (n_runs, run, vectors) of filters
    const T* bias;                      // null: none
    bool relu, accumulate, pool;
    bool depthwise;                     // one channel for each filter
};

// Where the rows of a tile begin.
template<class T, int VECTORS> struct Lines {
    static constexpr int ROWS = rows_of_tile(VECTORS);
    const T* x[ROWS];
    T* y[ROWS];
    uint8_t* positions[ROWS];           // null: not wanted
    // line i begins so far after line j
    void set(ptrdiff_t i, ptrdiff_t j, ptrdiff_t in, ptrdiff_t out) {
        x[i] = x[j] + in;
        y[i] = y[j] + out;
        positions[i] = positions[j] ? positions[j] + out : nullptr;
    }
    void advance(ptrdiff_t in, ptrdiff_t out) {
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; ++i) x[i] += in;
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; ++i) y[i] += out;
        if (!positions[0]) return;
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; ++i) positions[i] += out;
    }
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
inline void finish(const Sums<T>& s, VectorOf<T> (&sum)[rows_of_tile(VECTORS)][PIXELS][VECTORS],
                   const Lines<T, VECTORS>& lines, ptrdiff_t last) {
    constexpr int LANES = Vector<T>::lanes, ROWS = rows_of_tile(VECTORS);
    const auto each = [&](auto f) __attribute__((always_inline)) {
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 16
            for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v)
                    f(sum[r][p][v], lines.y[r] + p * s.y_pixel + v * LANES,
                      WHOLE || v + 1 < VECTORS);
    };
    if (s.accumulate)
        each([&](VectorOf<T>& v, const T* y, bool whole) __attribute__((always_inline)) {
            v += whole ? load(y) : load(y, last);
        });
    if (s.relu)
        each([&](VectorOf<T>& v, const T*, bool) __attribute__((always_inline)) {
            v = rectify<T>(v);
        });
    each([&](VectorOf<T>& v, T* y, bool whole) __attribute__((always_inline)) {
        if (whole) store(y, v);
        else store(y, v, last);
    });
}

// y = the sums of PIXELS pixels of some rows by VECTORS vectors of filters, of which there are
// `columns`; two rows pooled to one if POOL; of one channel for each filter if DEPTHWISE
template<class T, int PIXELS, int VECTORS, bool POOL, bool DEPTHWISE> __attribute__((noinline))
void conv_tile(const Sums<T>& s, const Lines<T, VECTORS>& lines, const T* w,
               const T* bias, ptrdiff_t columns) {
    constexpr int LANES = Vector<T>::lanes, ROWS = rows_of_tile(VECTORS);
    VectorOf<T> sum[ROWS][PIXELS][VECTORS];
    const ptrdiff_t last = columns - (VECTORS - 1) * LANES;
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) {
        VectorOf<T> start{};
        if (bias) start = load_lanes(bias + v * LANES, v + 1 < VECTORS ? LANES : last);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 16
            for (int p = 0; p < PIXELS; ++p) sum[r][p][v] = start;
    }
    const auto input = [](const T* x) __attribute__((always_inline)) {
        if constexpr (DEPTHWISE) return load(x);
        else return *x;
    };
    constexpr int STEP = DEPTHWISE ? LANES : 0;     // from the input of one vector to the next
    const ptrdiff_t pixel = s.x_pixel, n_runs = s.n_runs, run = s.run;
    const int32_t* __restrict offsets = s.offsets;
    for (ptrdiff_t t = 0; t < n_runs; ++t) {
        const T* x[ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; ++r) x[r] = lines.x[r] + offsets[t];
        for (ptrdiff_t c = 0; c < run; ++c, w += VECTORS * LANES) {
            VectorOf<T> weight[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) weight[v] = load(w + v * LANES);
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 16
                for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
                    for (int v = 0; v < VECTORS; ++v)
                        sum[r][p][v] += input(x[r] + p * pixel + v * STEP) * weight[v];
                ++x[r];
            }
        }
    }
    if constexpr (POOL) {
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r += 2)
#pragma GCC unroll 16
            for (int p = 0; p < PIXELS; p += 2)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) {
                    const ptrdiff_t at = p / 2 * s.y_pixel + v * LANES;
                    uint8_t* positions = lines.positions[r];
                    store_pooled<T>(lines.y[r] + at, positions ? positions + at : nullptr,
                                    sum[r][p][v], sum[r][p + 1][v], sum[r + 1][p][v],
                                    sum[r + 1][p + 1][v], s.relu,
                                    v + 1 < VECTORS ? LANES : last);
                }
    } else {
        if (last == LANES) finish<T, PIXELS, VECTORS, true>(s, sum, lines, last);
        else finish<T, PIXELS, VECTORS, false>(s, sum, lines, last);
    }
}

template<class T, int VECTORS>
using ConvTile = void (*)(const Sums<T>&, const Lines<T, VECTORS>&, const T*, const T*,
                          ptrdiff_t);

template<class T, int VECTORS, int... I>
ConvTile<T, VECTORS> conv_tile_of(ptrdiff_t pixels, const Sums<T>& s,
                                  std::integer_sequence<int, I...>) {
    using Tile = ConvTile<T, VECTORS>;
    static constexpr Tile PLAIN[] = {conv_tile<T, I + 1, VECTORS, false, false>...};
    static constexpr Tile DEPTHWISE[] = {conv_tile<T, I + 1, VECTORS, false, true>...};
    static constexpr Tile POOLED[] = {
        conv_tile<T, I < 2 ? 2 : (I + 1) / 2 * 2, VECTORS, true, false>...};
    return s.pool ? POOLED[pixels - 1] : s.depthwise ? DEPTHWISE[pixels - 1] : PLAIN[pixels - 1];
}
template<class T, int VECTORS>
ConvTile<T, VECTORS> choose_conv_tile(ptrdiff_t pixels, const Sums<T>& s) {
    return conv_tile_of<T, VECTORS>(pixels, s, std::make_integer_sequence<int, TILE_PIXELS>());
}

// n rows of the output in blocks of tiles. Where a tile has more rows, n is half or a quarter of
// those, and each is as many pieces. The first n of `lines` begin where the rows do.
template<class T, int VECTORS>
void sum_rows(const Sums<T>& s, Lines<T, VECTORS>& lines, ptrdiff_t n, ptrdiff_t width,
              const Blocks& blocks, const T* w, const T* bias, ptrdiff_t columns) {
    constexpr int ROWS = rows_of_tile(VECTORS);
    const ptrdiff_t unit = s.pool ? 2 : 1, x_unit = unit * s.x_pixel, y_unit = s.y_pixel;
    const ptrdiff_t length = width * n / ROWS, rest = width * n % ROWS;
    const auto sum = [&](ptrdiff_t units) {
        choose_conv_tile<T, VECTORS>(units * unit, s)(s, lines, w, bias, columns);
        lines.advance(units * x_unit, units * y_unit);
    };
    for (ptrdiff_t i = n; i < ROWS; ++i) lines.set(i, i - n, length * x_unit, length * y_unit);
    for (ptrdiff_t block = 0; block < blocks.n; ++block) sum(blocks.size(block));
    if (!rest) return;
    // what is less than a piece, a pixel for each line, the last one again for those left over
    for (ptrdiff_t i = 0; i < n; ++i) lines.set(i, ROWS - n + i, 0, 0);
    for (ptrdiff_t i = n; i < ROWS; ++i)
        lines.set(i, i - n, i < rest ? x_unit : 0, i < rest ? y_unit : 0);
    sum(1);
}

// A row of an image among several, and the one after it
struct Row {
    ptrdiff_t image, row;
    Row next(ptrdiff_t height) const {
        return row + 1 < height ? Row{image, row + 1} : Row{image + 1, 0};
    }
};

// y = the sums of all pixels of n images, of one panel of filters
template<class T, int VECTORS>
void sum_panel(const Sums<T>& s, const T* x, ptrdiff_t x_image, const T* w, const T* bias, T* y,
               ptrdiff_t y_image, uint8_t* positions, ptrdiff_t positions_image,
               ptrdiff_t n_images, ptrdiff_t columns) {
    const ptrdiff_t height = s.pool ? s.height / 2 * 2 : s.height;
    const ptrdiff_t width = s.pool ? s.width / 2 : s.width;
    constexpr int ROWS = rows_of_tile(VECTORS);
    ptrdiff_t left = n_images * height;
    Row here{0, 0};
    for (ptrdiff_t n = ROWS; left > 0; n /= 2) {
        const Blocks blocks(width * n / ROWS, TILE_PIXELS / (s.pool ? 2 : 1));
        for (; left >= n; left -= n) {
            Lines<T, VECTORS> lines;
            for (ptrdiff_t i = 0; i < n; ++i, here = here.next(height)) {
                const ptrdiff_t to = (s.pool ? here.row / 2 : here.row) * s.y_row;
                lines.x[i] = x + here.image * x_image + here.row * s.x_row;
                lines.y[i] = y + here.image * y_image + to;
                lines.positions[i] = positions ? positions + here.image * positions_image + to
                                               : nullptr;
            }
            sum_rows<T, VECTORS>(s, lines, n, width, blocks, w, bias, columns);
        }
    }
}

// The same for all filters
template<class T>
void sum_images(const Sums<T>& s, const T* x, ptrdiff_t x_image, T* y, ptrdiff_t y_image,
                uint8_t* positions, ptrdiff_t positions_image, ptrdiff_t n_images) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES;
    for (ptrdiff_t k = 0; k < s.columns; k += WIDTH) {
        const ptrdiff_t columns = s.columns - k < WIDTH ? s.columns - k : WIDTH;
        (columns > LANES ? sum_panel<T, TILE_VECTORS> : sum_panel<T, 1>)(
            s, s.depthwise ? x + k : x, x_image, s.weights + k * s.n_runs * s.run,
            s.bias ? s.bias + k : nullptr, y + k, y_image, positions ? positions + k : nullptr,
            positions_image, n_images, columns);
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
                store(to, load_lanes(w.at(r, k), lanes));
        else
            pack_columns(to, stride, w, rows, k, lanes);
    }
}

}  // namespace sknn
