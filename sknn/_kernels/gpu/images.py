"""What the ops of images launch: poolings and convolutions.

The pixels of a minibatch are the rows of one matrix, channels its columns.
"""

from dataclasses import replace

import numpy as np

from sknn._kernels.gpu.kernels import (
    SUM_BLOCKS,
    Matrix,
    activated_product,
    activation_gradient,
    bias_gradient,
    grid,
    own_activation_gradient,
    sum_columns,
)
from sknn._kernels.gpu.source import (
    PACK_BYTES,
    THREADS,
    formula,
    kernel_name,
    packed,
    packed_name,
)
from sknn._kernels.ops import Activation, ConvDim, Opcode, Phase, PoolDim

# elements of the columns of a convolution that are in memory at once
COLUMN_ELEMENTS = 1 << 25
# images of a part of a minibatch, and elements of a row of columns, are multiples of these, so
# that products find everything at the addresses that they like
PART_ALIGN, COLUMN_ALIGN = 4, 8

# Convolutions are made without columns where what a window sees is no multiple of a pack, of so
# few numbers, and for so few filters, that columns would cost more than the arithmetic.
MOST_SEEN, MOST_FILTERS = 80, 64
# STRIP, TILE and LINES_BYTES of conv.cu; packs of strips of a band; and shares of the bands that
# each have a gradient of the weights
STRIP, TILE, LINES_BYTES = 4, 7, 32 << 10
BAND_ITEMS, BAND_SHARES = 512, 396

# Divisor, Deal and Windows of windows.h and Bands of conv.cu, which kernels take by value
DIVISOR_DTYPE = np.dtype([(name, "u4") for name in ("number", "multiplier", "shift")])
DEAL_DTYPE = np.dtype([(name, DIVISOR_DTYPE) for name in ("packs", "width", "height")])
WINDOWS_DTYPE = np.dtype([
    *((name, "i4") for name in (
        "height", "width", "channels", "out_height", "out_width", "filters", "kernel_h",
        "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left",
        "groups",
    )),
    ("by_stride_h", DIVISOR_DTYPE), ("by_stride_w", DIVISOR_DTYPE),
])  # fmt: skip
BANDS_DTYPE = np.dtype([
    *((name, "i4") for name in ("lines", "of_image", "x_lines", "line_size")),
    ("channels", DIVISOR_DTYPE), ("out_width", DIVISOR_DTYPE),
])  # fmt: skip


def divisor(n):
    """How kernels divide by n: a multiplication and a shift."""
    shift = (n - 1).bit_length()
    return n, ((1 << 32) * ((1 << shift) - n) // n) + 1, shift


def windows_of(*numbers):
    """A record of the windows with these numbers, as WINDOWS_DTYPE names them."""
    strides = numbers[8:10]
    return np.array((*numbers, *map(divisor, strides)), WINDOWS_DTYPE)


def deal_of(shape, pack):
    """How images of this shape are dealt out by packs of so many channels."""
    height, width, channels = shape
    return np.array(tuple(map(divisor, (channels // pack, width, height))), DEAL_DTYPE)


def on_windows(run, kernel, n, shape, windows, addresses, strides, *options):
    """A kernel over n images with a thread for each pack of what has this shape."""
    pack = packed(run.dtype, shape[2], addresses, strides)
    launch_dealt(run, packed_name(kernel, run.dtype, pack), n, shape, pack, windows, addresses,
                 strides, *options)  # fmt: skip


def launch_dealt(run, name, n, shape, pack, windows, addresses, strides, *options):
    """A kernel by name."""
    height, width, channels = shape
    blocks = -(-n * height * width * (channels // pack) // THREADS)
    run.driver.launch(
        name, blocks, *addresses, windows, n, *strides, deal_of(shape, pack), *options
    )


# ---- max_pool: y = the largest of each window; average_pool: y = its mean --------------------


def pool_windows(op):
    """The windows of a pooling."""
    d = op.dims
    return windows_of(
        *op.x.shape, *op.y.shape, d[PoolDim.POOL_HEIGHT], d[PoolDim.POOL_WIDTH],
        d[PoolDim.POOL_STRIDE_HEIGHT], d[PoolDim.POOL_STRIDE_WIDTH], 1, 1,
        d[PoolDim.POOL_PAD_TOP], d[PoolDim.POOL_PAD_LEFT], 1,
    )  # fmt: skip


def max_pool_forward(run, op):
    """Keeps where in each window the maximum is, for the backward pass."""
    x, y = run.pixels(op.x), run.pixels(op.y)
    positions = 0 if run.phase == Phase.PREDICT else run.bytes(op.y2)
    on_windows(run, "max_pool", run.n, op.y.shape, pool_windows(op),
               (y.address, positions, x.address), (y.stride, x.stride))  # fmt: skip


def max_pool_backward(run, op):
    """If a convolution is before, its activation's derivative is taken of the maxima alone

    It is the same there, and elsewhere the gradient is 0; so are the sums of columns.
    """
    before = run.before(op)
    if op.x.grad_offset >= 0 and before is not None and before.opcode == Opcode.CONV:
        if before.activation != Activation.IDENTITY:
            activation_gradient(run, replace(before, y=op.y))
            run.gated.add(before.index)
    pool_backward(run, op, "max_pool_gradient", run.bytes(op.y2))


def average_pool_forward(run, op):
    x, y = run.pixels(op.x), run.pixels(op.y)
    on_windows(run, "average_pool", run.n, op.y.shape, pool_windows(op),
               (y.address, x.address), (y.stride, x.stride))  # fmt: skip


def average_pool_backward(run, op):
    pool_backward(run, op, "average_pool_gradient")


def pool_backward(run, op, kernel, *positions):
    """dx = what the windows that a pixel is in give it of dy"""
    if op.x.grad_offset < 0:
        return
    dx, dy = run.pixel_gradients(op.x), run.pixel_gradients(op.y)
    on_windows(run, kernel, run.n, op.x.shape, pool_windows(op),
               (dx.address, dy.address, *positions), (dx.stride, dy.stride),
               int(op.x.accumulate))  # fmt: skip


# ---- conv: y = activation(x * W + b) --------------------------------------------------------


def conv_windows(op):
    """The windows of a convolution."""
    return windows_of(*op.x.shape, *op.y.shape, *op.dims[: ConvDim.CONV_GROUPS + 1])


def is_grouped(op):
    return op.dims[ConvDim.CONV_GROUPS] > 1


def is_pointwise(op):
    """Whether each output pixel sees one pixel, so that x itself is its columns."""
    d = op.dims
    single = d[ConvDim.CONV_KERNEL_HEIGHT] == d[ConvDim.CONV_KERNEL_WIDTH] == 1
    return single and not is_grouped(op) and op.x.shape[:2] == op.y.shape[:2]


def bands(windows, lines):
    """A record of bands of so many lines."""
    w = {name: int(windows[name]) for name in WINDOWS_DTYPE.names if "by" not in name}
    columns = -(-w["out_width"] // STRIP) * STRIP
    reach_h, reach_w = ((w["kernel_" + k] - 1) * w["dilation_" + k] + 1 for k in "hw")
    return np.array(
        (
            lines, -(-w["out_height"] // lines), (lines - 1) * w["stride_h"] + reach_h,
            ((columns - 1) * w["stride_w"] + reach_w) * w["channels"],
            divisor(w["channels"]), divisor(w["out_width"]),
        ),
        BANDS_DTYPE,
    )  # fmt: skip


def bands_of(op, itemsize):
    """How a convolution without columns is dealt out; None if not even a line of y can be."""
    windows, (height, width, filters) = conv_windows(op), op.y.shape
    items = -(-width // STRIP) * -(-filters // (PACK_BYTES // itemsize))
    lines = min(height, -(-BAND_ITEMS // items))
    while lines > 0:
        found = bands(windows, lines)
        if found["x_lines"] * found["line_size"] * itemsize <= LINES_BYTES:
            return found
        lines //= 2
    return None


def is_direct(op, itemsize):
    """Whether it is made without columns."""
    channels, filters = op.x.shape[2], op.y.shape[2]
    few = column_size(op)[0] <= MOST_SEEN and filters <= MOST_FILTERS
    if not few or channels % (PACK_BYTES // itemsize) == 0 or is_grouped(op) or is_pointwise(op):
        return False
    return bands_of(op, itemsize) is not None


def band_shares(op, n, itemsize):
    """Bands of n images that a share of a gradient has, and shares."""
    n_bands = n * int(bands_of(op, itemsize)["of_image"])
    each = -(-n_bands // BAND_SHARES)
    return each, -(-n_bands // each)


def column_size(op):
    """What a window sees, and elements from one row of columns to the next."""
    taps = op.dims[ConvDim.CONV_KERNEL_HEIGHT] * op.dims[ConvDim.CONV_KERNEL_WIDTH]
    size = taps * op.x.shape[2]
    return size, -(-size // COLUMN_ALIGN) * COLUMN_ALIGN


def weight_shares(op, n):
    """Parts of n images' output pixels that each have a gradient of grouped weights."""
    n_rows = column_size(op)[0] // op.dims[ConvDim.CONV_GROUPS]
    return min(max(1, 4 * SUM_BLOCKS // n_rows), n * op.y.shape[0] * op.y.shape[1])


def images_at_once(op):
    """Whose columns are in memory."""
    image = op.y.shape[0] * op.y.shape[1] * column_size(op)[1]
    return max(1, COLUMN_ELEMENTS // image // PART_ALIGN) * PART_ALIGN


def conv_workspace(op, n, itemsize):
    """Bytes that n images need: columns of some, or shares of a gradient."""
    if is_pointwise(op):
        return 0
    size, stride = column_size(op)
    height, width, filters = op.y.shape
    if is_grouped(op):
        return weight_shares(op, n) * size // op.dims[ConvDim.CONV_GROUPS] * filters * itemsize
    columns = min(n, images_at_once(op)) * height * width * stride * itemsize
    if is_direct(op, itemsize):
        _, n_shares = band_shares(op, n, itemsize)
        return max(n_shares * size * filters * itemsize, columns * (op.x.grad_offset >= 0))
    return columns


def parts(run, op):
    """(first, number) of the images that are convolved one after the other."""
    most = run.n if is_pointwise(op) else images_at_once(op)
    return [(first, min(most, run.n - first)) for first in range(0, run.n, most)]


def images_of(run, matrix, part):
    """The pixels of some images."""
    pixels, (first, n) = matrix.rows // run.n, part
    address = matrix.address + first * pixels * matrix.stride * run.dtype.itemsize
    return matrix._replace(address=address, rows=n * pixels)


def columns_of(run, op, part):
    """Where the columns of some images lie; x itself where it is its own."""
    size, stride = column_size(op)
    height, width, _ = op.y.shape
    if is_pointwise(op):
        return run.pixels(op.x)
    return Matrix(run.workspace, part[1] * height * width, size, stride)


def make_columns(run, op, part):
    """Columns with what the windows of some images see."""
    columns = columns_of(run, op, part)
    if not is_pointwise(op):
        x = images_of(run, run.pixels(op.x), part)
        shape = (*op.y.shape[:2], x.columns)  # pixels of y, each with all channels of x
        on_windows(run, "im2col", part[1], shape, conv_windows(op),
                   (columns.address, x.address), (columns.stride, x.stride))  # fmt: skip
    return columns


def conv_forward(run, op):
    x, y, weights = run.pixels(op.x), run.pixels(op.y), run.parameter(op, 0)
    if is_grouped(op):
        kernel = kernel_name("grouped_conv", formula(op.activation), run.dtype)
        launch_dealt(run, kernel, run.n, op.y.shape, 1, conv_windows(op),
                     (y.address, x.address, weights.address, run.parameter(op, 1).address),
                     (y.stride, x.stride))  # fmt: skip
        return
    if is_direct(op, run.dtype.itemsize):
        direct_forward(run, op)
        return
    for part in parts(run, op):
        columns = make_columns(run, op, part)
        activated_product(run, op, images_of(run, y, part), columns, weights)


def conv_backward(run, op):
    """dy = dy activation'(y), then dW = columns' dy and dx, the sum of dy W' over its columns

    The op behind may have made the first. The workspace holds the columns of one part after the
    other, and so dW is made here.
    """
    own_activation_gradient(run, op)
    run.gradient_ready()
    if is_grouped(op):
        grouped_backward(run, op)
        return
    accumulates, direct = run.accumulate, is_direct(op, run.dtype.itemsize)
    if direct and op.trains[0]:
        direct_gradient(run, op)
    if direct and op.x.grad_offset < 0:
        return
    for part in parts(run, op):
        dy = images_of(run, run.pixel_gradients(op.y), part)
        if op.trains[0] and not direct:
            columns = make_columns(run, op, part)
            run.product(run.parameter_gradient(op, 0), columns.T, dy, accumulate=accumulates)
            accumulates = True
        if op.x.grad_offset >= 0:
            input_gradient(run, op, part, dy)


def input_gradient(run, op, part, dy):
    """dx of some images."""
    dx, weights = images_of(run, run.pixel_gradients(op.x), part), run.parameter(op, 0)
    if is_pointwise(op):
        run.product(dx, dy, weights.T, accumulate=op.x.accumulate)
        return
    columns = columns_of(run, op, part)
    run.product(columns, dy, weights.T)
    on_windows(run, "col2im", part[1], op.x.shape, conv_windows(op),
               (dx.address, columns.address), (dx.stride, columns.stride),
               int(op.x.accumulate))  # fmt: skip


def direct_forward(run, op):
    """y without columns"""
    x, y, weights, bias = (
        run.pixels(op.x), run.pixels(op.y), run.parameter(op, 0), run.parameter(op, 1)
    )  # fmt: skip
    dealt = bands_of(op, run.dtype.itemsize)
    pack = packed(run.dtype, y.columns, (y.address, weights.address, bias.address), (y.stride,))
    run.driver.launch(
        packed_name("direct_conv", run.dtype, pack, op.activation),
        run.n * int(dealt["of_image"]), y.address, x.address, weights.address, bias.address,
        conv_windows(op), y.stride, x.stride, dealt,
    )  # fmt: skip


def direct_gradient(run, op):
    """dW without columns, by shares of the bands"""
    x, dy, gradient = run.pixels(op.x), run.pixel_gradients(op.y), run.parameter_gradient(op, 0)
    each, n_shares = band_shares(op, run.n, run.dtype.itemsize)
    pack = packed(run.dtype, dy.columns, (dy.address,), (dy.stride,))
    n_tiles = -(-gradient.rows // TILE) * (dy.columns // pack)
    run.driver.launch(
        packed_name("direct_weight_gradient", run.dtype, pack), n_shares * -(-n_tiles // THREADS),
        run.workspace, x.address, dy.address, conv_windows(op), run.n, x.stride, dy.stride,
        bands_of(op, run.dtype.itemsize), each,
    )  # fmt: skip
    sum_columns(run, gradient.address, run.workspace, n_shares, gradient.rows * gradient.columns)


def grouped_backward(run, op):
    """dW by shares of the output pixels, and dx"""
    x, dx, dy = run.pixels(op.x), run.pixel_gradients(op.x), run.pixel_gradients(op.y)
    windows, weights, gradient = conv_windows(op), run.parameter(op, 0), run.parameter_gradient
    if op.trains[0]:
        share_rows = -(-dy.rows // weight_shares(op, run.n))
        n_shares, lanes = -(-dy.rows // share_rows), grid(1, dy.columns).lanes
        run.driver.launch(
            kernel_name("grouped_weight_gradient", run.dtype), n_shares * weights.rows,
            run.workspace, x.address, dy.address, windows, run.n, x.stride, dy.stride, lanes,
            share_rows,
        )  # fmt: skip
        sum_columns(run, gradient(op, 0).address, run.workspace, n_shares,
                    weights.rows * weights.columns)  # fmt: skip
    if op.x.grad_offset >= 0:
        launch_dealt(run, kernel_name("grouped_conv_gradient", run.dtype), run.n, op.x.shape, 1,
                     windows, (dx.address, dy.address, weights.address), (dx.stride, dy.stride),
                     int(op.x.accumulate))  # fmt: skip


def conv_gradient(run, op):
    """db = sum of dy; backward has made dW"""
    if op.trains[1]:
        bias_gradient(run, op)
