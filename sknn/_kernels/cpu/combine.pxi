"""ADD: y = activation(x + x2); ACTIVATE: the same without x2; COPY: y = x, a part of a wider y.

x, x2 and y have the same shape; of y in COPY, pixels may lie further apart.
"""

cdef extern from "elementwise.h" namespace "sknn" nogil:
    void copy_rows[T](T*, const T*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, bint)


cdef void add_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* x2 = &op.inputs[1]
    cdef int64_t i
    cdef const floating* second = NULL
    for i in range(run.first_row, run.first_row + run.n_rows):
        if x2.arena != NONE:
            second = rows(x2, run, values, i)
        activated_sum(op.activation, rows(&op.outputs[0], run, values, i),
                      rows(x, run, values, i), second, size(x))


cdef void copy_gradient(const Operand* x, const Operand* y, Run* run,
                        floating* values) noexcept nogil:
    """dx = dy, unless it lies there"""
    cdef const floating* dy = gradient_rows(y, run, values, run.first_row)
    cdef floating* dx
    if x.arena == NONE or x.grad_offset < 0:
        return
    dx = gradient_rows(x, run, values, run.first_row)
    if dx != dy:
        copy_rows(dx, dy, run.n_rows, size(y), x.sample_stride, y.sample_stride, x.accumulate)


cdef void add_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    """dy = dy activation'(y), then dx = dy for each x"""
    cdef const Operand* y = &op.outputs[0]
    gradient_of_sums(op, run, values)
    copy_gradient(&op.inputs[0], y, run, values)
    copy_gradient(&op.inputs[1], y, run, values)


cdef void copy_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef int64_t i
    for i in range(run.first_row, run.first_row + run.n_rows):
        copy_rows(rows(y, run, values, i), rows(x, run, values, i), pixels(x), x.channels,
                  y.pixel_stride, x.pixel_stride, False)


cdef void copy_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef int64_t i
    if x.grad_offset < 0:
        return
    for i in range(run.first_row, run.first_row + run.n_rows):
        copy_rows(gradient_rows(x, run, values, i), gradient_rows(y, run, values, i), pixels(x),
                  x.channels, x.pixel_stride, y.pixel_stride, x.accumulate)


TABLE.forward32[<int>ACTIVATE] = TABLE.forward32[<int>ADD] = add_forward[float]
TABLE.forward64[<int>ACTIVATE] = TABLE.forward64[<int>ADD] = add_forward[double]
TABLE.backward32[<int>ACTIVATE] = TABLE.backward32[<int>ADD] = add_backward[float]
TABLE.backward64[<int>ACTIVATE] = TABLE.backward64[<int>ADD] = add_backward[double]
TABLE.forward32[<int>COPY] = copy_forward[float]
TABLE.forward64[<int>COPY] = copy_forward[double]
TABLE.backward32[<int>COPY] = copy_backward[float]
TABLE.backward64[<int>COPY] = copy_backward[double]
