"""From operands to pointers."""


cdef inline floating* rows(const Operand* x, const Run* run, floating* values,
                           int64_t first) noexcept nogil:
    """Row ``first`` of the minibatch of an operand."""
    if x.arena == INPUT:
        return <floating*>run.input + first * x.sample_stride
    return values + x.offset * run.capacity + x.start + first * x.sample_stride


cdef inline floating* gradient_rows(const Operand* x, const Run* run, floating* values,
                                    int64_t first) noexcept nogil:
    """The same of its gradient; ``values`` only names the float type."""
    return (<floating*>run.gradients + x.grad_offset * run.capacity + x.start
            + first * x.sample_stride)


cdef inline floating* parameters(const Op* op, int index, const Run* run,
                                 floating* values) noexcept nogil:
    return <floating*>run.parameters + op.parameters[index]


cdef inline void multiply(
    char* transpose_a, char* transpose_b, int64_t m, int64_t n, int64_t k,
    const floating* a, int64_t lda, const floating* b, int64_t ldb,
    bint accumulate, floating* c, int64_t ldc,
) noexcept nogil:
    """c (m, n) = a b, all by columns, as BLAS has it: of row-major matrices, pass c = b' a'."""
    cdef int m_ = <int>m, n_ = <int>n, k_ = <int>k
    cdef int lda_ = <int>lda, ldb_ = <int>ldb, ldc_ = <int>ldc
    cdef floating one = 1, beta = 1 if accumulate else 0
    if floating is float:
        sgemm(transpose_a, transpose_b, &m_, &n_, &k_, &one, <float*>a, &lda_, <float*>b,
              &ldb_, &beta, c, &ldc_)
    else:
        dgemm(transpose_a, transpose_b, &m_, &n_, &k_, &one, <double*>a, &lda_, <double*>b,
              &ldb_, &beta, c, &ldc_)
