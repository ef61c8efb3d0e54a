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


cdef extern from "tiles.h" namespace "sknn" nogil:
    bint HAVE_TILES
    int64_t SCRATCH_BYTES
    cppclass Factor[T]:
        Factor()
        Factor(const T*, Py_ssize_t, Py_ssize_t)
        const T* data
        Py_ssize_t row, column
    void tiled_product "sknn::product"[T](
        T*, Py_ssize_t, Factor[T], Factor[T], Py_ssize_t, Py_ssize_t, Py_ssize_t, bint, void*)


TABLE.scratch_bytes = SCRATCH_BYTES if HAVE_TILES else 0


cdef inline Factor[floating] factor(const floating* data, int64_t row,
                                    int64_t column) noexcept nogil:
    """A factor with these distances between its rows and its columns; one of them is 1."""
    return Factor[floating](data, row, column)


cdef inline void product(
    floating* c, int64_t ldc, Factor[floating] a, Factor[floating] b, int64_t n, int64_t m,
    int64_t k, bint accumulate, const Run* run,
) noexcept nogil:
    """c = a b, or added to it: a (n, k), b (k, m), c (n, m)"""
    if HAVE_TILES:
        tiled_product(c, ldc, a, b, n, m, k, accumulate, run.scratch)
    else:
        blas_product(c, ldc, a, b, n, m, k, accumulate)


cdef void blas_product(
    floating* c, int64_t ldc, Factor[floating] a, Factor[floating] b, int64_t n, int64_t m,
    int64_t k, bint accumulate,
) noexcept nogil:
    """The same by BLAS, which has matrices by columns: c' = b' a'"""
    cdef int n_ = <int>n, m_ = <int>m, k_ = <int>k, ldc_ = <int>ldc
    cdef int lda = <int>(a.row if a.column == 1 else a.column)
    cdef int ldb = <int>(b.row if b.column == 1 else b.column)
    cdef char* a_as = b"N" if a.column == 1 else b"T"
    cdef char* b_as = b"N" if b.column == 1 else b"T"
    cdef floating one = 1, beta = 1 if accumulate else 0
    if floating is float:
        sgemm(b_as, a_as, &m_, &n_, &k_, &one, <float*>b.data, &ldb, <float*>a.data, &lda,
              &beta, c, &ldc_)
    else:
        dgemm(b_as, a_as, &m_, &n_, &k_, &one, <double*>b.data, &ldb, <double*>a.data, &lda,
              &beta, c, &ldc_)
