// The loops over rows in compressed sparse row format, W (k, m) being indexed by column of x.
#pragma once
#include "elementwise.h"

namespace sknn {

// A minibatch: row i is row samples[i] of X. Indices may repeat and come in any order.
template<class T> struct CsrRows {
    const int64_t* indptr;
    const int32_t* indices;
    const T* data;
    const int64_t* samples;
    ptrdiff_t n;
};

// The rows of W that come next are fetched this many nonzeros ahead, at most this much of each:
// the processor guesses the rest of a long row, but never which row comes next.
constexpr int64_t AHEAD = 8;
constexpr ptrdiff_t FETCHED_BYTES = 1024, CACHE_LINE = 64;

template<class T> SKNN_FN void fetch(const T* row, ptrdiff_t m) {
    ptrdiff_t bytes = m * ptrdiff_t(sizeof(T));
    if (bytes > FETCHED_BYTES) bytes = FETCHED_BYTES;
    for (ptrdiff_t i = 0; i < bytes; i += CACHE_LINE)
        __builtin_prefetch(reinterpret_cast<const char*>(row) + i);
}

// Calls visit(row of the minibatch, column, value) for the nonzeros whose column is in
// [begin, end), having fetched their rows of W.
template<class T, class Visit> SKNN_FN
void for_each_nonzero(const CsrRows<T>& x, const T* w, ptrdiff_t m, int64_t begin, int64_t end,
                      Visit visit) {
    for (ptrdiff_t i = 0; i < x.n; ++i) {
        int64_t first = x.indptr[x.samples[i]], last = x.indptr[x.samples[i] + 1];
        int64_t next_first = 0, next_last = 0;
        if (i + 1 < x.n) {
            next_first = x.indptr[x.samples[i + 1]];
            next_last = x.indptr[x.samples[i + 1] + 1];
            fetch(x.indices + next_first, next_last - next_first);
            fetch(x.data + next_first, next_last - next_first);
        }
        if (i + 2 < x.n) fetch(x.indptr + x.samples[i + 2], 2);
        for (int64_t k = first; k < last; ++k) {
            int64_t ahead = k + AHEAD;
            bool in_row = ahead < last;
            if (!in_row) ahead += next_first - last;
            if (in_row || ahead < next_last) {
                int64_t column = x.indices[ahead];
                if (column >= begin && column < end) fetch(w + column * m, m);
            }
            int64_t column = x.indices[k];
            if (column >= begin && column < end) visit(i, column, x.data[k]);
        }
    }
}

// y = a x W                         y (n, m), W (k, m)
template<class T> SKNN_LOOP
void csr_multiply(T* y, ptrdiff_t ld, CsrRows<T> x, const T* w, int64_t k, ptrdiff_t m, T a) {
    for (ptrdiff_t i = 0; i < x.n; ++i)
        for (ptrdiff_t j = 0; j < m; ++j) y[i * ld + j] = 0;
    for_each_nonzero(x, w, m, 0, k, [=](ptrdiff_t i, int64_t column, T value) {
        axpy(y + i * ld, w + column * m, a * value, m);
    });
}

// y = y + a x; returns what that adds to the sum of the squares of y    x, y (m,)
template<class T> SKNN_LOOP
double axpy_squares(T* __restrict y, const T* __restrict x, T a, ptrdiff_t m) {
    constexpr int LANES = 16;
    ptrdiff_t whole = m / LANES * LANES;
    T sums[LANES] = {};
    for (ptrdiff_t j = 0; j < whole; j += LANES)
        for (int k = 0; k < LANES; ++k) {
            T step = a * x[j + k];
            sums[k] += step * (T(2) * y[j + k] + step);
            y[j + k] += step;
        }
    for (ptrdiff_t j = whole; j < m; ++j) {
        T step = a * x[j];
        sums[0] += step * (T(2) * y[j] + step);
        y[j] += step;
    }
    double total = 0;
    for (int k = 0; k < LANES; ++k) total += sums[k];
    return total;
}

// w = a w; returns the sum of the squares of what is left               w (n,)
template<class T> SKNN_LOOP
double scale(T* w, T a, ptrdiff_t n) {
    constexpr int LANES = 32;
    constexpr ptrdiff_t BLOCK = 4096;     // a float32 sum stays accurate over a block
    double total = 0;
    for (ptrdiff_t begin = 0; begin < n; begin += BLOCK) {
        ptrdiff_t end = begin + BLOCK < n ? begin + BLOCK : n;
        ptrdiff_t whole = begin + (end - begin) / LANES * LANES;
        T squares[LANES] = {};
        for (ptrdiff_t i = begin; i < whole; i += LANES)
            for (int k = 0; k < LANES; ++k) {
                w[i + k] *= a;
                squares[k] += w[i + k] * w[i + k];
            }
        for (ptrdiff_t i = whole; i < end; ++i) {
            w[i] *= a;
            squares[0] += w[i] * w[i];
        }
        for (int k = 0; k < LANES; ++k) total += squares[k];
    }
    return total;
}

// ---- a minibatch by columns ---------------------------------------------------------------

// The nonzeros of each column c are places starts[c] .. starts[c + 1] of rows (which row of the
// minibatch) and values, in the order of the rows.
template<class T> struct Columns {
    int64_t* starts;
    int32_t* rows;
    T* values;
    int64_t* next;      // of linked columns, see link_columns
};

// Sorts the nonzeros of columns begin..end by counting. Those of lower columns keep their
// places free, so that several threads can share rows and values; starts takes
// end - begin + 2 elements from starts[begin] on, and they can not share those.
template<class T> SKNN_LOOP
void group_columns(Columns<T> columns, CsrRows<T> x, int64_t begin, int64_t end) {
    int64_t* counts = columns.starts + begin;
    int64_t lower = 0;
    for (int64_t c = 0; c < end - begin + 2; ++c) counts[c] = 0;
    for (ptrdiff_t i = 0; i < x.n; ++i)
        for (int64_t k = x.indptr[x.samples[i]]; k < x.indptr[x.samples[i] + 1]; ++k) {
            int64_t column = x.indices[k];
            if (column < begin) ++lower;
            else if (column < end) ++counts[column - begin + 2];
        }
    counts[0] = counts[1] = lower;
    for (int64_t c = 2; c < end - begin + 2; ++c) counts[c] += counts[c - 1];
    int64_t* next = counts + 1;           // where the next nonzero of a column goes
    for (ptrdiff_t i = 0; i < x.n; ++i)
        for (int64_t k = x.indptr[x.samples[i]]; k < x.indptr[x.samples[i] + 1]; ++k) {
            int64_t column = x.indices[k];
            if (column < begin || column >= end) continue;
            int64_t place = next[column - begin]++;
            columns.rows[place] = int32_t(i);
            columns.values[place] = x.data[k];
        }
}

// out = x' dy of columns begin..end, or added to it                     out (end - begin, m)
template<class T> SKNN_LOOP
void columns_multiply(T* out, Columns<T> x, int64_t begin, int64_t end, const T* dy,
                      ptrdiff_t ld, ptrdiff_t m, bool accumulate) {
    if (!accumulate)
        for (ptrdiff_t j = 0; j < (end - begin) * m; ++j) out[j] = 0;
    for (int64_t c = begin; c < end; ++c)
        for (int64_t k = x.starts[c]; k < x.starts[c + 1]; ++k)
            axpy(out + (c - begin) * m, dy + x.rows[k] * ld, x.values[k], m);
}

// Links the nonzeros of each column in begin..end to a list, in time that does not depend on the
// number of columns: starts[c] is the place of the first, next[place] that of the one after it,
// and none is -1, as starts are when this begins.
template<class T> SKNN_LOOP
void link_columns(Columns<T> columns, CsrRows<T> x, int64_t begin, int64_t end) {
    int64_t place = 0;      // each nonzero of the minibatch has one, whoever's column it is in
    for (ptrdiff_t i = 0; i < x.n; ++i)
        place += x.indptr[x.samples[i] + 1] - x.indptr[x.samples[i]];
    for (ptrdiff_t i = x.n - 1; i >= 0; --i)
        for (int64_t k = x.indptr[x.samples[i] + 1] - 1; k >= x.indptr[x.samples[i]]; --k) {
            const int64_t column = x.indices[k];
            --place;
            if (column < begin || column >= end) continue;
            columns.rows[place] = int32_t(i);
            columns.values[place] = x.data[k];
            columns.next[place] = columns.starts[column];
            columns.starts[column] = place;
        }
}

// W = W + a x' dy in rows begin..end, touching only those that x has nonzeros for; returns what
// that adds to the sum of the squares of W. What one row of W gets is added up first, in sum: each
// part by itself may be too small for it.                W (k, m), dy (n, m), sum (m,)
template<class T> SKNN_LOOP
double csr_add_product(T* w, int64_t begin, int64_t end, ptrdiff_t m, CsrRows<T> x,
                       Columns<T> columns, const T* dy, ptrdiff_t ld, T a, T* sum) {
    double added = 0;
    link_columns(columns, x, begin, end);
    for_each_nonzero(x, w, m, begin, end, [&](ptrdiff_t i, int64_t column, T value) {
        int64_t place = columns.starts[column];
        if (place < 0) return;      // an earlier row had it
        columns.starts[column] = -1;
        if (columns.next[place] < 0) {
            added += axpy_squares(w + column * m, dy + i * ld, a * value, m);
            return;
        }
        for (ptrdiff_t j = 0; j < m; ++j) sum[j] = 0;
        for (; place >= 0; place = columns.next[place])
            axpy(sum, dy + columns.rows[place] * ld, columns.values[place], m);
        added += axpy_squares(w + column * m, sum, a, m);
    });
    return added;
}

}  // namespace sknn
