"""DENSE_CSR: y = activation(x W + b) for rows x in compressed sparse row format.

x (n, k), W (k, m) is segment 0, b (m,) is segment 1, y (n, m).
"""

cdef extern from "elementwise.h" namespace "sknn" nogil:
    void axpy[T](T*, const T*, T, Py_ssize_t)


cdef void dense_csr_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* y = &op.outputs[0]
    cdef const floating* w = parameters(op, 0, run, values)
    cdef floating* out = rows(y, run, values, run.first_row)
    cdef floating* row
    cdef int64_t i, j, k, sample
    for i in range(run.n_rows):
        row = out + i * y.sample_stride
        sample = run.samples[run.first_row + i]
        for j in range(y.channels):
            row[j] = 0
        for k in range(run.indptr[sample], run.indptr[sample + 1]):
            axpy(row, w + run.indices[k] * <int64_t>y.channels, (<floating*>run.data)[k],
                 y.channels)
    activation_forward(op.activation, out, parameters(op, 1, run, values), run.n_rows,
                       y.channels, y.sample_stride)


cdef void dense_csr_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    """dy = dy activation'(y): sparse rows are an input of the program and have no gradient"""
    cdef const Operand* y = &op.outputs[0]
    activation_backward(op.activation, gradient_rows(y, run, values, run.first_row),
                        rows(y, run, values, run.first_row), run.n_rows, y.channels,
                        y.sample_stride, y.sample_stride)


cdef void dense_csr_gradient(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* y = &op.outputs[0]
    cdef int64_t m = y.channels
    cdef const floating* dy = gradient_rows(y, run, values, run.gradient_first)
    cdef floating* out = <floating*>run.destination
    cdef int64_t i, k, sample
    if run.segment == 1:
        column_sum(out, dy, run.gradient_rows, m, y.sample_stride, run.accumulate)
        return
    if not run.accumulate:
        for i in range((run.end - run.begin) * m):
            out[i] = 0
    for i in range(run.gradient_rows):
        sample = run.samples[run.gradient_first + i]
        for k in range(run.indptr[sample], run.indptr[sample + 1]):
            if run.begin <= run.indices[k] < run.end:
                axpy(out + (run.indices[k] - run.begin) * m, dy + i * y.sample_stride,
                     (<floating*>run.data)[k], m)


TABLE.forward32[<int>DENSE_CSR] = dense_csr_forward[float]
TABLE.forward64[<int>DENSE_CSR] = dense_csr_forward[double]
TABLE.backward32[<int>DENSE_CSR] = dense_csr_backward[float]
TABLE.backward64[<int>DENSE_CSR] = dense_csr_backward[double]
TABLE.gradient32[<int>DENSE_CSR] = dense_csr_gradient[float]
TABLE.gradient64[<int>DENSE_CSR] = dense_csr_gradient[double]
