// Normalisation: moments of channels over the pixels of many samples, and of a pixel over its
// channels. x (n, c) are n pixels of c channels.
#pragma once
#include "elementwise.h"

namespace sknn {

// pixels whose sum is taken in the compute type, before it is added up in double
constexpr ptrdiff_t MOMENT_BLOCK = 32;

// sum_c = sum_i f(i, c)             sum (c,), part (c,) scratch
template<class T, class F> SKNN_FN
void channel_sums(double* __restrict sum, T* __restrict part, ptrdiff_t n, ptrdiff_t c, F f) {
    for (ptrdiff_t j = 0; j < c; ++j) sum[j] = 0;
    for (ptrdiff_t begin = 0; begin < n; begin += MOMENT_BLOCK) {
        const ptrdiff_t end = begin + MOMENT_BLOCK < n ? begin + MOMENT_BLOCK : n;
        for (ptrdiff_t j = 0; j < c; ++j) part[j] = f(begin, j);
        for (ptrdiff_t i = begin + 1; i < end; ++i)
            for (ptrdiff_t j = 0; j < c; ++j) part[j] += f(i, j);
        for (ptrdiff_t j = 0; j < c; ++j) sum[j] += part[j];
    }
}

// Takes n pixels of the same weight into the moments: the weight, the means and the sums of
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

// The same for the n pixels of one sample; other_mean, other_m2 (c,) and part (c,) are scratch.
template<class T> SKNN_LOOP
void add_moments(double& weight, double* mean, double* m2, const T* __restrict x, ptrdiff_t n,
                 ptrdiff_t c, double pixel_weight, double* __restrict other_mean,
                 double* __restrict other_m2, T* __restrict part) {
    channel_sums(other_mean, part, n, c, [=](ptrdiff_t i, ptrdiff_t j) { return x[i * c + j]; });
    for (ptrdiff_t j = 0; j < c; ++j) other_mean[j] /= double(n);
    if (n == 1) {
        for (ptrdiff_t j = 0; j < c; ++j) other_m2[j] = 0;
    } else {
        channel_sums(other_m2, part, n, c, [=](ptrdiff_t i, ptrdiff_t j) {
            const T d = x[i * c + j] - T(other_mean[j]);
            return d * d;
        });
        for (ptrdiff_t j = 0; j < c; ++j) other_m2[j] *= pixel_weight;
    }
    merge_moments(weight, mean, m2, pixel_weight * double(n), other_mean, other_m2, c);
}

// Adds the sums of g and of g (x - mean) inverse over n pixels; sum and part are scratch.
template<class T> SKNN_LOOP
void add_gradient_sums(double* __restrict g_sum, double* __restrict gx_sum,
                       const T* __restrict g, const T* __restrict x, const T* __restrict mean,
                       const T* __restrict inverse, ptrdiff_t n, ptrdiff_t c,
                       double* __restrict sum, T* __restrict part) {
    channel_sums(sum, part, n, c, [=](ptrdiff_t i, ptrdiff_t j) { return g[i * c + j]; });
    for (ptrdiff_t j = 0; j < c; ++j) g_sum[j] += sum[j];
    channel_sums(sum, part, n, c, [=](ptrdiff_t i, ptrdiff_t j) {
        return g[i * c + j] * (x[i * c + j] - mean[j]) * inverse[j];
    });
    for (ptrdiff_t j = 0; j < c; ++j) gx_sum[j] += sum[j];
}

// y = x scale                       x, y (n, c), scale (c,)
template<class T> SKNN_LOOP
void scale_channels(T* __restrict y, const T* __restrict x, const T* __restrict scale,
                    ptrdiff_t n, ptrdiff_t c) {
    for (ptrdiff_t i = 0; i < n; ++i, x += c, y += c)
        for (ptrdiff_t j = 0; j < c; ++j) y[j] = x[j] * scale[j];
}

// dx = scale g - a - b x, or added  dx, g, x (n, c), scale, a, b (c,)
template<class T> SKNN_LOOP
void batch_norm_gradient(T* __restrict dx, const T* __restrict g, const T* __restrict x,
                         const T* __restrict scale, const T* __restrict a,
                         const T* __restrict b, ptrdiff_t n, ptrdiff_t c, bool accumulate) {
    for (ptrdiff_t i = 0; i < n; ++i, dx += c, g += c, x += c)
        for (ptrdiff_t j = 0; j < c; ++j) {
            const T d = scale[j] * g[j] - a[j] - b[j] * x[j];
            dx[j] = accumulate ? dx[j] + d : d;
        }
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

// dgamma = dgamma + sum_i g z       dgamma (c,), z as above
template<class T> SKNN_LOOP
void add_gamma_gradient(T* __restrict dgamma, const T* __restrict g, const T* __restrict x,
                        ptrdiff_t n, ptrdiff_t c, T epsilon) {
    for (ptrdiff_t i = 0; i < n; ++i, g += c, x += c) {
        const Standard<T> s = standard_of(x, c, epsilon);
        for (ptrdiff_t j = 0; j < c; ++j) dgamma[j] += g[j] * ((x[j] - s.mean) * s.inverse);
    }
}

}  // namespace sknn
