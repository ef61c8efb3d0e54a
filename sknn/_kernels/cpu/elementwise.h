// The loops around the formulas, which must vectorise: each is a function of its own, with
// pointers that do not overlap unless it says so. ld is the distance between rows.
#pragma once
#include <cstddef>
#include <cstdint>
#include "formulas.h"

#define SKNN_LOOP __attribute__((noinline))

namespace sknn {

// ---- activations --------------------------------------------------------------------------

// y = F(y + b)                      y (n, m), b (m,)
template<class F, class T> SKNN_LOOP
void bias_activation(T* __restrict y, const T* __restrict b, ptrdiff_t n, ptrdiff_t m,
                     ptrdiff_t ld) {
    for (ptrdiff_t i = 0; i < n; ++i, y += ld)
        for (ptrdiff_t j = 0; j < m; ++j) y[j] = F::value(y[j] + b[j]);
}

// g = g F'(y)                       g, y (n, m)
template<class F, class T> SKNN_LOOP
void activation_gradient(T* __restrict g, const T* __restrict y, ptrdiff_t n, ptrdiff_t m,
                         ptrdiff_t ldg, ptrdiff_t ldy) {
    if (ldg == m && ldy == m) {
        m *= n;
        n = 1;
    }
    for (ptrdiff_t i = 0; i < n; ++i, g += ldg, y += ldy)
        for (ptrdiff_t j = 0; j < m; ++j) g[j] = F::gradient(g[j], y[j]);
}

template<class T> struct ActivationLoops {
    void (*forward)(T*, const T*, ptrdiff_t, ptrdiff_t, ptrdiff_t);
    void (*backward)(T*, const T*, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t);
};
struct Activation {
    ActivationLoops<float> loops32;
    ActivationLoops<double> loops64;
};

template<class F> Activation activation() {
    return {{bias_activation<F, float>, activation_gradient<F, float>},
            {bias_activation<F, double>, activation_gradient<F, double>}};
}

// ---- losses -------------------------------------------------------------------------------

// p = link(p)                       p (n, m)
template<class L, class T> SKNN_LOOP
void link(T* p, ptrdiff_t n, ptrdiff_t m, ptrdiff_t ld) {
    for (ptrdiff_t i = 0; i < n; ++i, p += ld)
        for (ptrdiff_t j = 0; j < m; ++j) p[j] = L::link(p[j]);
}

// loss[i] = weight_i factor sum_j value(y_ij, p_ij)
template<class L, class T> SKNN_LOOP
void row_loss(double* __restrict loss, const T* __restrict p, const void* y,
              const int64_t* samples, const double* weights, double factor, ptrdiff_t n,
              ptrdiff_t m, ptrdiff_t ld) {
    for (ptrdiff_t i = 0; i < n; ++i, p += ld) {
        const T* target = static_cast<const T*>(y) + samples[i] * m;
        double sum = 0;
        for (ptrdiff_t j = 0; j < m; ++j) sum += L::value(target[j], p[j]);
        loss[i] = factor * sum * (weights ? weights[samples[i]] : 1.0);
    }
}

// g = weight_i gradient(y_ij, p_ij)
template<class L, class T> SKNN_LOOP
void loss_gradient(T* __restrict g, const T* __restrict p, const void* y,
                   const int64_t* samples, const double* weights, ptrdiff_t n, ptrdiff_t m,
                   ptrdiff_t ldg, ptrdiff_t ldp) {
    for (ptrdiff_t i = 0; i < n; ++i, g += ldg, p += ldp) {
        const T* target = static_cast<const T*>(y) + samples[i] * m;
        T weight = weights ? T(weights[samples[i]]) : T(1);
        for (ptrdiff_t j = 0; j < m; ++j) g[j] = L::gradient(target[j], p[j]) * weight;
    }
}

template<class T> SKNN_LOOP
void exponential(T* p, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; ++j) p[j] = exp(p[j]);
}

// p = softmax(p), row by row        p (n, m); the exponentials of all rows in one loop, since
// a row alone is too short for the vector unit
template<class T> SKNN_LOOP
void softmax(T* p, ptrdiff_t n, ptrdiff_t m, ptrdiff_t ld) {
    for (ptrdiff_t i = 0; i < n; ++i) {
        T* row = p + i * ld;
        T largest = row[0];
        for (ptrdiff_t j = 1; j < m; ++j) largest = row[j] > largest ? row[j] : largest;
        for (ptrdiff_t j = 0; j < m; ++j) row[j] -= largest;
    }
    if (ld == m) exponential(p, n * m);
    else for (ptrdiff_t i = 0; i < n; ++i) exponential(p + i * ld, m);
    for (ptrdiff_t i = 0; i < n; ++i) {
        T* row = p + i * ld;
        T sum = 0;
        for (ptrdiff_t j = 0; j < m; ++j) sum += row[j];
        for (ptrdiff_t j = 0; j < m; ++j) row[j] /= sum;
    }
}

// loss[i] = weight_i factor log_loss(p of the true class)
template<class T> SKNN_LOOP
void softmax_row_loss(double* __restrict loss, const T* __restrict p, const void* classes,
                      const int64_t* samples, const double* weights, double factor,
                      ptrdiff_t n, ptrdiff_t, ptrdiff_t ld) {
    for (ptrdiff_t i = 0; i < n; ++i, p += ld) {
        T true_class = p[static_cast<const int32_t*>(classes)[samples[i]]];
        loss[i] = factor * log_loss(true_class) * (weights ? weights[samples[i]] : 1.0);
    }
}

// g = weight_i (p - 1 at the true class)
template<class T> SKNN_LOOP
void softmax_gradient(T* __restrict g, const T* __restrict p, const void* classes,
                      const int64_t* samples, const double* weights, ptrdiff_t n, ptrdiff_t m,
                      ptrdiff_t ldg, ptrdiff_t ldp) {
    for (ptrdiff_t i = 0; i < n; ++i, g += ldg, p += ldp) {
        int32_t true_class = static_cast<const int32_t*>(classes)[samples[i]];
        T weight = weights ? T(weights[samples[i]]) : T(1);
        for (ptrdiff_t j = 0; j < m; ++j) g[j] = p[j] * weight;
        g[true_class] -= weight;
    }
}

template<class T> struct LossLoops {
    void (*link)(T*, ptrdiff_t, ptrdiff_t, ptrdiff_t);
    void (*row_loss)(double*, const T*, const void*, const int64_t*, const double*, double,
                     ptrdiff_t, ptrdiff_t, ptrdiff_t);
    void (*gradient)(T*, const T*, const void*, const int64_t*, const double*, ptrdiff_t,
                     ptrdiff_t, ptrdiff_t, ptrdiff_t);
};
struct Loss {
    LossLoops<float> loops32;
    LossLoops<double> loops64;
};

template<class L> Loss elementwise_loss() {
    return {{link<L, float>, row_loss<L, float>, loss_gradient<L, float>},
            {link<L, double>, row_loss<L, double>, loss_gradient<L, double>}};
}
inline Loss softmax_loss() {
    return {{softmax<float>, softmax_row_loss<float>, softmax_gradient<float>},
            {softmax<double>, softmax_row_loss<double>, softmax_gradient<double>}};
}

// ---- dense --------------------------------------------------------------------------------

// out = sum_i g_i, or added to it   g (n, m), out (m,)
template<class T> SKNN_LOOP
void column_sum(T* __restrict out, const T* __restrict g, ptrdiff_t n, ptrdiff_t m,
                ptrdiff_t ld, bool accumulate) {
    if (!accumulate)
        for (ptrdiff_t j = 0; j < m; ++j) out[j] = 0;
    for (ptrdiff_t i = 0; i < n; ++i, g += ld)
        for (ptrdiff_t j = 0; j < m; ++j) out[j] += g[j];
}

// y = y + a x                       x, y (m,)
template<class T> SKNN_LOOP
void axpy(T* __restrict y, const T* __restrict x, T a, ptrdiff_t m) {
    for (ptrdiff_t j = 0; j < m; ++j) y[j] += a * x[j];
}

// ---- gather -------------------------------------------------------------------------------

// out_i = x_samples[i], cast        out (n, m), x (n_samples, m)
template<class From, class T> SKNN_LOOP
void gather(T* __restrict out, const void* x, const int64_t* samples, ptrdiff_t n,
            ptrdiff_t m) {
    for (ptrdiff_t i = 0; i < n; ++i, out += m) {
        const From* row = static_cast<const From*>(x) + samples[i] * m;
        for (ptrdiff_t j = 0; j < m; ++j) out[j] = T(row[j]);
    }
}

// ---- optimizers ---------------------------------------------------------------------------

template<class Step, class T> SKNN_FN
void step_one(const Step& step, T* __restrict p, const T* __restrict g, T* __restrict slot0,
              T* __restrict slot1, T decay, T scale, ptrdiff_t i) {
    T gradient = (g[i] + decay * p[i]) * scale;
    if constexpr (Step::n_slots == 0) step(p[i], gradient);
    else if constexpr (Step::n_slots == 1) step(p[i], gradient, slot0[i]);
    else step(p[i], gradient, slot0[i], slot1[i]);
}

// One step of all parameters of a slice, with the gradient (g + decay p) scale.
// Returns the sum of the squared parameters before the step, for the penalty in the loss,
// added up in as many partial sums as fit a vector.
template<class Step, class T> SKNN_LOOP
double update(const Step step, T* __restrict p, const T* __restrict g, T* __restrict slot0,
              T* __restrict slot1, T decay, T scale, ptrdiff_t n) {
    constexpr int LANES = 16;
    constexpr ptrdiff_t BLOCK = 4096;     // a float32 sum stays accurate over a block
    double total = 0;
    for (ptrdiff_t begin = 0; begin < n; begin += BLOCK) {
        ptrdiff_t end = begin + BLOCK < n ? begin + BLOCK : n;
        ptrdiff_t whole = begin + (end - begin) / LANES * LANES;
        T squares[LANES] = {};
        for (ptrdiff_t i = begin; i < whole; i += LANES)
            for (int k = 0; k < LANES; ++k) {
                squares[k] += p[i + k] * p[i + k];
                step_one(step, p, g, slot0, slot1, decay, scale, i + k);
            }
        for (ptrdiff_t i = whole; i < end; ++i) {
            squares[0] += p[i] * p[i];
            step_one(step, p, g, slot0, slot1, decay, scale, i);
        }
        for (int k = 0; k < LANES; ++k) total += squares[k];
    }
    return total;
}

}  // namespace sknn
