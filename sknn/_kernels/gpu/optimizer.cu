// Optimizers: one step over the flat vector of parameters, and what ends a graph of steps.
#include "pack.h"

namespace sknn {

// Parameters that are treated alike, up to `end`, a multiple of 4. Frozen ones stay as they are.
struct Range {
    int64_t end;
    double decay;
    int64_t frozen;
};

// What a rule of formulas.h takes out of the coefficients, which optimizers.py explains.
template<class T>
SKNN_DEVICE void prepare(PlainSgd<T>& rule, T rate, T scale, double, double, double) {
    rule.scaled_rate = rate * scale;
}
template<class T>
SKNN_DEVICE void prepare(Sgd<T>& rule, T rate, T scale, double momentum, double nesterov, double) {
    rule.scaled_rate = rate * scale;
    rule.momentum = T(momentum);
    rule.velocity_part = nesterov != 0 ? T(momentum) : T(1);
    rule.gradient_part = nesterov != 0 ? rule.scaled_rate : T(0);
}
template<class T>
SKNN_DEVICE void prepare(Adam<T>& rule, T rate, T scale, double beta_1, double beta_2,
                         double epsilon) {
    rule.learning_rate = rate;
    rule.beta_1 = T(beta_1);
    rule.mean_part = T(1 - beta_1) * scale;
    rule.beta_2 = T(beta_2);
    rule.root_part = root(T(1 - beta_2)) * scale;
    rule.epsilon = T(epsilon);
}

// One step with the gradient g + decay p, times scale; p, g (n,), slots (n_slots, n), n a multiple
// of 4. Each block writes the sum of its squared parameters before the step, times their decay. A
// thread takes four neighbours, which are in one range, and has all that it reads under way before
// it needs any of it.
template<class Rule, class T> __global__
__launch_bounds__(MOST_THREADS, sizeof(T) == 4 ? 5 : 1)
void update(T* __restrict__ p, const T* __restrict__ g, T* __restrict__ slots,
            double* __restrict__ penalties, const Range* __restrict__ ranges,
            const double* __restrict__ rates, const double* __restrict__ scales,
            const Progress* __restrict__ progress, int64_t step, int64_t n, double c0, double c1,
            double c2) {
    constexpr int SLOTS = Rule::n_slots;
    const int64_t own = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    const int64_t i = own < n ? own : 0;
    SKNN_SHARED(double, numbers, 2);    // rate and scale: a chain of loads that few threads wait for
    Range range = ranges[0];
    Pack<T, 4> value = load<4>(p + i), slope = load<4>(g + i), slot[SLOTS + 1];
    #pragma unroll
    for (int s = 0; s < SLOTS; ++s) slot[s] = load<4>(slots + s * n + i);
    if (threadIdx.x < 2)
        numbers[threadIdx.x] = (threadIdx.x ? scales : rates)[progress->first_step + step];
    while (i >= range.end) range = *++ranges;
    __syncthreads();
    Rule rule;
    prepare(rule, T(numbers[0]), T(numbers[1]), c0, c1, c2);
    double squares = 0;
    #pragma unroll
    for (int k = 0; k < 4; ++k) {
        T& v = value[k];
        const T gradient = slope[k] + T(range.decay) * v;
        squares += double(v) * v;
        if constexpr (SLOTS == 0) rule(v, gradient);
        else if constexpr (SLOTS == 1) rule(v, gradient, slot[0][k]);
        else rule(v, gradient, slot[0][k], slot[1][k]);
    }
    const bool moves = own < n && !range.frozen;
    if (moves) {    // no load is to wait for this
        store(p + i, value);
        #pragma unroll
        for (int s = 0; s < SLOTS; ++s) store(slots + s * n + i, slot[s]);
    }
    const double penalty = block_sum(moves ? range.decay * squares : 0.0);
    if (threadIdx.x == 0) penalties[step * gridDim.x + blockIdx.x] = penalty;
}

// After n_steps: add their losses (parts (n_steps, n_parts) of rows and of penalties) times
// scale and number of rows, and let the next graph go on from there. One block.
__global__
void finish_steps(Progress* progress, double* step_losses, const double* losses,
                  int64_t n_losses, const double* penalties, int64_t n_penalties,
                  const double* scales, int64_t n_steps, double n_rows) {
    const int lane = threadIdx.x % WARP, n_warps = blockDim.x / WARP;
    for (int64_t step = threadIdx.x / WARP; step < n_steps; step += n_warps) {
        double total = 0, penalty = 0;
        for (int64_t k = lane; k < n_losses; k += WARP) total += losses[step * n_losses + k];
        for (int64_t k = lane; k < n_penalties; k += WARP)
            penalty += penalties[step * n_penalties + k];
        total = group_sum(total + 0.5 * penalty, WARP);
        if (lane == 0)
            step_losses[step] = total * scales[progress->first_step + step] * n_rows;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int64_t step = 0; step < n_steps; ++step) progress->loss += step_losses[step];
    progress->first_step += n_steps;
}

}  // namespace sknn
