// Steps of optimizers over a slice of the parameters, a vector at a time.
#pragma once
#include "elementwise.h"

namespace sknn {

// Steps of the n parameters from i on, at most a vector, with the gradient g + decay p; adds to the
// sums of their squares.
template<class Step, class T> SKNN_FN
void step_vector(const Step& step, T* __restrict p, const T* __restrict g, T* __restrict slot0,
                 T* __restrict slot1, T decay, ptrdiff_t i, ptrdiff_t n,
                 AlignedVector<T>& squares) {
    AlignedVector<T> value = load_lanes(p + i, n), first{}, second{};
    if constexpr (Step::n_slots > 0) first = load_lanes(slot0 + i, n);
    if constexpr (Step::n_slots > 1) second = load_lanes(slot1 + i, n);
    squares += value * value;
    const AlignedVector<T> gradient = load_lanes(g + i, n) + decay * value;
    if constexpr (Step::n_slots == 0) step(value, gradient);
    else if constexpr (Step::n_slots == 1) step(value, gradient, first);
    else step(value, gradient, first, second);
    store_lanes(p + i, value, n);
    if constexpr (Step::n_slots > 0) store_lanes(slot0 + i, first, n);
    if constexpr (Step::n_slots > 1) store_lanes(slot1 + i, second, n);
}

// One step of all parameters of a slice. Returns the sum of the squared parameters before the step,
// for the penalty in the loss.
template<class Step, class T> SKNN_LOOP
double update(const Step step, T* __restrict p, const T* __restrict g, T* __restrict slot0,
              T* __restrict slot1, T decay, ptrdiff_t n) {
    constexpr ptrdiff_t STEP = Vector<T>::lanes;
    constexpr ptrdiff_t BLOCK = 4096;     // a float32 sum stays accurate over a block
    double total = 0;
    for (ptrdiff_t begin = 0; begin < n; begin += BLOCK) {
        const ptrdiff_t end = begin + BLOCK < n ? begin + BLOCK : n;
        AlignedVector<T> squares{};
        ptrdiff_t i = begin;
        for (; i + STEP <= end; i += STEP)
            step_vector(step, p, g, slot0, slot1, decay, i, STEP, squares);
        if (i < end) step_vector(step, p, g, slot0, slot1, decay, i, end - i, squares);
        for (int k = 0; k < STEP; ++k) total += squares[k];
    }
    return total;
}

}  // namespace sknn
