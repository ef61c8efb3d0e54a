"""DENSE_CSR: y = activation(x W + b) for rows x in compressed sparse row format.

x (n, k), W (k, m) is segment 0, b (m,) is segment 1, y (n, m). Only rows of W that occur in the
minibatch are read, and only their gradient is made.
"""

cdef extern from "sparse.h" namespace "sknn" nogil:
    cppclass CsrRows[T]:
        const int64_t* indptr
        const int32_t* indices
        const T* data
        const int64_t* samples
        Py_ssize_t n
    cppclass Columns[T]:
        int64_t* starts
        int32_t* rows
        T* values
        int64_t* next
    void csr_multiply[T](T*, Py_ssize_t, CsrRows[T], const T*, int64_t, Py_ssize_t, T)
    double csr_add_product[T](T*, int64_t, int64_t, Py_ssize_t, CsrRows[T], Columns[T],
                              const T*, Py_ssize_t, T, T*)
    void columns_multiply[T](T*, Columns[T], int64_t, int64_t, const T*, Py_ssize_t, Py_ssize_t,
                             bint)
    void group_columns[T](Columns[T], CsrRows[T], int64_t, int64_t)
    double scale_vector "sknn::scale" [T](T*, T, Py_ssize_t)


cdef inline CsrRows[floating] csr_rows(const Run* run, int64_t first, int64_t n,
                                       floating* values) noexcept nogil:
    """Rows first..first + n of the minibatch."""
    cdef CsrRows[floating] x
    x.indptr = run.indptr
    x.indices = run.indices
    x.data = <const floating*>run.data
    x.samples = run.samples + first
    x.n = n
    return x


cdef inline Columns[floating] columns_of(const Run* run, floating* values) noexcept nogil:
    cdef Columns[floating] x
    x.starts = run.column_starts
    x.rows = run.column_rows
    x.values = <floating*>run.column_values
    x.next = run.column_next
    return x


cdef void dense_csr_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* y = &op.outputs[0]
    cdef floating* out = rows(y, run, values, run.first_row)
    cdef double scale = run.scales[op.segments[0]] if run.scales != NULL else 1
    csr_multiply(out, y.sample_stride, csr_rows(run, run.first_row, run.n_rows, values),
                 <const floating*>parameters(op, 0, run, values), op.inputs[0].channels,
                 y.channels, <floating>scale)
    activation_forward(op.activation, out, parameters(op, 1, run, values), run.n_rows,
                       y.channels, y.sample_stride)


cdef void dense_csr_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    """dy = dy activation'(y): sparse rows are an input of the program and have no gradient"""
    gradient_of_sums(op, run, values)


cdef void dense_csr_gradient(const Op* op, Run* run, floating* values) noexcept nogil:
    """As `dense_gradient`; for that of W, the minibatch has been grouped by columns"""
    cdef const Operand* y = &op.outputs[0]
    cdef const floating* dy = gradient_rows(y, run, values, run.gradient_first)
    if run.segment == 1:
        column_sum(<floating*>run.destination, dy, run.gradient_rows, y.channels,
                   y.sample_stride, run.accumulate)
        return
    columns_multiply(<floating*>run.destination, columns_of(run, values), run.begin, run.end, dy,
                     y.sample_stride, y.channels, run.accumulate)


cdef void group_by_columns(Run* run, floating* values) noexcept nogil:
    """Columns begin..end of the minibatch."""
    group_columns(columns_of(run, values),
                  csr_rows(run, run.gradient_first, run.gradient_rows, values),
                  run.begin, run.end)


cdef double dense_csr_descend(const Op* op, Run* run, double rate,
                              floating* values) noexcept nogil:
    """W[begin:end] -= rate x' dy; what that adds to the sum of its squares"""
    cdef const Operand* y = &op.outputs[0]
    return csr_add_product(
        parameters(op, 0, run, values), run.begin, run.end, <Py_ssize_t>y.channels,
        csr_rows(run, run.gradient_first, run.gradient_rows, values), columns_of(run, values),
        <const floating*>gradient_rows(y, run, values, run.gradient_first),
        <Py_ssize_t>y.sample_stride, <floating>-rate, <floating*>run.destination)


cdef double scale(floating* w, double factor, Py_ssize_t n) noexcept nogil:
    return scale_vector(w, <floating>factor, n)


TABLE.forward32[<int>DENSE_CSR] = dense_csr_forward[float]
TABLE.forward64[<int>DENSE_CSR] = dense_csr_forward[double]
TABLE.backward32[<int>DENSE_CSR] = dense_csr_backward[float]
TABLE.backward64[<int>DENSE_CSR] = dense_csr_backward[double]
TABLE.gradient32[<int>DENSE_CSR] = dense_csr_gradient[float]
TABLE.gradient64[<int>DENSE_CSR] = dense_csr_gradient[double]
TABLE.group32 = group_by_columns[float]
TABLE.group64 = group_by_columns[double]
TABLE.descend32 = dense_csr_descend[float]
TABLE.descend64 = dense_csr_descend[double]
TABLE.scale32 = scale[float]
TABLE.scale64 = scale[double]
