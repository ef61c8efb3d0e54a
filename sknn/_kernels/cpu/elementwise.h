// The loops around the formulas, which must vectorise: each is a function of its own, with
// pointers that do not overlap unless it says so. ld is the distance between rows.
// `omp simd` lets a sum be taken in parts, and keeps a short loop from being unrolled before it
// is made of vectors; it needs no OpenMP but a compiler's option.
#pragma once
#include <cstddef>
#include <cstdint>
#include "tiles.h"      // and vectors, before the formulas, which take them too
#include "formulas.h"

#define SKNN_LOOP __attribute__((noinline))

namespace sknn {

// Elements that a loop takes at once, whole vectors of any instruction set. What is left at the
// end of a row is taken a vector at once, too: one element alone costs as much as all of it.
constexpr int LANES = 16;
// fewer are taken one by one
constexpr ptrdiff_t FEW = 4;
// Bytes of a cache line, and those that a costly loop fetches ahead: so few of its elements are
// under way at once that the processor would wait for memory.
constexpr ptrdiff_t LINE = 64, FETCH_AHEAD = 2048;
// Bytes of a first-level cache.
constexpr ptrdiff_t NEAR = 32768;

// out = f(a, b)                     out, a, b (n,); out may be a or b
template<class T, class F> SKNN_FN void map(T* out, const T* a, const T* b, ptrdiff_t n, F f) {
    if (n < FEW) {
        for (ptrdiff_t i = 0; i < n; ++i) out[i] = f(a[i], b[i]);
        return;
    }
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t byte = 0; byte < LANES * sizeof(T); byte += LINE)
            __builtin_prefetch(reinterpret_cast<const char*>(a + i) + FETCH_AHEAD + byte);
        #pragma omp simd
        for (int k = 0; k < LANES; ++k) out[i + k] = f(a[i + k], b[i + k]);
    }
    constexpr int STEP = Vector<T>::lanes;
    for (; i < n; i += STEP) {      // beyond the end are zeros: what is subnormal takes longer
        const ptrdiff_t rest = n - i < STEP ? n - i : STEP;
        alignas(64) T x[STEP], y[STEP];
        store(x, load_lanes(a + i, rest));
        store(y, load_lanes(b + i, rest));
        #pragma omp simd
        for (int k = 0; k < STEP; ++k) x[k] = f(x[k], y[k]);
        store_lanes(out + i, load(x), rest);
    }
}

// v = f(v)                          v (n,)
template<class T, class F> SKNN_FN void map(T* v, ptrdiff_t n, F f) {
    map(v, v, v, n, [=](T x, T) { return f(x); });
}

// ---- activations --------------------------------------------------------------------------

// y = F(y + b)                      y (n, m), b (m,)
template<class F, class T> SKNN_LOOP
void bias_activation(T* __restrict y, const T* __restrict b, ptrdiff_t n, ptrdiff_t m,
                     ptrdiff_t ld) {
    for (ptrdiff_t i = 0; i < n; ++i, y += ld)
        map(y, y, b, m, [](T x, T bias) { return F::value(x + bias); });
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

// y = F(a + b), or F(a) without b   a, b, y (n,)
template<class F, class T> SKNN_LOOP
void activated_sum(T* y, const T* a, const T* b, ptrdiff_t n) {
    if (b) map(y, a, b, n, [](T x, T x2) { return F::value(x + x2); });
    else map(y, a, a, n, [](T x, T) { return F::value(x); });
}

template<class T> struct ActivationLoops {
    void (*forward)(T*, const T*, ptrdiff_t, ptrdiff_t, ptrdiff_t);
    void (*sum)(T*, const T*, const T*, ptrdiff_t);
    void (*backward)(T*, const T*, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t);
};
struct Activation {
    ActivationLoops<float> loops32;
    ActivationLoops<double> loops64;
};

template<class F> Activation activation() {
    return {{bias_activation<F, float>, activated_sum<F, float>, activation_gradient<F, float>},
            {bias_activation<F, double>, activated_sum<F, double>,
             activation_gradient<F, double>}};
}

// ---- losses -------------------------------------------------------------------------------

// Elements of a row, or rows of one column, that a loss takes at once.
constexpr ptrdiff_t AT_ONCE = 512;

// p = link(p)                       p (n, m)
template<class L, class T> SKNN_LOOP
void link(T* p, ptrdiff_t n, ptrdiff_t m, ptrdiff_t ld) {
    if (m > 1) {
        for (ptrdiff_t i = 0; i < n; ++i, p += ld) map(p, m, [](T z) { return L::link(z); });
        return;
    }
    T column[AT_ONCE];
    for (ptrdiff_t i = 0; i < n; i += AT_ONCE, p += AT_ONCE * ld) {
        const ptrdiff_t rows = n - i < AT_ONCE ? n - i : AT_ONCE;
        for (ptrdiff_t r = 0; r < rows; ++r) column[r] = p[r * ld];
        map(column, rows, [](T z) { return L::link(z); });
        for (ptrdiff_t r = 0; r < rows; ++r) p[r * ld] = column[r];
    }
}

template<class T> SKNN_FN double sum_of(const T* v, ptrdiff_t n) {
    double sum = 0;
    ptrdiff_t i = 0;
    if (n >= LANES) {
        alignas(64) double partial[LANES] = {};
        for (; i + LANES <= n; i += LANES) {
            #pragma omp simd
            for (int k = 0; k < LANES; ++k) partial[k] += v[i + k];
        }
        for (int half = LANES / 2; half > 0; half /= 2) {
            #pragma omp simd
            for (int k = 0; k < half; ++k) partial[k] += partial[k + half];
        }
        sum = partial[0];
    }
    for (; i < n; ++i) sum += v[i];
    return sum;
}

// loss[i] = weight_i factor sum_j value(y_ij, p_ij)
template<class L, class T> SKNN_LOOP
void row_loss(double* __restrict loss, const T* __restrict p, const void* y,
              const int64_t* samples, const double* weights, double factor, ptrdiff_t n,
              ptrdiff_t m, ptrdiff_t ld) {
    const T* targets = static_cast<const T*>(y);
    const auto value = [](T t, T q) { return L::value(t, q); };
    T values[AT_ONCE];
    if (m == 1) {
        T column[AT_ONCE];
        for (ptrdiff_t i = 0; i < n; i += AT_ONCE, p += AT_ONCE * ld) {
            const ptrdiff_t rows = n - i < AT_ONCE ? n - i : AT_ONCE;
            for (ptrdiff_t r = 0; r < rows; ++r) column[r] = p[r * ld];
            for (ptrdiff_t r = 0; r < rows; ++r) values[r] = targets[samples[i + r]];
            map(values, values, column, rows, value);
            for (ptrdiff_t r = 0; r < rows; ++r)
                loss[i + r] = factor * values[r] * (weights ? weights[samples[i + r]] : 1.0);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < n; ++i, p += ld) {
        const T* target = targets + samples[i] * m;
        double sum = 0;
        for (ptrdiff_t j = 0; j < m && m < FEW; ++j) sum += value(target[j], p[j]);
        for (ptrdiff_t j = 0; j < m && m >= FEW; j += AT_ONCE) {
            const ptrdiff_t width = m - j < AT_ONCE ? m - j : AT_ONCE;
            map(values, target + j, p + j, width, value);
            sum += sum_of(values, width);
        }
        loss[i] = factor * sum * (weights ? weights[samples[i]] : 1.0);
    }
}

// g = weight_i gradient(y_ij, p_ij)
template<class L, class T> SKNN_LOOP
void loss_gradient(T* __restrict g, const T* __restrict p, const void* y,
                   const int64_t* samples, const double* weights, ptrdiff_t n, ptrdiff_t m,
                   ptrdiff_t ldg, ptrdiff_t ldp) {
    const T* targets = static_cast<const T*>(y);
    if (m == 1 && !weights) {
        for (ptrdiff_t i = 0; i < n; ++i)
            g[i * ldg] = L::gradient(targets[samples[i]], p[i * ldp]);
        return;
    }
    for (ptrdiff_t i = 0; i < n; ++i, g += ldg, p += ldp) {
        const T* target = targets + samples[i] * m;
        T weight = weights ? T(weights[samples[i]]) : T(1);
        for (ptrdiff_t j = 0; j < m; ++j) g[j] = L::gradient(target[j], p[j]) * weight;
    }
}

// exp(x), x <= 0; in vectors the bound is a maximum, which takes no multiplier's place
template<class T> SKNN_FN VectorOf<T> exps_below_0(VectorOf<T> x) {
    alignas(64) T v[Vector<T>::lanes];
    store(v, largest<T>(VectorOf<T>{} + log_of_0<T>, x));
    #pragma omp simd
    for (int k = 0; k < Vector<T>::lanes; ++k) v[k] = exp_below_0(v[k]);
    return load(v);
}

// p = softmax(p), where rows are short: as many of them as a vector has elements, each in a lane,
// and some such blocks together, since each step of one waits for the one before
template<class T> SKNN_LOOP
void softmax_narrow(T* p, ptrdiff_t n, ptrdiff_t m, ptrdiff_t ld) {
    constexpr int ROWS = Vector<T>::lanes, BLOCKS = 4;
    alignas(64) T column[LANES][BLOCKS][ROWS];
    for (ptrdiff_t i = 0; i < n; i += BLOCKS * ROWS, p += BLOCKS * ROWS * ld) {
        const ptrdiff_t n_rows = n - i < BLOCKS * ROWS ? n - i : BLOCKS * ROWS;
        const ptrdiff_t blocks = (n_rows + ROWS - 1) / ROWS;
        const auto rows = [=](ptrdiff_t b) {
            return n_rows - b * ROWS < ROWS ? n_rows - b * ROWS : ROWS;
        };
        VectorOf<T> most[BLOCKS], sum[BLOCKS]{};
        for (ptrdiff_t b = 0; b < blocks; ++b)
            pack_columns(column[0][b], BLOCKS * ROWS, Factor<T>(p + b * ROWS * ld, 1, ld), m, 0,
                         rows(b));
        for (ptrdiff_t b = 0; b < blocks; ++b) {
            VectorOf<T> v = load(column[0][b]);
            for (ptrdiff_t j = 1; j < m; ++j) v = largest<T>(load(column[j][b]), v);
            most[b] = v;
        }
        for (ptrdiff_t j = 0; j < m; ++j)
            for (ptrdiff_t b = 0; b < blocks; ++b) {
                const VectorOf<T> v = exps_below_0<T>(load(column[j][b]) - most[b]);
                store(column[j][b], v);
                sum[b] += v;
            }
        for (ptrdiff_t b = 0; b < blocks; ++b) {
            const VectorOf<T> scale = T(1) / sum[b];
            for (ptrdiff_t j = 0; j < m; ++j) store(column[j][b], load(column[j][b]) * scale);
        }
        for (ptrdiff_t b = 0; b < blocks; ++b)
            for (ptrdiff_t j = 0; j < m; j += ROWS)
                transpose(p + b * ROWS * ld + j, ld, column[j][b], BLOCKS * ROWS,
                          m - j < ROWS ? m - j : ROWS, rows(b), false);
    }
}

// p = softmax(p)                    p (n, m): some rows at once, whose largest elements and sums
// are reduced together
template<class T> SKNN_LOOP
void softmax(T* __restrict p, ptrdiff_t n, ptrdiff_t m, ptrdiff_t ld) {
    if (HAVE_TILES && n >= FEW && m <= LANES) return softmax_narrow(p, n, m, ld);
    constexpr int ROWS = Vector<T>::lanes;
    const ptrdiff_t whole = m / ROWS * ROWS, tail = m - whole;
    alignas(64) T beyond[ROWS];
    for (int k = 0; k < ROWS; ++k) beyond[k] = k < tail ? T(0) : -Limits<T>::infinity;
    for (ptrdiff_t i = 0; i < n; i += ROWS, p += ROWS * ld) {
        const ptrdiff_t n_rows = n - i < ROWS ? n - i : ROWS;
        alignas(64) T rest[ROWS][ROWS], most[ROWS], scale[ROWS];
        AlignedVector<T> each[ROWS];
        for (ptrdiff_t r = n_rows; r < ROWS; ++r) each[r] = AlignedVector<T>{};
        for (ptrdiff_t r = 0; r < n_rows; ++r) {
            const T* row = p + r * ld;
            VectorOf<T> v = load(beyond);
            if (tail) {
                v += load_lanes(row + whole, tail);
                store(rest[r], v);
            }
            for (ptrdiff_t j = 0; j < whole; j += ROWS) v = largest<T>(load(row + j), v);
            each[r] = v;
        }
        store(most, reduce_each<T>(each, largest<T>));
        for (ptrdiff_t r = 0; r < n_rows; ++r) {
            T* row = p + r * ld;
            VectorOf<T> sum{};
            if (tail) {
                sum = exps_below_0<T>(load(rest[r]) - most[r]);
                store(rest[r], sum);
            }
            for (ptrdiff_t j = 0; j < whole; j += ROWS) {
                __builtin_prefetch(row + j + ROWS * ld);    // of the next block
                const VectorOf<T> v = exps_below_0<T>(load(row + j) - most[r]);
                store(row + j, v);
                sum += v;
            }
            each[r] = sum;
        }
        store(scale, T(1) / sums_of<T>(each));
        for (ptrdiff_t r = 0; r < n_rows; ++r) {
            T* row = p + r * ld;
            for (ptrdiff_t j = 0; j < whole; j += ROWS) store(row + j, load(row + j) * scale[r]);
            if (tail) {
                store_lanes(row + whole, load(rest[r]) * scale[r], tail);
            }
        }
    }
}

// loss[i] = weight_i factor log_loss(p of the true class)
template<class T> SKNN_LOOP
void softmax_row_loss(double* __restrict loss, const T* __restrict p, const void* classes,
                      const int64_t* samples, const double* weights, double factor,
                      ptrdiff_t n, ptrdiff_t, ptrdiff_t ld) {
    T values[AT_ONCE];
    for (ptrdiff_t i = 0; i < n; i += AT_ONCE, p += AT_ONCE * ld) {
        const ptrdiff_t rows = n - i < AT_ONCE ? n - i : AT_ONCE;
        for (ptrdiff_t r = 0; r < rows; ++r)
            values[r] = p[r * ld + static_cast<const int32_t*>(classes)[samples[i + r]]];
        map(values, rows, [](T q) { return log_loss(q); });
        for (ptrdiff_t r = 0; r < rows; ++r)
            loss[i + r] = factor * values[r] * (weights ? weights[samples[i + r]] : 1.0);
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

// Vectors of sums of columns that stay in registers.
constexpr int SUMS = 4;

// out = out + sum_i g_i             g (n, m), out (m,)
template<class T> SKNN_FN
void add_rows_at_once(T* __restrict out, const T* __restrict g, ptrdiff_t n, ptrdiff_t m,
                      ptrdiff_t ld) {
    constexpr int STEP = Vector<T>::lanes;
    ptrdiff_t j = 0;
    for (; j + SUMS * STEP <= m; j += SUMS * STEP) {
        VectorOf<T> sum[SUMS];
        for (int v = 0; v < SUMS; ++v) sum[v] = load(out + j + v * STEP);
        for (ptrdiff_t i = 0; i < n; ++i)
            for (int v = 0; v < SUMS; ++v) sum[v] += load(g + i * ld + j + v * STEP);
        for (int v = 0; v < SUMS; ++v) store(out + j + v * STEP, sum[v]);
    }
    for (; j < m; j += STEP) {
        const ptrdiff_t lanes = m - j < STEP ? m - j : STEP;
        VectorOf<T> sum[SUMS] = {load_lanes(out + j, lanes)};
        ptrdiff_t i = 0;
        for (; i + SUMS <= n; i += SUMS)
            for (int v = 0; v < SUMS; ++v) sum[v] += load_lanes(g + (i + v) * ld + j, lanes);
        for (; i < n; ++i) sum[0] += load_lanes(g + i * ld + j, lanes);
        store_lanes(out + j, (sum[0] + sum[1]) + (sum[2] + sum[3]), lanes);
    }
}

template<class T> SKNN_FN
void add_rows(T* __restrict out, const T* __restrict g, ptrdiff_t n, ptrdiff_t m, ptrdiff_t ld) {
    // Wide rows that are not in the first-level cache are read in order, as it is filled.
    const bool in_order = m > SUMS * Vector<T>::lanes && n * m * ptrdiff_t(sizeof(T)) > NEAR;
    const ptrdiff_t step = in_order ? 4 : n;
    for (ptrdiff_t i = 0; i < n; i += step, g += step * ld)
        add_rows_at_once(out, g, n - i < step ? n - i : step, m, ld);
}

// out = sum_i g_i, or added to it   g (n, m), out (m,); sums of some rows are added up in double,
// since what a sum rounds away grows with its rows
template<class T> SKNN_LOOP
void column_sum(T* __restrict out, const T* __restrict g, ptrdiff_t n, ptrdiff_t m,
                ptrdiff_t ld, bool accumulate) {
    constexpr ptrdiff_t ROWS = 512, COLUMNS = 256;
    if (!accumulate)
        for (ptrdiff_t j = 0; j < m; ++j) out[j] = 0;
    if (n <= ROWS) return add_rows(out, g, n, m, ld);
    for (ptrdiff_t j = 0; j < m; j += COLUMNS) {
        const ptrdiff_t columns = m - j < COLUMNS ? m - j : COLUMNS;
        double total[COLUMNS] = {};
        for (ptrdiff_t i = 0; i < n; i += ROWS) {
            T sum[COLUMNS] = {};
            add_rows(sum, g + i * ld + j, n - i < ROWS ? n - i : ROWS, columns, ld);
            for (ptrdiff_t k = 0; k < columns; ++k) total[k] += sum[k];
        }
        for (ptrdiff_t k = 0; k < columns; ++k) out[j + k] = T(out[j + k] + total[k]);
    }
}

// y = x, or y + x                   x, y (n, m)
template<class T> SKNN_LOOP
void copy_rows(T* __restrict y, const T* __restrict x, ptrdiff_t n, ptrdiff_t m, ptrdiff_t ldy,
               ptrdiff_t ldx, bool accumulate) {
    for (ptrdiff_t i = 0; i < n; ++i, y += ldy, x += ldx) {
        if (accumulate) for (ptrdiff_t j = 0; j < m; ++j) y[j] += x[j];
        else for (ptrdiff_t j = 0; j < m; ++j) y[j] = x[j];
    }
}

// y = y + a x                       x, y (m,)
template<class T> SKNN_LOOP
void axpy(T* __restrict y, const T* __restrict x, T a, ptrdiff_t m) {
    for (ptrdiff_t j = 0; j < m; ++j) y[j] += a * x[j];
}

// y = x W                           x (k,), W (k, m), y (m,): as fast as W comes, four rows of
// it at a time
template<class T> SKNN_LOOP
void vector_product(T* __restrict y, const T* __restrict x, const T* __restrict w, ptrdiff_t k,
                    ptrdiff_t m) {
    ptrdiff_t i = k % 4;
    for (ptrdiff_t j = 0; j < m; ++j) y[j] = i > 0 ? x[0] * w[j] : T(0);
    for (ptrdiff_t r = 1; r < i; ++r)
        for (ptrdiff_t j = 0; j < m; ++j) y[j] += x[r] * w[r * m + j];
    for (; i < k; i += 4) {
        const T* __restrict w0 = w + i * m;
        const T* __restrict w1 = w0 + m;
        const T* __restrict w2 = w1 + m;
        const T* __restrict w3 = w2 + m;
        for (ptrdiff_t j = 0; j < m; ++j)
            y[j] += x[i] * w0[j] + x[i + 1] * w1[j] + (x[i + 2] * w2[j] + x[i + 3] * w3[j]);
    }
}

// ---- gather -------------------------------------------------------------------------------

// out_i = scale x_samples[i], cast  out (n, m), x (n_samples, m); fetches the rows x_next[i] of the
// minibatch that follows, which lie anywhere, into the second-level cache if they stay there
template<class From, class T> SKNN_LOOP
void gather(T* __restrict out, const void* x, const int64_t* samples, ptrdiff_t n, ptrdiff_t m,
            double scale, const int64_t* next, ptrdiff_t n_next) {
    const T factor = T(scale);
    const ptrdiff_t row_bytes = m * ptrdiff_t(sizeof(From));
    if (n * row_bytes > NEAR / 2) n_next = 0;
    for (ptrdiff_t i = 0; i < n; ++i, out += m) {
        const From* row = static_cast<const From*>(x) + samples[i] * m;
        for (ptrdiff_t j = 0; j < m; ++j) out[j] = T(row[j]) * factor;
        if (i >= n_next) continue;
        const char* line = static_cast<const char*>(x) + next[i] * row_bytes;
        for (ptrdiff_t byte = 0; byte < row_bytes; byte += LINE)
            __builtin_prefetch(line + byte, 0, 2);
    }
}

template<class T> struct Bits;
template<> struct Bits<float> { using type = int32_t; };
template<> struct Bits<double> { using type = int64_t; };

// Whether |x_j| <= limit for all j, which NaN is not. As integers magnitudes have the same
// order, with infinity and NaN at the top, and so a difference with one beyond is negative.
template<class T> SKNN_LOOP
bool within(const T* x, ptrdiff_t n, T limit) {
    using Integer = typename Bits<T>::type;
    const Integer largest = __builtin_bit_cast(Integer, limit);
    Integer differences = 0;
    for (ptrdiff_t j = 0; j < n; ++j)
        differences |= largest - __builtin_bit_cast(Integer, magnitude(x[j]));
    return differences >= 0;
}

}  // namespace sknn
