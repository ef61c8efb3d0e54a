"""The kernels of one instruction set, called over and over without Python in between.

It includes the package's own source and is built by bench_kernels.py as setup.py builds that.
"""

include "sknn/_kernels/cpu/kernels.pyx"

cdef extern from "elementwise.h" namespace "sknn" nogil:
    void axpy[T](T*, const T*, T, Py_ssize_t)

cdef extern from *:
    """
    // a chain of n multiply-adds, each waiting for the one before
    #if defined(__x86_64__)
    __attribute__((noinline, target("fma")))
    #else
    __attribute__((noinline))
    #endif
    static double sknn_chain(double x, ptrdiff_t n) {
        for (ptrdiff_t i = 0; i < n; ++i) x = __builtin_fma(x, 0.5, 0.25);
        return x;
    }
    """
    double sknn_chain(double, Py_ssize_t) nogil


def multiply_adds(Py_ssize_t n):
    """A chain of n dependent multiply-adds, whose cycles are known."""
    return sknn_chain(1.0, n)


cdef inline Py_ssize_t row_stride(floating[:, :] x) noexcept nogil:
    """Elements from one row to the next; those of a row lie in one piece."""
    return x.strides[0] // sizeof(floating)


def forward(int activation, floating[:, :] y, floating[::1] b, Py_ssize_t repeats):
    """y = activation(y + b)"""
    cdef Py_ssize_t _
    with nogil:
        for _ in range(repeats):
            activation_forward(activation, &y[0, 0], &b[0], y.shape[0], y.shape[1],
                               row_stride(y))


def backward(int activation, floating[:, :] g, floating[:, :] y, Py_ssize_t repeats):
    """g = g activation'(y)"""
    cdef Py_ssize_t _
    with nogil:
        for _ in range(repeats):
            activation_backward(activation, &g[0, 0], &y[0, 0], g.shape[0], g.shape[1],
                                row_stride(g), row_stride(y))


def link(int opcode, floating[:, :] p, Py_ssize_t repeats):
    """p = link(p)"""
    cdef Py_ssize_t _
    with nogil:
        for _ in range(repeats):
            loops_of(opcode, &p[0, 0]).link(&p[0, 0], p.shape[0], p.shape[1], row_stride(p))


def row_loss(int opcode, double[::1] loss, floating[:, :] p, target, int64_t[::1] samples,
             Py_ssize_t repeats):
    """The loss of each row; targets are float rows or int32 classes"""
    cdef const void* y = <const void*><size_t>target.ctypes.data
    cdef Py_ssize_t _
    with nogil:
        for _ in range(repeats):
            loops_of(opcode, &p[0, 0]).row_loss(&loss[0], &p[0, 0], y, &samples[0], NULL, 1.0,
                                                p.shape[0], p.shape[1], row_stride(p))


def loss_gradient(int opcode, floating[:, :] g, floating[:, :] p, target,
                  int64_t[::1] samples, Py_ssize_t repeats):
    """The gradient of each row's loss"""
    cdef const void* y = <const void*><size_t>target.ctypes.data
    cdef Py_ssize_t _
    with nogil:
        for _ in range(repeats):
            loops_of(opcode, &p[0, 0]).gradient(&g[0, 0], &p[0, 0], y, &samples[0], NULL,
                                                g.shape[0], g.shape[1], row_stride(g), row_stride(p))


def take(int element_type, floating[:, ::1] out, x, int64_t[::1] samples, Py_ssize_t repeats):
    """out = rows of x, cast, as many at a time as out has"""
    cdef const void* source = <const void*><size_t>x.ctypes.data
    cdef Py_ssize_t _, j, n = out.shape[0]
    with nogil:
        for _ in range(repeats):
            for j in range(samples.shape[0] // n):
                if floating is float:
                    TABLE.gather32[element_type](&out[0, 0], source, &samples[j * n], n,
                                                 out.shape[1], 1.0, NULL, 0)
                else:
                    TABLE.gather64[element_type](&out[0, 0], source, &samples[j * n], n,
                                                 out.shape[1], 1.0, NULL, 0)


def sum_of_columns(floating[::1] out, floating[:, :] g, Py_ssize_t repeats):
    """out = sum of the rows of g"""
    cdef Py_ssize_t _
    with nogil:
        for _ in range(repeats):
            column_sum(&out[0], <const floating*>&g[0, 0], g.shape[0], g.shape[1],
                       row_stride(g), False)


def add_scaled(floating[::1] y, floating[::1] x, Py_ssize_t repeats):
    """y = y + a x"""
    cdef Py_ssize_t _
    with nogil:
        for _ in range(repeats):
            axpy(&y[0], <const floating*>&x[0], <floating>1e-6, y.shape[0])


def step(int optimizer, coefficients, floating[::1] p, floating[::1] g, floating[:, ::1] slots,
         Py_ssize_t repeats):
    """One step of every parameter, with decay and the sum of squares"""
    cdef Update update
    cdef floating* rows[MAX_SLOTS]
    cdef Py_ssize_t _
    cdef int k
    update.optimizer = optimizer
    update.learning_rate = update.decay = 1e-3
    update.weight_sum = 200
    for k, coefficient in enumerate(coefficients):
        update.coefficients[k] = coefficient
    for k in range(MAX_SLOTS):
        rows[k] = &slots[k, 0] if k < slots.shape[0] else NULL
    with nogil:
        for _ in range(repeats):
            if floating is float:
                TABLE.update32[optimizer](&update, &p[0], &g[0], rows, p.shape[0])
            else:
                TABLE.update64[optimizer](&update, &p[0], &g[0], rows, p.shape[0])


cdef Conv square_conv(dims) except *:
    """dims: height, channels, filters, kernel, stride of a convolution, 'same' and square"""
    cdef Conv s
    s.height, s.channels, s.filters, s.kernel_h, s.stride_h = dims
    s.width, s.kernel_w, s.stride_w = s.height, s.kernel_h, s.stride_h
    s.out_height = s.out_width = -(-dims[0] // dims[4])
    s.pad_top = s.pad_left = max(0, (s.out_height - 1) * s.stride_h + s.kernel_h - s.height) // 2
    s.dilation_h = s.dilation_w = s.groups = 1
    s.pool, s.winograd, s.positions_image = False, False, 0
    return s


def square_conv_workspace(dims):
    """Elements that `convolve` needs."""
    return conv_workspace_of[float](square_conv(dims))


def convolve(str role, dims, float[:, ::1] x, float[::1] w, float[:, ::1] y,
             float[::1] workspace, Py_ssize_t repeats):
    """Direct convolution of images, or one of its gradients: role 'forward', 'dx' or 'dw'"""
    cdef Conv s = square_conv(dims)
    cdef int which = ("forward", "dx", "dw").index(role)
    cdef Py_ssize_t _, n = x.shape[0], x_image = x.shape[1], y_image = y.shape[1]
    with nogil:
        for _ in range(repeats):
            if which == 0:
                conv_forward_of(s, <const float*>&x[0, 0], x_image, <const float*>&w[0],
                                <const float*>NULL, &y[0, 0], y_image, <uint8_t*>NULL, n, True,
                                &workspace[0])
            elif which == 1:
                conv_backward_of(s, &x[0, 0], x_image, <const float*>&w[0],
                                 <const float*>&y[0, 0], y_image, <const uint8_t*>NULL, n, False,
                                 &workspace[0])
            else:
                conv_gradient_of(s, <const float*>&x[0, 0], x_image, &w[0],
                                 <const float*>&y[0, 0], y_image, <const uint8_t*>NULL, n, False,
                                 &workspace[0])
