// The inner loops of perceptron.pyx, written with the vectors that the processor has, so that
// there is no loop left that a compiler may or may not vectorise.
#pragma once

#include <cstring>
#include "vectors.h"

#define ROW_BYTES 64 // a row of dense weights is a multiple of this
#define N_LANES 8    // classes side by side in sparse weights

// A loop of its own: inlined into a large function it would compete for registers.
#define LOOP __attribute__((noinline)) void

// what N numbers are computed in at once: a vector, or a plain number if N is 1
template <typename T, int N> struct Packed {
    typedef T Vector __attribute__((vector_size(N * sizeof(T))));
};
template <typename T> struct Packed<T, 1> { typedef T Vector; };

// N numbers in as many vectors as it takes
template <typename T, int N> struct Numbers {
    static constexpr int all = N * sizeof(T);
    static constexpr int bytes = all < sknn::VECTOR_BYTES ? all : sknn::VECTOR_BYTES;
    static constexpr int parts = all / bytes;
    typedef typename Packed<T, bytes / sizeof(T)>::Vector Vector;
    Vector part[parts] = {};

    // vector by vector: a compiler may copy the whole in smaller pieces
    void load(const T* from) {
        for (int i = 0; i < parts; i++) memcpy(&part[i], from + i * (N / parts), bytes);
    }
    void store(T* to) const {
        for (int i = 0; i < parts; i++) memcpy(to + i * (N / parts), &part[i], bytes);
    }

    void add(const Numbers& a) {
        for (int i = 0; i < parts; i++) part[i] += a.part[i];
    }
    void add_product(const Numbers& a, const Numbers& b) {
        for (int i = 0; i < parts; i++) part[i] += a.part[i] * b.part[i];
    }
    void add_product(const Numbers& a, T b) {
        for (int i = 0; i < parts; i++) part[i] += a.part[i] * b;
    }

    T total() const {
        if constexpr (N == 1) {
            return part[0];
        } else {
            Numbers<T, N / 2> low, high;
            if constexpr (parts > 1) {
                for (int i = 0; i < parts / 2; i++) {
                    low.part[i] = part[i];
                    high.part[i] = part[i + parts / 2];
                }
            } else {
                memcpy(low.part, part, all / 2);
                memcpy(high.part, reinterpret_cast<const char*>(part) + all / 2, all / 2);
            }
            low.add(high);
            return low.total();
        }
    }
};

template <typename T> using Row = Numbers<T, ROW_BYTES / sizeof(T)>;

// ---------------------------------------------------------------------------------------
// dense: x of shape (width,), w of shape (classes, width)
// ---------------------------------------------------------------------------------------

// scores[k] = x · w[k] for K classes, the same sums for every K
template <int K, typename T>
LOOP dense_dot(const T* x, const T* w, ptrdiff_t width, T* scores) {
    Row<T> sums[K], a, b;
    for (ptrdiff_t j = 0; j < width; j += ROW_BYTES / sizeof(T)) {
        a.load(x + j);
        for (int k = 0; k < K; k++) {
            b.load(w + k * width + j);
            sums[k].add_product(a, b);
        }
    }
    for (int k = 0; k < K; k++) scores[k] = sums[k].total();
}

// w += step x for one class
template <typename T> LOOP dense_add(const T* x, T* w, ptrdiff_t width, T step) {
    Row<T> a, b;
    for (ptrdiff_t j = 0; j < width; j += ROW_BYTES / sizeof(T)) {
        a.load(x + j);
        b.load(w + j);
        b.add_product(a, step);
        b.store(w + j);
    }
}

// ---------------------------------------------------------------------------------------
// sparse: n values x in the columns `indices`, w of shape (features, n_lanes) from the
// first of N lanes on
// ---------------------------------------------------------------------------------------

// scores[lane] = x · w[:, lane], in four sums, since one would wait for itself
template <int N, typename T>
LOOP sparse_dot(
    const T* x, const int32_t* indices, ptrdiff_t n, const T* w, ptrdiff_t n_lanes, T* scores
) {
    Numbers<T, N> sums[4], a;
    ptrdiff_t t = 0;
    for (; t + 4 <= n; t += 4) {
        for (int i = 0; i < 4; i++) {
            a.load(w + indices[t + i] * n_lanes);
            sums[i].add_product(a, x[t + i]);
        }
    }
    for (; t < n; t++) {
        a.load(w + indices[t] * n_lanes);
        sums[0].add_product(a, x[t]);
    }
    sums[0].add(sums[1]);
    sums[2].add(sums[3]);
    sums[0].add(sums[2]);
    sums[0].store(scores);
}

// w[:, lane] += steps[lane] x
template <int N, typename T>
LOOP sparse_add(
    const T* x, const int32_t* indices, ptrdiff_t n, T* w, ptrdiff_t n_lanes, const T* steps
) {
    Numbers<T, N> step, a;
    step.load(steps);
    for (ptrdiff_t t = 0; t < n; t++) {
        a.load(w + indices[t] * n_lanes);
        a.add_product(step, x[t]);
        a.store(w + indices[t] * n_lanes);
    }
}

// ---------------------------------------------------------------------------------------
// The l1 penalty that the weights still owe, taken from them down to zero.
//
// Tsuruoka, Tsujii and Ananiadou, "Stochastic gradient descent training for l1-regularized
// log-linear models with cumulative penalty", ACL 2009. `debt` is what a weight that was
// there at every sample has been charged; `paid` is the change that the penalty has made
// to it, negative if it was positive. The weights are scale times w. With an
// inverse_scale of zero nothing happens.
// ---------------------------------------------------------------------------------------

template <typename T, int N>
inline void collect(
    T* w, T* paid, const Numbers<T, N>& debt, T scale, const Numbers<T, N>& inverse_scale
) {
    Numbers<T, N> weight, change;
    weight.load(w);
    change.load(paid);
    for (int i = 0; i < weight.parts; i++) {
        const auto zero = typename Numbers<T, N>::Vector{};
        const auto before = weight.part[i];
        const auto lower = before - (debt.part[i] + change.part[i]) * inverse_scale.part[i];
        const auto higher = before + (debt.part[i] - change.part[i]) * inverse_scale.part[i];
        const auto after = before > zero ? (lower > zero ? lower : zero)
                                         : (higher < zero ? higher : zero);
        weight.part[i] = before == zero ? zero : after;
        change.part[i] += scale * (weight.part[i] - before);
    }
    weight.store(w);
    change.store(paid);
}

// one class
template <typename T> LOOP dense_collect(T* w, T* paid, ptrdiff_t width, T debt, T scale) {
    Row<T> debts, inverse_scales;
    for (int i = 0; i < Row<T>::parts; i++) {
        debts.part[i] += debt;
        inverse_scales.part[i] += 1 / scale;
    }
    for (ptrdiff_t j = 0; j < width; j += ROW_BYTES / sizeof(T))
        collect(w + j, paid + j, debts, scale, inverse_scales);
}

// N lanes
template <int N, typename T>
LOOP sparse_collect(
    const int32_t* indices, ptrdiff_t n, T* w, T* paid, ptrdiff_t n_lanes, const T* debts,
    T scale, const T* inverse_scales
) {
    Numbers<T, N> debt, inverse_scale;
    debt.load(debts);
    inverse_scale.load(inverse_scales);
    for (ptrdiff_t t = 0; t < n; t++) {
        const ptrdiff_t at = indices[t] * n_lanes;
        collect(w + at, paid + at, debt, scale, inverse_scale);
    }
}

// `size` bytes on their way from memory while the last sample is still at work
inline void prefetch(const void* start, ptrdiff_t size) {
    for (ptrdiff_t offset = 0; offset < size; offset += 64)
        __builtin_prefetch(static_cast<const char*>(start) + offset);
}

// ---------------------------------------------------------------------------------------
// names for Cython, which spells no template arguments
// ---------------------------------------------------------------------------------------

template <typename T> void dot_one_class(const T* x, const T* w, ptrdiff_t width, T* scores) {
    dense_dot<1>(x, w, width, scores);
}

template <typename T> void dot_four_classes(const T* x, const T* w, ptrdiff_t width, T* scores) {
    dense_dot<4>(x, w, width, scores);
}

template <typename T>
void dot_lanes(
    const T* x, const int32_t* indices, ptrdiff_t n, const T* w, ptrdiff_t n_lanes, T* scores
) {
    n_lanes == 1 ? sparse_dot<1>(x, indices, n, w, n_lanes, scores)
                 : sparse_dot<N_LANES>(x, indices, n, w, n_lanes, scores);
}

template <typename T>
void add_lanes(
    const T* x, const int32_t* indices, ptrdiff_t n, T* w, ptrdiff_t n_lanes, const T* steps
) {
    n_lanes == 1 ? sparse_add<1>(x, indices, n, w, n_lanes, steps)
                 : sparse_add<N_LANES>(x, indices, n, w, n_lanes, steps);
}

template <typename T>
void collect_lanes(
    const int32_t* indices, ptrdiff_t n, T* w, T* paid, ptrdiff_t n_lanes, const T* debts,
    T scale, const T* inverse_scales
) {
    n_lanes == 1
        ? sparse_collect<1>(indices, n, w, paid, n_lanes, debts, scale, inverse_scales)
        : sparse_collect<N_LANES>(indices, n, w, paid, n_lanes, debts, scale, inverse_scales);
}
