"""What each op launches: forward, backward and the gradient of its parameters.

A function takes a `Run`, which knows where a step's memory is, and an `Op`. `table.py` says which
opcode has which; `norm.py`, `images.py` and `sparse.py` have more of them.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from sknn._kernels.gpu.product import gated_gradient
from sknn._kernels.gpu.source import THREADS, formula, kernel_name
from sknn._kernels.ops import Activation, Opcode, Phase

# lanes of a row in kernels that shuffle
WARP = 32
# of a loss, and of a gradient's column sums, where each block writes sums
LOSS_BLOCKS = 1024
SUM_BLOCKS = 528
# AT_ONCE of device.h
ROWS_AT_ONCE = 4
# Of a kernel that adds up columns: threads of a row, and blocks to be had, many enough to fill any
# device evenly and so few that their sums are added up at once.
STRIP, FULL_BLOCKS = 64, 2048


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


def block_rows(n, lanes):
    """Rows of a block that adds up columns, of n rows in all."""
    return max(ROWS_AT_ONCE * THREADS // lanes, -(-n // SUM_BLOCKS))


# ---- dense: y = activation(x W + b), x (n, k), W (k, m), b (m,), y (n, m) -------------------


def on_values(run, kernel, op, y, *addresses):
    """An elementwise kernel of an op's activation, over what it writes."""
    shape = grid(y.rows, y.columns)
    run.driver.launch(
        kernel_name(kernel, formula(op.activation), run.dtype), shape.blocks,
        y.address, *addresses, y.rows, y.columns, y.stride, shape.lanes,
    )  # fmt: skip


def dense_forward(run, op):
    activated_product(run, op, run.value(op.y), run.value(op.x), run.parameter(op, 0))


def activated_product(run, op, y, x, weights):
    """y = activation(x W + b)"""
    bias, factors = run.parameter(op, 1).address, (y, x, weights)
    rectified = op.activation == Activation.RELU
    if rectified and run.product(*factors, epilogue=Epilogue.RELU, vector=bias):
        return
    if run.product(*factors, epilogue=Epilogue.BIAS, vector=bias):
        if op.activation != Activation.IDENTITY:
            on_values(run, "activation", op, y)
        return
    run.product(*factors)
    on_values(run, "bias_activation", op, y, bias)


class Strips(NamedTuple):
    """How a kernel that adds up columns is dealt out: in strips of columns and parts of rows."""

    lanes: int
    strips: int
    rows: int  # of a part
    parts: int


def strips(n, m):
    """Of n rows of m columns; no more parts than `sum_blocks`."""
    lanes = grid(n, m, STRIP).lanes
    n_strips = -(-m // lanes)
    most = min(SUM_BLOCKS, -(-FULL_BLOCKS // n_strips))
    rows = max(2 * ROWS_AT_ONCE * THREADS // lanes, -(-n // most))
    return Strips(lanes, n_strips, rows, -(-n // rows))


def activation_gradient(run, op, activation=None, place=0):
    """dy = dy activation'(y), and sums of its columns over parts of the rows"""
    y, dy = run.pixels(op.y), run.pixel_gradients(op.y)
    shape = strips(y.rows, y.columns)
    run.n_sums[op.index] = shape.parts
    activation = op.activation if activation is None else activation
    run.driver.launch(
        kernel_name("activation_gradient", formula(activation), run.dtype),
        shape.parts * shape.strips, dy.address, y.address, run.sums(op, place), y.rows,
        y.columns, y.stride, shape.lanes, shape.rows,
    )  # fmt: skip


def own_activation_gradient(run, op):
    """dy = dy activation'(y), unless there is none or the op behind has done that"""
    if op.activation != Activation.IDENTITY and op.index not in run.gated:
        activation_gradient(run, op)


def column_sums(run, op, segment, place=0):
    """The gradient of a segment, from the sums of blocks."""
    out = run.parameter_gradient(op, segment)
    sum_columns(run, out.address, run.sums(op, place), run.n_sums[op.index], out.columns)


def sum_columns(run, out, parts, n_parts, n_columns, inner=None):
    """A gradient as the sum of parts, or added to what is there if the run says so.

    Parts of a transposed gradient have rows of ``inner`` columns.
    """
    lanes = grid(1, n_columns, WARP).lanes
    run.driver.launch(
        kernel_name("column_sums", run.dtype), -(-n_columns // lanes), out, parts, n_parts,
        n_columns, n_columns if inner is None else inner, lanes, int(run.accumulate),
    )  # fmt: skip


def dense_backward(run, op):
    """dy = dy activation'(y), unless the op behind has done that, then dx = dy W'"""
    own_activation_gradient(run, op)
    run.gradient_ready()
    if op.x.grad_offset >= 0 and not gated_gradient(run, op):
        dx, dy = run.gradient(op.x), run.gradient(op.y)
        run.product(dx, dy, run.parameter(op, 0).T, accumulate=op.x.accumulate)


def bias_gradient(run, op):
    """db = sum of dy; an activation's gradient has summed up parts before"""
    if op.index not in run.n_sums:
        activation_gradient(run, op, Activation.IDENTITY)
    column_sums(run, op, 1)


def dense_gradient(run, op):
    """dW = x' dy, and db = sum of dy; added to what is there if the run says so"""
    trains_weights, trains_biases, *_ = op.trains
    if trains_weights:
        run.product(
            run.parameter_gradient(op, 0), run.value(op.x).T, run.gradient(op.y),
            accumulate=run.accumulate,
        )  # fmt: skip
    if trains_biases:
        bias_gradient(run, op)


# ---- dropout: y = x / (1 - rate) or 0, the same numbers forward and backward ----------------


def drop(run, op, out, x, accumulate):
    """Of the output, or of its gradient."""
    shape = grid(out.rows, -(-out.columns // 4))
    progress, _, step, batch = run.rows
    run.driver.launch(
        kernel_name("dropout", run.dtype), shape.blocks, out.address, x.address, progress, step,
        batch, run.first, out.rows // run.n, op.stream, op.attributes[0], out.rows, out.columns,
        out.stride, x.stride, shape.lanes, int(accumulate),
    )  # fmt: skip


def dropout_forward(run, op):
    """Of whole channels, the pixels of a sample share their numbers."""
    rows = run.pixels if op.dims[0] else run.value
    drop(run, op, rows(op.y), rows(op.x), False)


def dropout_backward(run, op):
    if op.x.grad_offset >= 0:
        rows = run.pixel_gradients if op.dims[0] else run.gradient
        drop(run, op, rows(op.x), rows(op.y), op.x.accumulate)


# ---- add: y = activation(x + x2); activate: y = activation(x) -------------------------------


def add_forward(run, op):
    x, y = run.pixels(op.x), run.pixels(op.y)
    x2 = x._replace(address=0) if op.x2 is None else run.pixels(op.x2)
    shape = grid(y.rows, y.columns)
    run.driver.launch(
        kernel_name("activated_sum", formula(op.activation), run.dtype), shape.blocks,
        y.address, x.address, x2.address, y.rows, y.columns, y.stride, x.stride, x2.stride,
        shape.lanes,
    )  # fmt: skip


def add_backward(run, op):
    """dx = dy activation'(y) for each x"""
    y, dy, dx = run.pixels(op.y), run.pixel_gradients(op.y), run.pixel_gradients(op.x)
    dx2 = dx._replace(address=0) if op.x2 is None else run.pixel_gradients(op.x2)
    shape = grid(y.rows, y.columns)
    run.driver.launch(
        kernel_name("activated_sum_gradient", formula(op.activation), run.dtype), shape.blocks,
        dx.address, dx2.address, dy.address, y.address, y.rows, y.columns, dx.stride, dx2.stride,
        y.stride, shape.lanes, int(op.x.accumulate),
        int(op.x2 is not None and op.x2.accumulate),
    )  # fmt: skip


# ---- copy: y = x, where y may be some channels of a wider value ------------------------------


def copy_rows(run, out, x, accumulate=False):
    """out = x, or added to it"""
    shape = grid(x.rows, x.columns)
    run.driver.launch(
        kernel_name("copy_rows", run.dtype), shape.blocks, out.address, x.address, x.rows,
        x.columns, out.stride, x.stride, shape.lanes, int(accumulate),
    )  # fmt: skip


def copy_forward(run, op):
    copy_rows(run, run.pixels(op.y), run.pixels(op.x))


def copy_backward(run, op):
    if op.x.grad_offset >= 0:
        copy_rows(run, run.pixel_gradients(op.x), run.pixel_gradients(op.y), op.x.accumulate)


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


# ---- what is no op --------------------------------------------------------------------------


def gather(run, dtype, X, scale, n_ring=0):
    """Rows of X, which lies at an address, cast and scaled, as the minibatch.

    With ``n_ring``, X has so many rows, and they are the next ones of the epoch.
    """
    out = run.input
    shape = grid(-(-run.n // ROWS_AT_ONCE), out.columns)
    run.driver.launch(
        kernel_name("gather", dtype, run.dtype), shape.blocks, out.address, X, *run.rows,
        run.n, out.columns, out.stride, shape.lanes, scale, run.first, n_ring,
    )  # fmt: skip


def draw_order(driver, out, rows, order):
    """A `DrawnOrder` of the rows that lie at an address, 0 for none."""
    driver.launch(
        kernel_name("draw_order"), -(-order.n // THREADS), out, rows, order.n, order.seed,
        order.epoch,
    )  # fmt: skip


def weight_sums(driver, out, weights, rows, order, batch):
    """Of each minibatch; weights and the order's rows lie at addresses."""
    driver.launch(
        kernel_name("weight_sums"), -(-len(order) // batch), out, weights, rows, len(order), batch
    )
