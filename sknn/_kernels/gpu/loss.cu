// Losses: an output z (n, m) becomes the prediction p = link(z) in place. In training, when
// there are targets, the same kernel writes the gradient with respect to z, and each block the
// sum of its rows' losses.
#include "device.h"

namespace sknn {

// p = softmax(p); g = weight_i (p - 1 at the true class)       p, g (n, m)
template<class T> __global__
void softmax_log_loss(T* p, T* g, double* losses, const int32_t* classes, const double* weights,
                      const Progress* progress, const int64_t* order, int64_t step,
                      int64_t batch, int64_t n, int64_t m, int64_t ld, int64_t lanes,
                      double factor) {
    const Rows rows(progress, order, step, batch);
    const int width = int(lanes), n_groups = blockDim.x / width, lane = threadIdx.x & (width - 1);
    double loss = 0;
    for (int64_t first = int64_t(blockIdx.x) * n_groups; first < n;
         first += int64_t(gridDim.x) * n_groups) {
        const int64_t own = first + threadIdx.x / width;
        const bool active = own < n;        // the others go along, for the shuffles
        const int64_t i = active ? own : n - 1;
        const int64_t end = active ? m : 0;
        T* z = p + i * ld;
        T largest = -Limits<T>::infinity, sum = 0;
        for (int64_t j = lane; j < end; j += width) largest = z[j] > largest ? z[j] : largest;
        largest = group_max(largest, width);
        for (int64_t j = lane; j < end; j += width) {
            z[j] = exp(z[j] - largest);
            sum += z[j];
        }
        const T scale = T(1) / group_sum(sum, width);
        if (!classes) {
            for (int64_t j = lane; j < end; j += width) z[j] *= scale;
            continue;
        }
        const int64_t sample = rows[i], true_class = classes[sample];
        const double weight = weights ? weights[sample] : 1.0;
        for (int64_t j = lane; j < end; j += width) {
            const T q = z[j] *= scale;
            if (j == true_class) loss += factor * log_loss(q) * weight;
            g[i * ld + j] = q * T(weight) - (j == true_class ? T(weight) : T(0));
        }
    }
    if (!classes) return;
    loss = block_sum(loss);
    if (threadIdx.x == 0) losses[step * gridDim.x + blockIdx.x] = loss;
}

// p = L::link(p); g = weight_i L::gradient(y_ij, p_ij)         p, g (n, m), y (n_samples, m)
template<class L, class T> __global__
void elementwise_loss(T* p, T* g, double* losses, const T* y, const double* weights,
                      const Progress* progress, const int64_t* order, int64_t step,
                      int64_t batch, int64_t n, int64_t m, int64_t ld, int64_t lanes,
                      double factor) {
    const Rows rows(progress, order, step, batch);
    double loss = 0;
    for_elements(n, m, lanes, [&](int64_t i, int64_t j) {
        const T q = p[i * ld + j] = L::link(p[i * ld + j]);
        if (!y) return;
        const int64_t sample = rows[i];
        const double weight = weights ? weights[sample] : 1.0;
        const T target = y[sample * m + j];
        loss += factor * L::value(target, q) * weight;
        g[i * ld + j] = L::gradient(target, q) * T(weight);
    });
    if (!y) return;
    loss = block_sum(loss);
    if (threadIdx.x == 0) losses[step * gridDim.x + blockIdx.x] = loss;
}

}  // namespace sknn
