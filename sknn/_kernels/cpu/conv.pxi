"""CONV: y = activation(x * W + b), and a 2 x 2 maximum of that where ``pool`` is 2.

x (n, height, width, channels); W (kernel_h, kernel_w, channels / groups, filters) is segment 0,
b (filters,) is segment 1; y (n, conv_height, conv_width, filters), or half as high and wide.
"""

# what winograd.h includes, for the build to know
cdef extern from "images.h":
    pass
cdef extern from "conv_tile.h":
    pass
cdef extern from "conv_first.h":
    pass
cdef extern from "conv.h":
    pass

cdef extern from "winograd.h" namespace "sknn" nogil:
    cppclass Conv:
        int64_t height, width, channels, out_height, out_width, filters
        int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w
        int64_t pad_top, pad_left, groups
        bint pool, winograd
        int64_t positions_image
    void conv_forward_of "sknn::convolve_forward"[T](
        const Conv&, const T*, Py_ssize_t, const T*, const T*, T*, Py_ssize_t, uint8_t*,
        Py_ssize_t, bint, T*)
    void conv_backward_of "sknn::convolve_backward"[T](
        const Conv&, T*, Py_ssize_t, const T*, const T*, Py_ssize_t, const uint8_t*, Py_ssize_t,
        bint, T*)
    void conv_gradient_of "sknn::convolve_gradient"[T](
        const Conv&, const T*, Py_ssize_t, T*, const T*, Py_ssize_t, const uint8_t*, Py_ssize_t,
        bint, T*)
    bint winograd_pays[T](const Conv&)
    Py_ssize_t conv_workspace_of "sknn::convolve_workspace"[T](const Conv&)


cdef Conv conv_of(const Op* op) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef Conv s
    s.height, s.width, s.channels = x.height, x.width, x.channels
    s.kernel_h = op.dims[<int>CONV_KERNEL_HEIGHT]
    s.kernel_w = op.dims[<int>CONV_KERNEL_WIDTH]
    s.stride_h = op.dims[<int>CONV_STRIDE_HEIGHT]
    s.stride_w = op.dims[<int>CONV_STRIDE_WIDTH]
    s.dilation_h = op.dims[<int>CONV_DILATION_HEIGHT]
    s.dilation_w = op.dims[<int>CONV_DILATION_WIDTH]
    s.pad_top, s.pad_left = op.dims[<int>CONV_PAD_TOP], op.dims[<int>CONV_PAD_LEFT]
    s.groups = op.dims[<int>CONV_GROUPS]
    s.out_height, s.out_width = op.dims[<int>CONV_HEIGHT], op.dims[<int>CONV_WIDTH]
    s.filters = op.outputs[0].channels
    s.pool = op.dims[<int>CONV_POOL] > 1
    s.positions_image = op.outputs[1].sample_stride
    s.winograd = op.algorithm == WINOGRAD
    return s


cdef void conv_forward(const Op* op, Run* run, floating* values) noexcept nogil:
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef const floating* b = parameters(op, 1, run, values)
    cdef floating* out = rows(y, run, values, run.first_row)
    cdef bint in_tile = op.activation == IDENTITY or op.activation == RELU
    cdef int64_t i
    conv_forward_of(
        conv_of(op), <const floating*>rows(x, run, values, run.first_row), x.sample_stride,
        <const floating*>parameters(op, 0, run, values), b if in_tile else NULL, out,
        y.sample_stride, positions_of(op, run, run.first_row), run.n_rows,
        op.activation == RELU, <floating*>run.workspace)
    if not in_tile:
        for i in range(run.n_rows):
            activation_forward(op.activation, out + i * y.sample_stride, b,
                               pixels(y), y.channels, y.channels)


cdef void conv_backward(const Op* op, Run* run, floating* values) noexcept nogil:
    """dy = dy activation'(y), then dx = dy * flipped W"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef floating* dy = gradient_rows(y, run, values, run.first_row)
    cdef const uint8_t* positions = positions_of(op, run, run.first_row)
    cdef int64_t i
    if positions == NULL:
        gradient_of_sums(op, run, values)
    elif op.activation == RELU:
        for i in range(run.n_rows):
            zero_dead(dy + i * y.sample_stride, positions + i * op.outputs[1].sample_stride,
                      size(y))
    if x.grad_offset >= 0:
        conv_backward_of(
            conv_of(op), gradient_rows(x, run, values, run.first_row), x.sample_stride,
            <const floating*>parameters(op, 0, run, values), <const floating*>dy,
            y.sample_stride, positions, run.n_rows, x.accumulate, <floating*>run.workspace)


cdef void conv_gradient(const Op* op, Run* run, floating* values) noexcept nogil:
    """dW = x' dy, or db = sum of dy"""
    cdef const Operand* x = &op.inputs[0]
    cdef const Operand* y = &op.outputs[0]
    cdef int64_t first = run.gradient_first
    cdef const floating* dy = gradient_rows(y, run, values, first)
    cdef floating* out = <floating*>run.destination
    cdef int64_t i
    if run.segment == 0:
        conv_gradient_of(
            conv_of(op), <const floating*>rows(x, run, values, first), x.sample_stride, out, dy,
            y.sample_stride, positions_of(op, run, first), run.gradient_rows, run.accumulate,
            <floating*>run.workspace)
        return
    if not run.accumulate:
        memset(out, 0, y.channels * sizeof(floating))
    for i in range(run.gradient_rows):
        column_sum(out, dy + i * y.sample_stride, pixels(y), y.channels, y.channels, True)


TABLE.forward32[<int>CONV] = conv_forward[float]
TABLE.forward64[<int>CONV] = conv_forward[double]
TABLE.backward32[<int>CONV] = conv_backward[float]
TABLE.backward64[<int>CONV] = conv_backward[double]
TABLE.gradient32[<int>CONV] = conv_gradient[float]
TABLE.gradient64[<int>CONV] = conv_gradient[double]


def conv_workspace(const unsigned char[::1] op):
    """Elements of either float type that a thread needs for a row of ``CONV``.

    Parameters
    ----------
    op : buffer of one record of OP_DTYPE
    """
    cdef Conv s = conv_of(<const Op*>&op[0])
    return max(conv_workspace_of[float](s), conv_workspace_of[double](s))


def conv_algorithm(const unsigned char[::1] op):
    """The fastest `Algorithm` for a row of ``CONV``."""
    cdef Conv s = conv_of(<const Op*>&op[0])
    return WINOGRAD if winograd_pays[float](s) else DIRECT
