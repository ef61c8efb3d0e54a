"""What each op launches: forward, backward and the gradient of its parameters.

A function takes a `Run`, which knows where a step's memory is, and an `Op`. An opcode that is
not in the table has no GPU side.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from sknn._kernels.gpu.source import ELEMENTWISE_LOSSES, THREADS, formula, kernel_name
from sknn._kernels.ops import Activation, Opcode, Phase

# lanes of a row in kernels that shuffle
WARP = 32
# of a loss, and of a gradient's column sums, where each block writes sums
LOSS_BLOCKS = 1024
SUM_BLOCKS = 528
# AT_ONCE of device.h
ROWS_AT_ONCE = 4


class Epilogue(IntEnum):
    """What a matrix product does besides; `Driver.product` may refuse any but NONE.

    In float32, cuBLASLt's other epilogues (masks, gradients, column sums) are further kernels
    behind the product, slower than ours.
    """

    NONE = 0
    BIAS = 1  # add a vector to each row
    RELU = 2  # and rectify


class Matrix(NamedTuple):
    """Where a factor or a result lies: row-major as stored, and whether it is transposed."""

    address: int
    rows: int
    columns: int
    stride: int
    transposed: bool = False

    @property
    def T(self):
        return self._replace(transposed=not self.transposed)


@dataclass(frozen=True)
class Grid:
    """How a kernel over n rows of m elements is dealt out."""

    blocks: int
    lanes: int


def grid(n, m, most_lanes=THREADS, most_blocks=None):
    """A power of two of threads for each row, and enough blocks for the rows."""
    lanes = min(1 << (m - 1).bit_length(), most_lanes)
    blocks = -(-n * lanes // THREADS)
    return Grid(max(1, blocks if most_blocks is None else min(blocks, most_blocks)), lanes)


def sum_blocks(n):
    """Blocks, at most, of which each writes column sums of its share of n rows."""
    return min(-(-n // ROWS_AT_ONCE), SUM_BLOCKS)


# ---- dense: y = activation(x W + b), x (n, k), W (k, m), b (m,), y (n, m) -------------------


def on_values(run, kernel, op, *addresses):
    """An elementwise kernel of an op's activation, over its output."""
    shape = grid(run.n, op.y.width)
    run.driver.launch(
        kernel_name(kernel, formula(op.activation), run.dtype), shape.blocks,
        *addresses, run.n, op.y.width, op.y.stride, shape.lanes,
    )  # fmt: skip


def dense_forward(run, op):
    y, bias = run.value(op.y), run.parameter(op, 1).address
    factors = y, run.value(op.x), run.parameter(op, 0)
    rectified = op.activation == Activation.RELU
    if rectified and run.product(*factors, epilogue=Epilogue.RELU, vector=bias):
        return
    if run.product(*factors, epilogue=Epilogue.BIAS, vector=bias):
        if op.activation != Activation.IDENTITY:
            on_values(run, "activation", op, y.address)
        return
    run.product(*factors)
    on_values(run, "bias_activation", op, y.address, bias)


def activation_gradient(run, op, activation=None, place=0):
    """dy = dy activation'(y), and sums of its columns over each block's rows"""
    m = op.y.width
    lanes = grid(run.n, m).lanes
    block_rows = max(ROWS_AT_ONCE * THREADS // lanes, -(-run.n // SUM_BLOCKS))
    run.n_sums[op.index] = blocks = -(-run.n // block_rows)
    activation = op.activation if activation is None else activation
    run.driver.launch(
        kernel_name("activation_gradient", formula(activation), run.dtype), blocks,
        run.gradient(op.y).address, run.value(op.y).address, run.sums(op, place), run.n, m,
        op.y.stride, lanes, block_rows,
    )  # fmt: skip


def column_sums(run, op, segment, place=0):
    """The gradient of a segment, from the sums of blocks."""
    out = run.parameter_gradient(op, segment)
    run.driver.launch(
        kernel_name("column_sums", run.dtype), -(-out.columns // WARP), out.address,
        run.sums(op, place), run.n_sums[op.index], out.columns, int(run.accumulate),
    )  # fmt: skip


def dense_backward(run, op):
    """dy = dy activation'(y), then dx = dy W'"""
    if op.activation != Activation.IDENTITY:
        activation_gradient(run, op)
    run.gradient_ready()
    if op.x.grad_offset >= 0:
        dx, dy = run.gradient(op.x), run.gradient(op.y)
        run.product(dx, dy, run.parameter(op, 0).T, accumulate=op.x.accumulate)


def dense_gradient(run, op):
    """dW = x' dy, and db = sum of dy; added to what is there if the run says so"""
    if op.activation == Activation.IDENTITY:
        activation_gradient(run, op)
    column_sums(run, op, 1)
    run.product(
        run.parameter_gradient(op, 0), run.value(op.x).T, run.gradient(op.y),
        accumulate=run.accumulate,
    )  # fmt: skip


# ---- layer norm: y = activation(gamma z + beta), z = x with mean 0 and variance 1 -----------


def layer_norm_forward(run, op):
    x, y = run.value(op.x), run.value(op.y)
    shape = grid(run.n, y.columns, WARP)
    run.driver.launch(
        kernel_name("layer_norm", formula(op.activation), run.dtype), shape.blocks, y.address,
        x.address, run.parameter(op, 0).address, run.parameter(op, 1).address, run.n, y.columns,
        y.stride, x.stride, shape.lanes, op.attributes[0],
    )  # fmt: skip


def layer_norm_backward(run, op):
    """dy = dy activation'(y), then dx, then dy = dy z"""
    activation_gradient(run, op)
    x, dy = run.value(op.x), run.gradient(op.y)
    dx = run.gradient(op.x).address if op.x.grad_offset >= 0 else 0
    shape = grid(run.n, dy.columns, WARP)
    run.driver.launch(
        kernel_name("layer_norm_gradient", run.dtype), shape.blocks, dx, dy.address, x.address,
        run.parameter(op, 0).address, run.n, dy.columns, x.stride, dy.stride, shape.lanes,
        op.attributes[0], int(op.x.accumulate),
    )  # fmt: skip
    run.gradient_ready()


def layer_norm_gradient(run, op):
    """dbeta = sum of dy, dgamma = sum of dy z"""
    column_sums(run, op, 1)
    activation_gradient(run, op, Activation.IDENTITY, place=1)
    column_sums(run, op, 0, place=1)


# ---- dropout: y = x / (1 - rate) or 0, the same numbers forward and backward ----------------


def drop(run, op, out, x, accumulate):
    """Of the output, or of its gradient."""
    shape = grid(run.n, -(-out.columns // 4))
    progress, _, step, batch = run.rows
    run.driver.launch(
        kernel_name("dropout", run.dtype), shape.blocks, out.address, x.address, progress, step,
        batch, run.first, op.stream, op.attributes[0], run.n, out.columns, out.stride, x.stride,
        shape.lanes, int(accumulate),
    )  # fmt: skip


def dropout_forward(run, op):
    drop(run, op, run.value(op.y), run.value(op.x), False)


def dropout_backward(run, op):
    if op.x.grad_offset >= 0:
        drop(run, op, run.gradient(op.x), run.gradient(op.y), op.x.accumulate)


# ---- losses: p = link(z) in place; in training also the loss and the gradient ---------------


def loss_forward(run, op):
    z = op.x
    if op.opcode == Opcode.SOFTMAX_LOG_LOSS:
        name, most = kernel_name("softmax_log_loss", run.dtype), WARP
    else:
        name, most = kernel_name("elementwise_loss", formula(op.opcode), run.dtype), THREADS
    shape = grid(run.n, z.width, most, LOSS_BLOCKS)
    targets = run.targets if run.phase == Phase.TRAIN else 0
    run.n_losses = shape.blocks
    run.driver.launch(
        name, shape.blocks, run.value(z).address, run.gradient(z).address, run.losses, targets,
        run.weights, *run.rows, run.n, z.width, z.stride, shape.lanes, op.attributes[0],
    )  # fmt: skip


def loss_backward(run, op):
    """The forward kernel has written the gradient."""


class Kernels(NamedTuple):
    """Of one opcode, by role; the gradient is None if it has no parameters.

    ``n_sums`` says of how many gradients it keeps column sums.
    """

    forward: object
    backward: object
    gradient: object = None
    n_sums: int = 0


TABLE = {
    Opcode.DENSE: Kernels(dense_forward, dense_backward, dense_gradient, 1),
    Opcode.LAYER_NORM: Kernels(layer_norm_forward, layer_norm_backward, layer_norm_gradient, 2),
    Opcode.DROPOUT: Kernels(dropout_forward, dropout_backward),
    **dict.fromkeys(
        (Opcode.SOFTMAX_LOG_LOSS, *ELEMENTWISE_LOSSES), Kernels(loss_forward, loss_backward)
    ),
}


# ---- what is no op --------------------------------------------------------------------------


def gather(run, dtype, X, scale):
    """Rows of X, which lies at an address, cast and scaled, as the minibatch."""
    out = run.input
    shape = grid(-(-run.n // ROWS_AT_ONCE), out.columns)
    run.driver.launch(
        kernel_name("gather", dtype, run.dtype), shape.blocks, out.address, X, *run.rows,
        run.n, out.columns, out.stride, shape.lanes, scale,
    )  # fmt: skip


def copy_rows(run, out, p):
    """The minibatch's predictions, one row after the other."""
    shape = grid(run.n, p.columns)
    run.driver.launch(
        kernel_name("copy_rows", run.dtype), shape.blocks, out, p.address, run.n, p.columns,
        p.stride, shape.lanes,
    )  # fmt: skip
