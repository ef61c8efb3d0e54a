"""Rows of X, wherever the minibatch takes them from, as rows of the compute type."""

cdef extern from "elementwise.h" namespace "sknn" nogil:
    void gather[From, T](T*, const void*, const int64_t*, Py_ssize_t, Py_ssize_t, double,
                         const int64_t*, Py_ssize_t)
    cpp_bool within[T](const T*, Py_ssize_t, T)

TABLE.gather32[<int>FLOAT32] = gather[float, float]
TABLE.gather64[<int>FLOAT32] = gather[float, double]
TABLE.gather32[<int>FLOAT64] = gather[double, float]
TABLE.gather64[<int>FLOAT64] = gather[double, double]
TABLE.gather32[<int>UINT8] = gather[uint8_t, float]
TABLE.gather64[<int>UINT8] = gather[uint8_t, double]

TABLE.within32 = within[float]
TABLE.within64 = within[double]
