"""What normalisations launch; the pixels of all images are the rows of one matrix."""

from sknn._kernels.gpu.kernels import (
    WARP,
    activation_gradient,
    block_rows,
    column_sums,
    grid,
    sum_blocks,
)
from sknn._kernels.gpu.source import formula, kernel_name
from sknn._kernels.ops import ALIGN, Activation, Phase

MOST_SUMS = 3  # that a block keeps of a channel

# ---- layer norm: y = activation(gamma z + beta), z = x with mean 0 and variance 1 -----------


def layer_norm_forward(run, op):
    x, y = run.pixels(op.x), run.pixels(op.y)
    shape = grid(y.rows, y.columns, WARP)
    run.driver.launch(
        kernel_name("layer_norm", formula(op.activation), run.dtype), shape.blocks, y.address,
        x.address, run.parameter(op, 0).address, run.parameter(op, 1).address, y.rows,
        y.columns, y.stride, x.stride, shape.lanes, op.attributes[0],
    )  # fmt: skip


def layer_norm_backward(run, op):
    """dy = dy activation'(y), then dx, then dy = dy z"""
    activation_gradient(run, op)
    x, dy = run.pixels(op.x), run.pixel_gradients(op.y)
    dx = run.pixel_gradients(op.x).address
    shape = grid(dy.rows, dy.columns, WARP)
    run.driver.launch(
        kernel_name("layer_norm_gradient", run.dtype), shape.blocks, dx, dy.address, x.address,
        run.parameter(op, 0).address, dy.rows, dy.columns, x.stride, dy.stride, shape.lanes,
        op.attributes[0], int(op.x.accumulate),
    )  # fmt: skip
    run.gradient_ready()


def layer_norm_gradient(run, op):
    """dbeta = sum of dy, dgamma = sum of dy z"""
    column_sums(run, op, 1)
    activation_gradient(run, op, Activation.IDENTITY, place=1)
    column_sums(run, op, 0, place=1)


# ---- batch norm: the same, of a channel over the minibatch ----------------------------------


def batch_norm_workspace(op, n, itemsize):
    """Bytes that n rows need: sums of blocks, in float64."""
    height, width, channels = op.x.shape
    return sum_blocks(n * height * width) * MOST_SUMS * channels * 8


def sum_shape(x):
    """Of sums over blocks: how many threads take a row, rows of a block, and blocks."""
    lanes = grid(x.rows, x.columns).lanes
    rows = block_rows(x.rows, lanes)
    return lanes, rows, -(-x.rows // rows)


def batch_norm_forward(run, op):
    x, y, n_parts = run.pixels(op.x), run.pixels(op.y), 0
    if run.phase == Phase.TRAIN and run.n > 1:
        lanes, rows, n_parts = sum_shape(x)
        run.driver.launch(
            kernel_name("batch_moments", run.dtype), n_parts, run.workspace, x.address,
            run.weights, *run.rows, x.rows, x.columns, x.stride, x.rows // run.n, lanes, rows,
        )  # fmt: skip
    padded = -(-x.columns // ALIGN) * ALIGN
    run.driver.launch(
        kernel_name("finish_moments", run.dtype), -(-x.columns // WARP), run.statistics(op),
        run.state(op), run.workspace, x.address, n_parts, x.columns, padded,
        *op.attributes[:2], int(run.moves_state),
    )  # fmt: skip
    shape = grid(x.rows, x.columns)
    run.driver.launch(
        kernel_name("batch_norm", formula(op.activation), run.dtype), shape.blocks, y.address,
        x.address, run.parameter(op, 0).address, run.parameter(op, 1).address,
        run.statistics(op), x.rows, x.columns, y.stride, x.stride, shape.lanes,
    )  # fmt: skip


def batch_norm_backward(run, op):
    """dy = dy activation'(y), then dgamma = sum of dy z and dbeta = sum of dy, then dx"""
    x, y, dy = run.pixels(op.x), run.pixels(op.y), run.pixel_gradients(op.y)
    lanes, rows, n_parts = sum_shape(x)
    run.driver.launch(
        kernel_name("batch_norm_sums", formula(op.activation), run.dtype), n_parts,
        run.workspace, dy.address, y.address, x.address, run.statistics(op), x.rows, x.columns,
        y.stride, x.stride, lanes, rows,
    )  # fmt: skip
    run.driver.launch(
        kernel_name("finish_sums", run.dtype), -(-x.columns // WARP), run.statistics(op),
        run.parameter_gradient(op, 0).address, run.parameter_gradient(op, 1).address,
        run.workspace, n_parts, x.columns, int(run.accumulate),
    )  # fmt: skip
    if op.x.grad_offset < 0:
        return
    dx, shape = run.pixel_gradients(op.x), grid(x.rows, x.columns)
    run.driver.launch(
        kernel_name("batch_norm_gradient", run.dtype), shape.blocks, dx.address, dy.address,
        x.address, run.parameter(op, 0).address, run.statistics(op), run.weights, *run.rows,
        x.rows, x.columns, dx.stride, dy.stride, x.stride, x.rows // run.n, shape.lanes,
        int(op.x.accumulate),
    )  # fmt: skip
