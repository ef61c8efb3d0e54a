"""DROPOUT: y = x / (1 - rate) where a random number says so, else 0.

attributes[0] is the rate. dims[0]: 1 drops whole channels, with one number for all pixels. The
random numbers are those of (seed, step, stream) and of the place in the minibatch, and so the
same on any number of threads; each sample begins a block of four.
"""

cdef extern from "dropout.h" namespace "sknn" nogil:
    void dropout[T](T*, const T*, Py_ssize_t, Py_ssize_t, double, uint64_t, uint64_t, uint32_t,
                    uint64_t, bint)


cdef inline void drop(const Op* op, Run* run, floating* out, const floating* x, int64_t row,
                      bint accumulate) noexcept nogil:
    """One sample, or the gradient of one."""
    cdef const Operand* operand = &op.inputs[0]
    cdef int64_t n = pixels(operand) if op.dims[0] else 1
    cdef int64_t m = operand.channels if op.dims[0] else size(operand)
    dropout(out, x, n, m, op.attributes[0], run.seed, run.step, op.stream,
            row * ((m + 3) // 4), accumulate)


cdef void dropout_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef int64_t i
    for i in range(run.first_row, run.first_row + run.n_rows):
        drop(op, run, rows(&op.outputs[0], run, values, i), rows(&op.inputs[0], run, values, i),
             i, False)


cdef void dropout_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef int64_t i
    if x.grad_offset < 0:
        return
    for i in range(run.first_row, run.first_row + run.n_rows):
        drop(op, run, gradient_rows(x, run, values, i),
             gradient_rows(&op.outputs[0], run, values, i), i, x.accumulate)


TABLE.forward32[<int>DROPOUT] = dropout_forward[float]
TABLE.forward64[<int>DROPOUT] = dropout_forward[double]
TABLE.backward32[<int>DROPOUT] = dropout_backward[float]
TABLE.backward64[<int>DROPOUT] = dropout_backward[double]
