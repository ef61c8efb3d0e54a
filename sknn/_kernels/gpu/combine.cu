// ACTIVATE and ADD: y = F(x) and y = F(x + x2); COPY: y = x, rows that lie apart.
#include "device.h"

namespace sknn {

// y = F(x + x2)                    y, x, x2 (n, m); x2 may be null
template<class F, class T> __global__
void activated_sum(T* y, const T* x, const T* x2, int64_t n, int64_t m, int64_t ldy, int64_t ldx,
                   int64_t ldx2, int64_t lanes) {
    for_elements(n, m, lanes, [=](int64_t i, int64_t j) {
        const T first = x[i * ldx + j];
        y[i * ldy + j] = F::value(x2 ? first + x2[i * ldx2 + j] : first);
    });
}

// dx = g F'(y), or added to it, and the same for dx2; either may be null, both may be one
template<class F, class T> __global__
void activated_sum_gradient(T* dx, T* dx2, const T* g, const T* y, int64_t n, int64_t m,
                            int64_t lddx, int64_t lddx2, int64_t ldy, int64_t lanes,
                            int64_t accumulate, int64_t accumulate2) {
    for_elements(n, m, lanes, [=](int64_t i, int64_t j) {
        const T d = F::gradient(g[i * ldy + j], y[i * ldy + j]);
        if (dx) dx[i * lddx + j] = accumulate ? dx[i * lddx + j] + d : d;
        if (dx2) dx2[i * lddx2 + j] = accumulate2 ? dx2[i * lddx2 + j] + d : d;
    });
}

// out = x, or added to it          out, x (n, m)
template<class T> __global__
void copy_rows(T* out, const T* x, int64_t n, int64_t m, int64_t ld_out, int64_t ld,
               int64_t lanes, int64_t accumulate) {
    for_elements(n, m, lanes, [=](int64_t i, int64_t j) {
        T& to = out[i * ld_out + j];
        to = accumulate ? to + x[i * ld + j] : x[i * ld + j];
    });
}

}  // namespace sknn
