"""DENSE: y = activation(x W + b).

x (n, k), W (k, m) is segment 0, b (m,) is segment 1, y (n, m).
"""

cdef extern from "elementwise.h" namespace "sknn" nogil:
    void column_sum[T](T*, const T*, Py_ssize_t, Py_ssize_t, Py_ssize_t, bint)
    void vector_product[T](T*, const T*, const T*, Py_ssize_t, Py_ssize_t)


# Rows that a layer takes at once where its activation is a pass of its own, which then finds them
# in the first-level cache; more weights than this would be packed anew for each such block.
cdef enum:
    BLOCK_ROWS = 56
    BLOCK_WEIGHTS = 4096


cdef void dense_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef bint few = run.n_rows <= FEW_ROWS
    cdef bint fused = not few and (op.activation == IDENTITY or op.activation == RELU)
    cdef bint whole = fused or <int64_t>x.channels * y.channels > BLOCK_WEIGHTS
    cdef int64_t step = run.n_rows if whole else BLOCK_ROWS
    cdef int64_t end = run.first_row + run.n_rows
    cdef int64_t first = run.first_row
    cdef const floating* w = parameters(op, 0, run, values)
    cdef const floating* b = parameters(op, 1, run, values)
    cdef int64_t n, i
    cdef floating* out
    cdef ProductEpilogue[floating] epilogue
    if fused:
        epilogue.bias = b
        epilogue.rectify = op.activation == RELU
    while first < end:
        n = min(step, end - first)
        out = rows(y, run, values, first)
        if few:
            for i in range(n):
                vector_product(out + i * y.sample_stride, rows(x, run, values, first + i), w,
                               x.channels, y.channels)
        else:
            product_with(
                epilogue, out, y.sample_stride,
                factor(rows(x, run, values, first), x.sample_stride, 1),
                factor(w, y.channels, 1), n, y.channels, x.channels, False, run)
        if not fused:
            activation_forward(op.activation, out, b, n, y.channels, y.sample_stride)
        first += n


cdef void dense_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    """dy = dy activation'(y), then dx = dy W'"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef floating* dy = gradient_of_sums(op, run, values)
    cdef ProductEpilogue[floating] epilogue
    if x.grad_offset >= 0:
        if x.gated:
            epilogue.gate = rows(x, run, values, run.first_row)
        product_with(
            epilogue, gradient_rows(x, run, values, run.first_row), x.sample_stride,
            factor(dy, y.sample_stride, 1),
            factor(parameters(op, 0, run, values), 1, y.channels),
            run.n_rows, x.channels, y.channels, x.accumulate, run)


cdef void dense_gradient(const Op* op, Run* run, floating* values) noexcept nogil:
    """dW[begin:end] = x[:, begin:end]' dy, or db = sum of dy"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef const floating* dy = gradient_rows(y, run, values, run.gradient_first)
    if run.segment == 1:
        column_sum(<floating*>run.destination, dy, run.gradient_rows, y.channels,
                   y.sample_stride, run.accumulate)
        return
    product(
        <floating*>run.destination, y.channels,
        factor(rows(x, run, values, run.gradient_first) + run.begin, 1, x.sample_stride),
        factor(dy, y.sample_stride, 1),
        run.end - run.begin, y.channels, run.gradient_rows, run.accumulate, run)


TABLE.forward32[<int>DENSE] = dense_forward[float]
TABLE.forward64[<int>DENSE] = dense_forward[double]
TABLE.backward32[<int>DENSE] = dense_backward[float]
TABLE.backward64[<int>DENSE] = dense_backward[double]
TABLE.gradient32[<int>DENSE] = dense_gradient[float]
TABLE.gradient64[<int>DENSE] = dense_gradient[double]
