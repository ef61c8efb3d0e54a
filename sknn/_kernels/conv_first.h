// The weights' gradient of a first layer with few channels and a maximum after it: all inputs of
// the 3 x 3 kernel stay in registers, and the gradient is read where the maxima were taken, rather
// than spread over the pixels before.
#pragma once
#include "images.h"

namespace sknn {

// Pixels of images: of x before the maximum, of dy after it
struct Pixels {
    ptrdiff_t n_images, height, width;              // of dy
    ptrdiff_t x_image, x_row, x_pixel, dy_image, dy_row, dy_pixel;
};

// dw = sum over pixels of 3 x LENGTH inputs by VECTORS vectors of the gradient g of pooled values,
// or added to it. Inputs of a row follow each other, rows are `step` apart.
template<class T, int LENGTH, int VECTORS> __attribute__((noinline))
void pooled_outer_tile(const Pixels& s, const T* x, ptrdiff_t step, const T* g,
                       const uint8_t* positions, ptrdiff_t positions_image, T* dw, ptrdiff_t ld,
                       ptrdiff_t columns, bool accumulate) {
    constexpr int LANES = Vector<T>::lanes, ROWS = 3 * LENGTH;
    const ptrdiff_t last = columns - (VECTORS - 1) * LANES;
    VectorOf<T> sum[ROWS][VECTORS];
#pragma GCC unroll 32
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) sum[r][v] = VectorOf<T>{};
    const ptrdiff_t x_row = s.x_row, x_pixel = s.x_pixel;
    for (ptrdiff_t b = 0; b < s.n_images; ++b)
        for (ptrdiff_t i = 0; i < s.height; ++i) {
            const T* from = x + b * s.x_image + 2 * i * x_row;
            const T* dy = g + b * s.dy_image + i * s.dy_row;
            const uint8_t* at = positions + b * positions_image + i * s.dy_row;
            for (ptrdiff_t j = 0; j < s.width; ++j) {
                VectorOf<T> whole[VECTORS];
                MaskOf<T> where[VECTORS];
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) {
                    const ptrdiff_t n = v + 1 < VECTORS ? LANES : last;
                    whole[v] = load_lanes(dy + v * LANES, n);
                    where[v] = load_positions<T>(at + v * LANES, n);
                }
#pragma GCC unroll 4
                for (int q = 0; q < 4; ++q) {
                    const T* pixel = from + q / 2 * x_row + q % 2 * x_pixel;
                    VectorOf<T> d[VECTORS];
#pragma GCC unroll 4
                    for (int v = 0; v < VECTORS; ++v)
                        d[v] = where[v] == q ? whole[v] : VectorOf<T>{};
#pragma GCC unroll 32
                    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
                        for (int v = 0; v < VECTORS; ++v)
                            sum[r][v] += pixel[r / LENGTH * step + r % LENGTH] * d[v];
                }
                from += 2 * x_pixel;
                dy += s.dy_pixel;
                at += s.dy_pixel;
            }
        }
#pragma GCC unroll 32
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
            T* out = dw + r * ld + v * LANES;
            const ptrdiff_t n = v + 1 < VECTORS ? LANES : last;
            store_lanes(out, accumulate ? load_lanes(out, n) + sum[r][v] : sum[r][v], n);
        }
}

// vectors of filters whose sums with 3 x `length` inputs the registers hold
inline int first_layer_vectors(ptrdiff_t length) {
    return static_cast<int>(TILE_ROWS * TILE_VECTORS / (3 * length));
}

// Whether that serves.
inline bool is_first_layer(const Conv& s) {
    const ptrdiff_t length = s.kernel_w * s.channels;
    return s.pool && s.kernel_h == 3 && s.groups == 1 && s.dilation_w == 1
           && (length == 3 || length == 9) && first_layer_vectors(length) > 0;
}

// dw (9 channels, filters) over some images
template<class T>
void sum_first_layer(const Conv& s, const Pixels& pixels, const T* x, ptrdiff_t step, const T* g,
                     const uint8_t* positions, T* dw, bool accumulate) {
    const ptrdiff_t length = s.kernel_w * s.channels;
    const int most = first_layer_vectors(length) < 2 ? 1 : 2;
    const ptrdiff_t width = most * Vector<T>::lanes;
    for (ptrdiff_t k = 0; k < s.filters; k += width) {
        const ptrdiff_t columns = s.filters - k < width ? s.filters - k : width;
        auto tile = pooled_outer_tile<T, 3, 1>;
        if (length == 9) tile = pooled_outer_tile<T, 9, 1>;
        else if (columns > Vector<T>::lanes) tile = pooled_outer_tile<T, 3, 2>;
        tile(pixels, x, step, g + k, positions + k, s.positions_image, dw + k, s.filters, columns,
             accumulate);
    }
}

}  // namespace sknn
