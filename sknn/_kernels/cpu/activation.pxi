"""Activations: a name and a line for each, and it can be the epilogue of any op."""

cdef extern from "elementwise.h" namespace "sknn" nogil:
    cppclass ActivationLoops[T]:
        void forward(T*, const T*, Py_ssize_t, Py_ssize_t, Py_ssize_t)
        void sum(T*, const T*, const T*, Py_ssize_t)
        void backward(T*, const T*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    ctypedef struct ActivationTable "sknn::Activation":
        ActivationLoops[float] loops32
        ActivationLoops[double] loops64
    ActivationTable activation[F]()
    cppclass Identity
    cppclass Logistic
    cppclass Tanh
    cppclass Relu

cdef ActivationTable ACTIVATIONS[MAX_ACTIVATIONS]
ACTIVATIONS[<int>IDENTITY] = activation[Identity]()
ACTIVATIONS[<int>LOGISTIC] = activation[Logistic]()
ACTIVATIONS[<int>TANH] = activation[Tanh]()
ACTIVATIONS[<int>RELU] = activation[Relu]()


cdef inline void activation_forward(
    int kind, floating* y, const floating* b, Py_ssize_t n, Py_ssize_t m, Py_ssize_t ld,
) noexcept nogil:
    """y = activation(y + b), y (n, m), b (m,)"""
    if floating is float:
        ACTIVATIONS[kind].loops32.forward(y, b, n, m, ld)
    else:
        ACTIVATIONS[kind].loops64.forward(y, b, n, m, ld)


cdef inline void activated_sum(int kind, floating* y, const floating* a, const floating* b,
                               Py_ssize_t n) noexcept nogil:
    """y = activation(a + b), all (n,), or activation(a) where b is NULL"""
    if floating is float:
        ACTIVATIONS[kind].loops32.sum(y, a, b, n)
    else:
        ACTIVATIONS[kind].loops64.sum(y, a, b, n)


cdef inline void activation_backward(
    int kind, floating* g, const floating* y, Py_ssize_t n, Py_ssize_t m,
    Py_ssize_t ldg, Py_ssize_t ldy,
) noexcept nogil:
    """g = g activation'(y), g and y (n, m)"""
    if kind == IDENTITY:
        return
    if floating is float:
        ACTIVATIONS[kind].loops32.backward(g, y, n, m, ldg, ldy)
    else:
        ACTIVATIONS[kind].loops64.backward(g, y, n, m, ldg, ldy)


cdef inline floating* gradient_of_sums(const Op* op, Run* run, floating* values) noexcept nogil:
    """dy = dy activation'(y), unless whoever made dy has done that"""
    cdef const Operand* y = &op.outputs[0]
    cdef floating* dy = gradient_rows(y, run, values, run.first_row)
    if not y.gated:
        activation_backward(op.activation, dy, rows(y, run, values, run.first_row), run.n_rows,
                            size(y), y.sample_stride, y.sample_stride)
    return dy
