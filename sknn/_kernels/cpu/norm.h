// Normalisation: moments of channels over the pixels of many samples, and of a pixel over its
// channels. x (n, c) are n pixels of c channels. Loops over pixels take a vector of channels each.
#pragma once
#include "elementwise.h"
#include "images.h"

namespace sknn {

// pixels whose sum is taken in the compute type, in so many parts, before it is added up in double
constexpr ptrdiff_t MOMENT_BLOCK = 32, MOMENT_PARTS = 4;
// elements of x that are read twice while they are in the first-level cache
constexpr ptrdiff_t MOMENT_ELEMENTS = 4096;

// f(first channel of a vector, how many: a constant if all)
template<class T, class F> inline __attribute__((always_inline))
void for_channels(ptrdiff_t c, F f) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes;
    ptrdiff_t k = 0;
    for (; k + LANES <= c; k += LANES) f(k, std::integral_constant<ptrdiff_t, LANES>{});
    if (k < c) f(k, c - k);
}

// sums += sum_i f(i), a vector for each of them     sums (S, lanes)
template<int S, class T, class F> inline __attribute__((always_inline))
void pixel_sums(double (&sums)[S][Vector<T>::lanes], ptrdiff_t n, F f) {
    for (ptrdiff_t begin = 0; begin < n; begin += MOMENT_BLOCK) {
        const ptrdiff_t end = begin + MOMENT_BLOCK < n ? begin + MOMENT_BLOCK : n;
        VectorOf<T> part[MOMENT_PARTS][S] = {};
        ptrdiff_t i = begin;
        for (; i + MOMENT_PARTS <= end; i += MOMENT_PARTS)
#pragma GCC unroll 4
            for (int p = 0; p < MOMENT_PARTS; ++p) f(i + p, part[p]);
        for (; i < end; ++i) f(i, part[0]);
#pragma GCC unroll 2
        for (int s = 0; s < S; ++s) {
            const VectorOf<T> sum = (part[0][s] + part[1][s]) + (part[2][s] + part[3][s]);
            for (int l = 0; l < Vector<T>::lanes; ++l) sums[s][l] += sum[l];
        }
    }
}

// Takes other pixels into the moments: the weight, the means and the sums of
// squared deviations so far (Chan, Golub and LeVeque, 1983, equations 1.5).
inline void merge_moments(double& weight, double* __restrict mean, double* __restrict m2,
                          double other_weight, const double* __restrict other_mean,
                          const double* __restrict other_m2, ptrdiff_t c) {
    if (other_weight == 0) return;
    const double total = weight + other_weight, share = other_weight / total;
    for (ptrdiff_t j = 0; j < c; ++j) {
        const double delta = other_mean[j] - mean[j];
        mean[j] += delta * share;
        m2[j] += other_m2[j] + delta * delta * weight * share;
    }
    weight = total;
}

// The means of n pixels of the same weight, and the sums of squared deviations from them
template<class T> SKNN_LOOP
void moments_of_pixels(const T* x, ptrdiff_t n, ptrdiff_t c, double pixel_weight, double* mean,
                       double* m2) {
    for_channels<T>(c, [&](ptrdiff_t k, auto lanes) __attribute__((always_inline)) {
        double sum[1][Vector<T>::lanes] = {}, squares[1][Vector<T>::lanes] = {};
        T center[Vector<T>::lanes] = {};
        pixel_sums<1, T>(sum, n, [&](ptrdiff_t i, VectorOf<T>* part) {
            part[0] += load_lanes(x + i * c + k, lanes);
        });
        for (ptrdiff_t l = 0; l < lanes; ++l)
            center[l] = T(mean[k + l] = sum[0][l] / double(n));
        const VectorOf<T> at = load(center);
        if (n > 1)
            pixel_sums<1, T>(squares, n, [&](ptrdiff_t i, VectorOf<T>* part) {
                const VectorOf<T> d = load_lanes(x + i * c + k, lanes) - at;
                part[0] += d * d;
            });
        for (ptrdiff_t l = 0; l < lanes; ++l) m2[k + l] = squares[0][l] * pixel_weight;
    });
}

// Takes n pixels into the moments; other_mean and other_m2 (c,) are scratch.
template<class T>
void add_moments(double& weight, double* mean, double* m2, const T* x, ptrdiff_t n, ptrdiff_t c,
                 double pixel_weight, double* other_mean, double* other_m2) {
    const ptrdiff_t most = MOMENT_ELEMENTS / c > 1 ? MOMENT_ELEMENTS / c : 1;
    for (ptrdiff_t i = 0; i < n; i += most) {
        const ptrdiff_t pixels = n - i < most ? n - i : most;
        moments_of_pixels(x + i * c, pixels, c, pixel_weight, other_mean, other_m2);
        merge_moments(weight, mean, m2, pixel_weight * double(pixels), other_mean, other_m2, c);
    }
}

// g = 0 where y is, if it is not null: the gradient of a rectifier; then adds the sums of g and of
// g (x - mean) inverse over n pixels.
template<class T> SKNN_LOOP
void add_gradient_sums(double* g_sum, double* gx_sum, T* g, const T* y, const T* x,
                       const T* mean, const T* inverse, ptrdiff_t n, ptrdiff_t c) {
    using V = VectorOf<T>;
    for_channels<T>(c, [&](ptrdiff_t k, auto lanes) __attribute__((always_inline)) {
        double sums[2][Vector<T>::lanes] = {};
        const V center = load_lanes(mean + k, lanes);
        const auto add = [&](V d, ptrdiff_t at, V* part) __attribute__((always_inline)) {
            part[0] += d;
            part[1] += d * (load_lanes(x + at, lanes) - center);
        };
        if (y)
            pixel_sums<2, T>(sums, n, [&](ptrdiff_t i, V* part) __attribute__((always_inline)) {
                const ptrdiff_t at = i * c + k;
                const V zero{}, d = load_lanes(y + at, lanes) == zero ? zero
                                                                      : load_lanes(g + at, lanes);
                store_lanes(g + at, d, lanes);
                add(d, at, part);
            });
        else
            pixel_sums<2, T>(sums, n, [&](ptrdiff_t i, V* part) __attribute__((always_inline)) {
                add(load_lanes(g + i * c + k, lanes), i * c + k, part);
            });
        for (ptrdiff_t l = 0; l < lanes; ++l) {
            g_sum[k + l] += sums[0][l];
            gx_sum[k + l] += sums[1][l] * double(inverse[k + l]);
        }
    });
}

// y = x scale + shift, and + x2 if it is not null, rectified if so wanted
//                                   x, x2, y (n, c), scale, shift (c,)
template<class T> SKNN_LOOP
void scale_and_shift(T* y, const T* x, const T* x2, const T* scale, const T* shift, ptrdiff_t n,
                     ptrdiff_t c, bool relu) {
    using V = VectorOf<T>;
    for_channels<T>(c, [&](ptrdiff_t k, auto lanes) __attribute__((always_inline)) {
        const V a = load_lanes(scale + k, lanes), b = load_lanes(shift + k, lanes);
        const V least = relu ? V{} : V{} - Limits<T>::infinity;
        for (ptrdiff_t i = 0, at = k; i < n; ++i, at += c) {
            V v = load_lanes(x + at, lanes) * a + b;
            if (x2) v += load_lanes(x2 + at, lanes);
            store_lanes(y + at, v < least ? least : v, lanes);      // NaN stays
        }
    });
}

// dx = scale g - a - b x, or added; dx may be g       dx, g, x (n, c), scale, a, b (c,)
template<class T> SKNN_LOOP
void batch_norm_gradient(T* dx, const T* g, const T* x, const T* scale, const T* a, const T* b,
                         ptrdiff_t n, ptrdiff_t c, bool accumulate) {
    using V = VectorOf<T>;
    for_channels<T>(c, [&](ptrdiff_t k, auto lanes) __attribute__((always_inline)) {
        const V s = load_lanes(scale + k, lanes), shift = load_lanes(a + k, lanes);
        const V slope = load_lanes(b + k, lanes);
        for (ptrdiff_t i = 0, at = k; i < n; ++i, at += c) {
            V d = s * load_lanes(g + at, lanes) - shift - slope * load_lanes(x + at, lanes);
            if (accumulate) d += load_lanes(dx + at, lanes);
            store_lanes(dx + at, d, lanes);
        }
    });
}

// mean and 1 / sqrt(variance + epsilon) of one pixel's channels
template<class T> struct Standard { T mean, inverse; };
template<class T> SKNN_FN Standard<T> standard_of(const T* x, ptrdiff_t c, T epsilon) {
    T sum = 0, squares = 0;
    #pragma omp simd reduction(+:sum)
    for (ptrdiff_t j = 0; j < c; ++j) sum += x[j];
    const T mean = sum / T(c);
    #pragma omp simd reduction(+:squares)
    for (ptrdiff_t j = 0; j < c; ++j) squares += (x[j] - mean) * (x[j] - mean);
    return {mean, T(1) / root(squares / T(c) + epsilon)};
}

// y = gamma (x - mean) inverse      x, y (n, c), gamma (c,)
template<class T> SKNN_LOOP
void layer_norm(T* __restrict y, const T* __restrict x, const T* __restrict gamma, ptrdiff_t n,
                ptrdiff_t c, T epsilon) {
    for (ptrdiff_t i = 0; i < n; ++i, x += c, y += c) {
        const Standard<T> s = standard_of(x, c, epsilon);
        for (ptrdiff_t j = 0; j < c; ++j) y[j] = gamma[j] * ((x[j] - s.mean) * s.inverse);
    }
}

// dx = inverse (h - mean of h - z mean of h z) with h = gamma g, z = (x - mean) inverse
template<class T> SKNN_LOOP
void layer_norm_gradient(T* __restrict dx, const T* __restrict g, const T* __restrict x,
                         const T* __restrict gamma, ptrdiff_t n, ptrdiff_t c, T epsilon,
                         bool accumulate) {
    for (ptrdiff_t i = 0; i < n; ++i, dx += c, g += c, x += c) {
        const Standard<T> s = standard_of(x, c, epsilon);
        T h = 0, hz = 0;
        #pragma omp simd reduction(+:h, hz)
        for (ptrdiff_t j = 0; j < c; ++j) {
            h += gamma[j] * g[j];
            hz += gamma[j] * g[j] * ((x[j] - s.mean) * s.inverse);
        }
        h /= T(c);
        hz /= T(c);
        for (ptrdiff_t j = 0; j < c; ++j) {
            const T z = (x[j] - s.mean) * s.inverse;
            const T d = s.inverse * (gamma[j] * g[j] - h - z * hz);
            dx[j] = accumulate ? dx[j] + d : d;
        }
    }
}

// dgamma = dgamma + sum_i g z       dgamma (c,), z as above; sums of some pixels are added up,
// since what a sum rounds away grows with its length
template<class T> SKNN_LOOP
void add_gamma_gradient(T* __restrict dgamma, const T* __restrict g, const T* __restrict x,
                        ptrdiff_t n, ptrdiff_t c, T epsilon) {
    constexpr ptrdiff_t PIXELS = 256, COLUMNS = 64;
    Standard<T> s[PIXELS];
    for (; n > 0; n -= PIXELS, g += PIXELS * c, x += PIXELS * c) {
        const ptrdiff_t pixels = n < PIXELS ? n : PIXELS;
        for (ptrdiff_t i = 0; i < pixels; ++i) s[i] = standard_of(x + i * c, c, epsilon);
        for (ptrdiff_t j = 0; j < c; j += COLUMNS) {
            const ptrdiff_t columns = c - j < COLUMNS ? c - j : COLUMNS;
            T sum[COLUMNS] = {};
            for (ptrdiff_t i = 0; i < pixels; ++i)
                for (ptrdiff_t k = j; k < j + columns; ++k)
                    sum[k - j] += g[i * c + k] * ((x[i * c + k] - s[i].mean) * s[i].inverse);
            for (ptrdiff_t k = 0; k < columns; ++k) dgamma[j + k] += sum[k];
        }
    }
}

}  // namespace sknn
