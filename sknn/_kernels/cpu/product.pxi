"""Matrix products: register tiles where they were measured to be faster, else SciPy's BLAS."""

cdef extern from "tiles.h" namespace "sknn" nogil:
    bint HAVE_TILES
    int64_t SCRATCH_BYTES
    cppclass Factor[T]:
        Factor()
        Factor(const T*, Py_ssize_t, Py_ssize_t)
        const T* data
        Py_ssize_t row, column
    cppclass ProductEpilogue[T]:
        const T* bias
        bint rectify
        const T* gate
        bint is_empty()
    void tiled_product "sknn::product"[T](
        T*, Py_ssize_t, Factor[T], Factor[T], Py_ssize_t, Py_ssize_t, Py_ssize_t, bint,
        const ProductEpilogue[T]&, void*)


TABLE.scratch_bytes = SCRATCH_BYTES if HAVE_TILES else 0

cdef enum:
    LINE = 64   # bytes of a cache line


cdef inline char* on_a_line(char* scratch) noexcept nogil:
    """The next whole cache line: panels that cross lines are read a tenth more slowly."""
    return scratch + (LINE - <size_t>scratch % LINE) % LINE


cdef inline Factor[floating] factor(const floating* data, int64_t row,
                                    int64_t column) noexcept nogil:
    """A factor with these distances between its rows and its columns; one of them is 1."""
    return Factor[floating](data, row, column)


cdef inline void product(
    floating* c, int64_t ldc, Factor[floating] a, Factor[floating] b, int64_t n, int64_t m,
    int64_t k, bint accumulate, const Run* run,
) noexcept nogil:
    """c = a b, or added to it: a (n, k), b (k, m), c (n, m)"""
    cdef ProductEpilogue[floating] none
    product_with(none, c, ldc, a, b, n, m, k, accumulate, run)


cdef inline void product_with(
    const ProductEpilogue[floating]& epilogue, floating* c, int64_t ldc, Factor[floating] a,
    Factor[floating] b, int64_t n, int64_t m, int64_t k, bint accumulate, const Run* run,
) noexcept nogil:
    """The same, and what the epilogue does."""
    if HAVE_TILES:
        tiled_product(c, ldc, a, b, n, m, k, accumulate, epilogue, run.scratch)
        return
    blas_product(c, ldc, a, b, n, m, k, accumulate)
    if epilogue.bias != NULL:
        activation_forward(RELU if epilogue.rectify else IDENTITY, c, epilogue.bias, n, m, ldc)
    if epilogue.gate != NULL:
        activation_backward(RELU, c, epilogue.gate, n, m, ldc, ldc)


cdef void blas_product(
    floating* c, int64_t ldc, Factor[floating] a, Factor[floating] b, int64_t n, int64_t m,
    int64_t k, bint accumulate,
) noexcept nogil:
    """The same by BLAS, which has matrices by columns: c' = b' a'"""
    cdef int n_ = <int>n, m_ = <int>m, k_ = <int>k, ldc_ = <int>ldc
    # of a single row or column the distance to the next says nothing, but BLAS checks it
    cdef int lda = <int>(max(a.row, k) if a.column == 1 else max(a.column, n))
    cdef int ldb = <int>(max(b.row, m) if b.column == 1 else max(b.column, k))
    cdef char* a_as = b"N" if a.column == 1 else b"T"
    cdef char* b_as = b"N" if b.column == 1 else b"T"
    cdef floating one = 1, beta = 1 if accumulate else 0
    if floating is float:
        sgemm(b_as, a_as, &m_, &n_, &k_, &one, <float*>b.data, &ldb, <float*>a.data, &lda,
              &beta, c, &ldc_)
    else:
        dgemm(b_as, a_as, &m_, &n_, &k_, &one, <double*>b.data, &ldb, <double*>a.data, &lda,
              &beta, c, &ldc_)


cdef Factor[floating] factor_of(array, floating* values):
    """A NumPy array as a factor; ``values`` only names the float type."""
    cdef int64_t row = array.strides[0] // array.itemsize
    cdef int64_t column = array.strides[1] // array.itemsize
    cdef const floating* data = <const floating*><size_t>array.ctypes.data
    return factor(data, row, column)


cdef void product_of(c, a, b, bint accumulate, bias, bint rectify, gate, floating* out):
    cdef Run run
    cdef ProductEpilogue[floating] epilogue
    cdef int64_t ldc = c.strides[0] // c.itemsize, n = c.shape[0], m = c.shape[1]
    cdef int64_t k = a.shape[1]
    scratch = bytearray(SCRATCH_BYTES + LINE)
    run.scratch = on_a_line(<char*>scratch)
    epilogue.rectify = rectify
    if bias is not None:
        epilogue.bias = <const floating*><size_t>bias.ctypes.data
    if gate is not None:
        epilogue.gate = <const floating*><size_t>gate.ctypes.data
    product_with(epilogue, out, ldc, factor_of(a, out), factor_of(b, out), n, m, k, accumulate,
                 &run)


def multiply(c, a, b, bint accumulate=False, *, bias=None, bint rectify=False, gate=None):
    """c = a b, or added to it: what every layer calls, for those who test or time it.

    Parameters
    ----------
    c : ndarray of shape (n, m), float32 or float64, C-ordered rows
    a : ndarray of shape (n, k) of the same dtype
    b : ndarray of shape (k, m) of the same dtype
        Of ``a`` and ``b``, rows or columns are contiguous.
    accumulate : bool, default=False
    bias : ndarray of shape (m,), default=None
        Added to each row.
    rectify : bool, default=False
        Whether what is negative becomes zero; with a bias only.
    gate : ndarray of shape (n, m) with the strides of c, default=None
        Where it is zero, so is c.
    """
    if c.itemsize == sizeof(float):
        product_of(c, a, b, accumulate, bias, rectify, gate, <float*><size_t>c.ctypes.data)
    else:
        product_of(c, a, b, accumulate, bias, rectify, gate, <double*><size_t>c.ctypes.data)
