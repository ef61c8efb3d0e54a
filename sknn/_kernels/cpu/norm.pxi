"""BATCH_NORM and LAYER_NORM: y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta).

x and y have the same shape, gamma (c,) is segment 0, beta (c,) segment 1, attributes[0] is
epsilon. The variance is the biased one. BATCH_NORM may add x2 before the activation.

BATCH_NORM takes the statistics of a channel over all pixels of the minibatch, weighted by the
sample weights, and moves running ones towards them by attributes[1]; these take their place in
predictions and in a minibatch of one sample. State: running means, running variances. Each
thread has a block of statistics: the vectors that `Statistic` names.
"""

cdef extern from "norm.h" namespace "sknn" nogil:
    void merge_moments(double&, double*, double*, double, const double*, const double*,
                       Py_ssize_t)
    void add_moments[T](double&, double*, double*, const T*, Py_ssize_t, Py_ssize_t, double,
                        double*, double*)
    void add_gradient_sums[T](double*, double*, T*, const T*, const T*, const T*, const T*,
                              Py_ssize_t, Py_ssize_t)
    void scale_and_shift[T](T*, const T*, const T*, const T*, const T*, Py_ssize_t, Py_ssize_t,
                            bint)
    void batch_norm_gradient[T](T*, const T*, const T*, const T*, const T*, const T*,
                                Py_ssize_t, Py_ssize_t, bint)
    void layer_norm[T](T*, const T*, const T*, Py_ssize_t, Py_ssize_t, T)
    void layer_norm_gradient[T](T*, const T*, const T*, const T*, Py_ssize_t, Py_ssize_t, T, bint)
    void add_gamma_gradient[T](T*, const T*, const T*, Py_ssize_t, Py_ssize_t, T)


cdef inline int64_t padded(const Op* op) noexcept nogil:
    return (op.inputs[0].channels + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


cdef inline double* statistic(const Op* op, const Run* run, int thread, int which) noexcept nogil:
    return (run.statistics + thread * run.statistics_size + op.statistics
            + which * padded(op))


cdef inline bint uses_running(const Run* run) noexcept nogil:
    return run.phase == PREDICT or run.n_batch_rows == 1


cdef void batch_norm_forward_statistics(const Op* op, Run* run, floating* values) noexcept nogil:
    """The moments of this thread's rows so far."""
    cdef const Operand* x = &op.inputs[0]
    cdef double* weight = statistic(op, run, run.thread, WEIGHT)
    cdef double* mean = statistic(op, run, run.thread, MEAN)
    cdef double* deviations = statistic(op, run, run.thread, DEVIATIONS)
    cdef int64_t i
    if not run.continued:
        weight[0] = 0
        memset(mean, 0, x.channels * sizeof(double))
        memset(deviations, 0, x.channels * sizeof(double))
    if uses_running(run):
        return
    for i in range(run.first_row, run.first_row + run.n_rows):
        add_moments(weight[0], mean, deviations, rows(x, run, values, i), pixels(x), x.channels,
                    weight_of_row(run, i), statistic(op, run, run.thread, SCRATCH_1),
                    statistic(op, run, run.thread, SCRATCH_2))


cdef double merge_threads(const Op* op, Run* run, double* mean, double* deviations) noexcept nogil:
    """The moments of all rows, in thread order; their weight."""
    cdef int64_t c = op.inputs[0].channels
    cdef double weight = 0
    cdef int t
    memset(mean, 0, c * sizeof(double))
    memset(deviations, 0, c * sizeof(double))
    for t in range(run.n_threads):
        merge_moments(weight, mean, deviations, statistic(op, run, t, WEIGHT)[0],
                      statistic(op, run, t, MEAN), statistic(op, run, t, DEVIATIONS), c)
    return weight


cdef void find_moments(const Op* op, Run* run, floating* mean, floating* inverse,
                       floating* values) noexcept nogil:
    """Of each channel, for this step; the first rows' thread moves the running ones."""
    cdef double* batch_mean = statistic(op, run, run.thread, SCRATCH_1)
    cdef double* deviations = statistic(op, run, run.thread, SCRATCH_2)
    cdef floating* running_mean = <floating*>run.state + op.state
    cdef floating* running_variance = running_mean + padded(op)
    cdef double momentum = op.attributes[1]
    cdef double weight = 0, variance
    cdef int64_t j
    if not uses_running(run):
        weight = merge_threads(op, run, batch_mean, deviations)
    for j in range(op.inputs[0].channels):
        if weight > 0:
            variance = deviations[j] / weight
            mean[j] = <floating>batch_mean[j]
            if run.update_state and run.first_row == 0:
                running_mean[j] += <floating>(momentum * (batch_mean[j] - running_mean[j]))
                running_variance[j] += <floating>(momentum * (variance - running_variance[j]))
        else:
            variance = running_variance[j]
            mean[j] = running_mean[j]
        inverse[j] = <floating>(1 / sqrt(variance + op.attributes[0]))


cdef void batch_norm_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    """y = activation(x scale + shift + x2): scale = gamma inverse, shift = beta - mean scale"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* x2 = &op.inputs[1]
    cdef const Operand* y = &op.outputs[0]
    cdef const floating* second = NULL
    cdef const floating* gamma = parameters(op, 0, run, values)
    cdef const floating* beta = parameters(op, 1, run, values)
    cdef floating* mean
    cdef floating* inverse
    cdef floating* scale
    cdef floating* shift
    cdef floating* out
    cdef int64_t i, j
    if run.phase == TRAIN:
        mean = <floating*>statistic(op, run, run.thread, BATCH_MEAN)
        inverse = <floating*>statistic(op, run, run.thread, BATCH_INVERSE)
    else:
        mean = <floating*>run.workspace
        inverse = mean + padded(op)
    if not run.continued:
        find_moments(op, run, mean, inverse, values)
    scale = <floating*>run.workspace + 2 * padded(op)
    shift = scale + padded(op)
    for j in range(x.channels):
        scale[j] = gamma[j] * inverse[j]
        shift[j] = beta[j] - mean[j] * scale[j]
    for i in range(run.first_row, run.first_row + run.n_rows):
        if x2.arena != NONE:
            second = rows(x2, run, values, i)
        out = rows(y, run, values, i)
        scale_and_shift(out, rows(x, run, values, i), second, scale, shift, pixels(x),
                        x.channels, op.activation == RELU)
        if op.activation != RELU and op.activation != IDENTITY:
            activated_sum(op.activation, out, out, <const floating*>NULL, size(x))


cdef void batch_norm_backward_statistics(const Op* op, Run* run, floating* values) noexcept nogil:
    """dy = dy activation'(y), then this thread's sums of dy and of dy (x - mean) inverse"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef double* gradient_sum = statistic(op, run, run.thread, GRADIENT_SUM)
    cdef double* product_sum = statistic(op, run, run.thread, PRODUCT_SUM)
    cdef floating* dy
    cdef const floating* out = NULL
    cdef int64_t i
    if not run.continued:
        memset(gradient_sum, 0, x.channels * sizeof(double))
        memset(product_sum, 0, x.channels * sizeof(double))
    for i in range(run.first_row, run.first_row + run.n_rows):
        dy = gradient_rows(y, run, values, i)
        if op.activation == RELU:
            out = rows(y, run, values, i)
        else:
            activation_backward(op.activation, dy, rows(y, run, values, i), 1, size(x), 0, 0)
        add_gradient_sums(gradient_sum, product_sum, dy, out, rows(x, run, values, i),
                          <floating*>statistic(op, run, run.thread, BATCH_MEAN),
                          <floating*>statistic(op, run, run.thread, BATCH_INVERSE), pixels(x),
                          x.channels)


cdef void batch_norm_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    """dx2 = dy, dx = scale (dy - share (sum of dy + z sum of dy z)), z = (x - mean) inverse

    Either may lie where dy does. A sample's share is its weight by that of all pixels; 0 where
    running statistics were used.
    """
    cdef const Operand* x = &op.inputs[0]
    cdef const floating* gamma = parameters(op, 0, run, values)
    cdef floating* mean = <floating*>statistic(op, run, run.thread, BATCH_MEAN)
    cdef floating* inverse = <floating*>statistic(op, run, run.thread, BATCH_INVERSE)
    cdef floating* scale = <floating*>run.workspace
    cdef floating* a = scale + padded(op)
    cdef floating* b = a + padded(op)
    cdef double weight = 0, share, gradient_sum, product_sum
    cdef int64_t i, j
    cdef int t
    copy_gradient(&op.inputs[1], &op.outputs[0], run, values)
    if x.grad_offset < 0:
        return
    for t in range(run.n_threads):
        weight += statistic(op, run, t, WEIGHT)[0]
    for i in range(run.first_row, run.first_row + run.n_rows):
        share = weight_of_row(run, i) / weight if weight > 0 else 0
        if i == run.first_row or run.weights != NULL:
            for j in range(x.channels):
                gradient_sum = product_sum = 0
                for t in range(run.n_threads):
                    gradient_sum += statistic(op, run, t, GRADIENT_SUM)[j]
                    product_sum += statistic(op, run, t, PRODUCT_SUM)[j]
                scale[j] = gamma[j] * inverse[j]
                b[j] = <floating>(share * scale[j] * inverse[j] * product_sum)
                a[j] = <floating>(share * scale[j] * gradient_sum) - b[j] * mean[j]
        batch_norm_gradient(
            gradient_rows(x, run, values, i), gradient_rows(&op.outputs[0], run, values, i),
            rows(x, run, values, i), scale, a, b, pixels(x), x.channels, x.accumulate)


cdef void batch_norm_gradient_of(const Op* op, Run* run, floating* values) noexcept nogil:
    """dgamma = sum of dy z, dbeta = sum of dy: as the threads left them"""
    cdef floating* out = <floating*>run.destination
    cdef double total
    cdef int64_t j
    cdef int t
    if run.begin == run.end:
        return
    for j in range(op.inputs[0].channels):
        total = out[j] if run.accumulate else 0
        for t in range(run.n_threads):
            total += statistic(op, run, t, PRODUCT_SUM if run.segment == 0 else GRADIENT_SUM)[j]
        out[j] = <floating>total


cdef void layer_norm_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef int64_t i
    for i in range(run.first_row, run.first_row + run.n_rows):
        layer_norm(rows(y, run, values, i), rows(x, run, values, i),
                   parameters(op, 0, run, values), pixels(x), x.channels,
                   <floating>op.attributes[0])
        activation_forward(op.activation, rows(y, run, values, i),
                           parameters(op, 1, run, values), pixels(x), x.channels, x.channels)


cdef void layer_norm_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef floating* dy
    cdef int64_t i
    for i in range(run.first_row, run.first_row + run.n_rows):
        dy = gradient_rows(y, run, values, i)
        activation_backward(op.activation, dy, rows(y, run, values, i), pixels(x), x.channels,
                            x.channels, x.channels)
        if x.grad_offset >= 0:
            layer_norm_gradient(
                gradient_rows(x, run, values, i), dy, rows(x, run, values, i),
                parameters(op, 0, run, values), pixels(x), x.channels,
                <floating>op.attributes[0], x.accumulate)


cdef void layer_norm_gradient_of(const Op* op, Run* run, floating* values) noexcept nogil:
    """dgamma = sum of dy z, dbeta = sum of dy"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef floating* out = <floating*>run.destination
    cdef int64_t i
    if run.begin == run.end:
        return
    if not run.accumulate:
        memset(out, 0, x.channels * sizeof(floating))
    for i in range(run.gradient_first, run.gradient_first + run.gradient_rows):
        if run.segment == 0:
            add_gamma_gradient(out, gradient_rows(y, run, values, i), rows(x, run, values, i),
                               pixels(x), x.channels, <floating>op.attributes[0])
        else:
            column_sum(out, gradient_rows(y, run, values, i), pixels(x), x.channels, x.channels,
                       True)


TABLE.forward_statistics32[<int>BATCH_NORM] = batch_norm_forward_statistics[float]
TABLE.forward_statistics64[<int>BATCH_NORM] = batch_norm_forward_statistics[double]
TABLE.forward32[<int>BATCH_NORM] = batch_norm_forward[float]
TABLE.forward64[<int>BATCH_NORM] = batch_norm_forward[double]
TABLE.backward_statistics32[<int>BATCH_NORM] = batch_norm_backward_statistics[float]
TABLE.backward_statistics64[<int>BATCH_NORM] = batch_norm_backward_statistics[double]
TABLE.backward32[<int>BATCH_NORM] = batch_norm_backward[float]
TABLE.backward64[<int>BATCH_NORM] = batch_norm_backward[double]
TABLE.gradient32[<int>BATCH_NORM] = batch_norm_gradient_of[float]
TABLE.gradient64[<int>BATCH_NORM] = batch_norm_gradient_of[double]
TABLE.forward32[<int>LAYER_NORM] = layer_norm_forward[float]
TABLE.forward64[<int>LAYER_NORM] = layer_norm_forward[double]
TABLE.backward32[<int>LAYER_NORM] = layer_norm_backward[float]
TABLE.backward64[<int>LAYER_NORM] = layer_norm_backward[double]
TABLE.gradient32[<int>LAYER_NORM] = layer_norm_gradient_of[float]
TABLE.gradient64[<int>LAYER_NORM] = layer_norm_gradient_of[double]
