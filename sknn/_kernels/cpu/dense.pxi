"""DENSE: y = activation(x W + b).

x (n, k), W (k, m) is segment 0, b (m,) is segment 1, y (n, m).
"""

cdef extern from "elementwise.h" namespace "sknn" nogil:
    void column_sum[T](T*, const T*, Py_ssize_t, Py_ssize_t, Py_ssize_t, bint)


cdef void dense_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef floating* out = rows(y, run, values, run.first_row)
    multiply(
        b"N", b"N", y.channels, run.n_rows, x.channels,
        parameters(op, 0, run, values), y.channels,
        rows(x, run, values, run.first_row), x.sample_stride,
        False, out, y.sample_stride)
    activation_forward(op.activation, out, parameters(op, 1, run, values), run.n_rows,
                       y.channels, y.sample_stride)


cdef void dense_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    """dy = dy activation'(y), then dx = dy W'"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef floating* dy = gradient_rows(y, run, values, run.first_row)
    activation_backward(op.activation, dy, rows(y, run, values, run.first_row), run.n_rows,
                        y.channels, y.sample_stride, y.sample_stride)
    if x.grad_offset >= 0:
        multiply(
            b"T", b"N", x.channels, run.n_rows, y.channels,
            parameters(op, 0, run, values), y.channels, dy, y.sample_stride,
            x.accumulate, gradient_rows(x, run, values, run.first_row), x.sample_stride)


cdef void dense_gradient(const Op* op, Run* run, floating* values) noexcept nogil:
    """dW[begin:end] = x[:, begin:end]' dy, or db = sum of dy"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef const floating* dy = gradient_rows(y, run, values, run.gradient_first)
    if run.segment == 1:
        column_sum(<floating*>run.destination, dy, run.gradient_rows, y.channels,
                   y.sample_stride, run.accumulate)
        return
    multiply(
        b"N", b"T", y.channels, run.end - run.begin, run.gradient_rows, dy, y.sample_stride,
        rows(x, run, values, run.gradient_first) + run.begin, x.sample_stride,
        run.accumulate, <floating*>run.destination, y.channels)


TABLE.forward32[<int>DENSE] = dense_forward[float]
TABLE.forward64[<int>DENSE] = dense_forward[double]
TABLE.backward32[<int>DENSE] = dense_backward[float]
TABLE.backward64[<int>DENSE] = dense_backward[double]
TABLE.gradient32[<int>DENSE] = dense_gradient[float]
TABLE.gradient64[<int>DENSE] = dense_gradient[double]
