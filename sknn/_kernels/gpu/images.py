"""What the ops of images launch: poolings and convolutions.

The pixels of a minibatch are the rows of one matrix, channels its columns.
"""

import numpy as np

from sknn._kernels.gpu.kernels import grid
from sknn._kernels.gpu.source import kernel_name
from sknn._kernels.ops import Phase, PoolDim

# Windows of windows.h, which kernels take by value
WINDOWS_DTYPE = np.dtype([
    (name, "i8") for name in (
        "height", "width", "channels", "out_height", "out_width", "filters", "kernel_h",
        "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left",
        "groups",
    )
])  # fmt: skip


def on_windows(run, kernel, n, pixels, windows, addresses, strides, *options):
    """A kernel over n images with a thread for each element of the side with these pixels."""
    shape = grid(pixels.rows, pixels.columns)
    run.driver.launch(
        kernel, shape.blocks, *addresses, windows, n, *strides, shape.lanes, *options
    )


# ---- max_pool: y = the largest of each window; average_pool: y = its mean --------------------


def pool_windows(op):
    """The windows of a pooling."""
    d = op.dims
    return np.array(
        (
            *op.x.shape, *op.y.shape, d[PoolDim.POOL_HEIGHT], d[PoolDim.POOL_WIDTH],
            d[PoolDim.POOL_STRIDE_HEIGHT], d[PoolDim.POOL_STRIDE_WIDTH], 1, 1,
            d[PoolDim.POOL_PAD_TOP], d[PoolDim.POOL_PAD_LEFT], 1,
        ),
        WINDOWS_DTYPE,
    )  # fmt: skip


def max_pool_forward(run, op):
    """Keeps where in each window the maximum is, for the backward pass."""
    x, y = run.pixels(op.x), run.pixels(op.y)
    positions = 0 if run.phase == Phase.PREDICT else run.bytes(op.y2)
    on_windows(run, kernel_name("max_pool", run.dtype), run.n, y, pool_windows(op),
               (y.address, positions, x.address), (y.stride, x.stride))  # fmt: skip


def max_pool_backward(run, op):
    pool_backward(run, op, "max_pool_gradient", run.bytes(op.y2))


def average_pool_forward(run, op):
    x, y = run.pixels(op.x), run.pixels(op.y)
    on_windows(run, kernel_name("average_pool", run.dtype), run.n, y, pool_windows(op),
               (y.address, x.address), (y.stride, x.stride))  # fmt: skip


def average_pool_backward(run, op):
    pool_backward(run, op, "average_pool_gradient")


def pool_backward(run, op, kernel, *positions):
    """dx = what the windows that a pixel is in give it of dy"""
    if op.x.grad_offset < 0:
        return
    dx, dy = run.pixel_gradients(op.x), run.pixel_gradients(op.y)
    on_windows(run, kernel_name(kernel, run.dtype), run.n, dx, pool_windows(op),
               (dx.address, dy.address, *positions), (dx.stride, dy.stride),
               int(op.x.accumulate))  # fmt: skip
