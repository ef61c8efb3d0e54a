"""What normalisations launch; the pixels of all images are the rows of one matrix."""

from typing import NamedTuple

from sknn._kernels.gpu.kernels import (
    ROWS_AT_ONCE,
    SUM_BLOCKS,
    WARP,
    activation_gradient,
    column_sums,
    grid,
    sum_blocks,
)
from sknn._kernels.gpu.source import THREADS, formula, kernel_name, packed, packed_name
from sknn._kernels.ops import ALIGN, Activation, Phase

MOST_SUMS = 3  # that a block keeps of a channel
# blocks of what adds nothing up: more, so that none is waited for
MOST_BLOCKS = 4 * SUM_BLOCKS
FINISHED = 8  # of norm.cu: columns of a block that adds up what blocks have summed

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


class Deal(NamedTuple):
    """Channels that a thread takes at a time, threads of a row, rows of a block, and blocks."""

    pack: int
    lanes: int
    rows: int
    blocks: int


def deal(run, op, most_blocks, matrices):
    """How a kernel that goes through these matrices is dealt out."""
    n, channels = matrices[0].rows, matrices[0].columns
    addresses = [m.address for m in matrices]
    addresses += [run.statistics(op), *(run.parameter(op, i).address for i in range(2))]
    pack = packed(run.dtype, channels, addresses, [m.stride for m in matrices])
    lanes = grid(n, channels // pack).lanes
    rows = max(ROWS_AT_ONCE * THREADS // lanes, -(-n // most_blocks))
    return Deal(pack, lanes, rows, -(-n // rows))


def batch_norm_forward(run, op):
    x, y, n_parts = run.pixels(op.x), run.pixels(op.y), 0
    if run.phase == Phase.TRAIN and run.n > 1:
        shape = deal(run, op, SUM_BLOCKS, (x,))
        n_parts = shape.blocks
        run.driver.launch(
            packed_name("batch_moments", run.dtype, shape.pack), n_parts, run.workspace,
            x.address, run.weights, *run.rows, x.rows, x.columns, x.stride, x.rows // run.n,
            shape.lanes, shape.rows,
        )  # fmt: skip
    padded = -(-x.columns // ALIGN) * ALIGN
    run.driver.launch(
        kernel_name("finish_moments", run.dtype), -(-x.columns // FINISHED), run.statistics(op),
        run.state(op), run.workspace, x.address, n_parts, x.columns, padded,
        *op.attributes[:2], int(run.moves_state),
    )  # fmt: skip
    shape = deal(run, op, MOST_BLOCKS, (x, y))
    run.driver.launch(
        packed_name("batch_norm", run.dtype, shape.pack, op.activation), shape.blocks,
        y.address, x.address, run.parameter(op, 0).address, run.parameter(op, 1).address,
        run.statistics(op), x.rows, x.columns, y.stride, x.stride, shape.lanes, shape.rows,
    )  # fmt: skip


def batch_norm_backward(run, op):
    """dy = dy activation'(y), then dgamma = sum of dy z and dbeta = sum of dy, then dx"""
    x, y, dy = run.pixels(op.x), run.pixels(op.y), run.pixel_gradients(op.y)
    shape = deal(run, op, SUM_BLOCKS, (dy, y, x))
    run.driver.launch(
        packed_name("batch_norm_sums", run.dtype, shape.pack, op.activation), shape.blocks,
        run.workspace, dy.address, y.address, x.address, run.statistics(op), x.rows, x.columns,
        y.stride, x.stride, shape.lanes, shape.rows,
    )  # fmt: skip
    run.driver.launch(
        kernel_name("finish_sums", run.dtype), -(-x.columns // FINISHED), run.statistics(op),
        run.parameter_gradient(op, 0).address, run.parameter_gradient(op, 1).address,
        run.workspace, shape.blocks, x.columns, int(run.accumulate),
    )  # fmt: skip
    if op.x.grad_offset < 0:
        return
    dx = run.pixel_gradients(op.x)
    shape = deal(run, op, MOST_BLOCKS, (dx, dy, x))
    run.driver.launch(
        packed_name("batch_norm_gradient", run.dtype, shape.pack), shape.blocks, dx.address,
        dy.address, x.address, run.parameter(op, 0).address, run.statistics(op), run.weights,
        *run.rows, x.rows, x.columns, dx.stride, dy.stride, x.stride, x.rows // run.n,
        shape.lanes, shape.rows, int(op.x.accumulate),
    )  # fmt: skip
