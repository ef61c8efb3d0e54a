"""What DENSE launches where its units are few: kernels that read x once.

Products of so few columns fill no tile of a matrix library, which splits their sums over many
blocks or reads x again for each of a gradient's three uses. These compute in the compute type,
whatever the precision of products.
"""

from sknn._kernels.gpu import kernels
from sknn._kernels.gpu.kernels import (
    ROWS_AT_ONCE,
    SUM_BLOCKS,
    WARP,
    Grid,
    Strips,
    bias_gradient,
    own_activation_gradient,
    sum_columns,
)
from sknn._kernels.gpu.product import GATED
from sknn._kernels.gpu.source import NARROW_UNITS, THREADS, formula, kernel_name
from sknn._kernels.ops import Activation, Opcode, Phase

# of x, whose gradient of the weights each part of the rows has in memory
MOST_INPUTS = 2048
# Blocks that fill a device: two for each multiprocessor of the largest now, and four, the most of
# `narrow_gradient` that a multiprocessor takes
FULL_ONCE, FULL = 264, 528
FEWEST_LANES = 8
# columns of a block of `narrow_gradient`, and rows of a part at least
GRADIENT_LANES, FEWEST_ROWS = 2 * WARP, 4 * ROWS_AT_ONCE


def is_narrow(op):
    """Whether a DENSE op takes these kernels."""
    return op.y.width <= NARROW_UNITS[-1] and op.x.width <= MOST_INPUTS and not op.x.accumulate


def units(op):
    """The number of units that its kernels are made for."""
    return next(n for n in NARROW_UNITS if op.y.width <= n)


def n_sums(op):
    """Besides db's, parts of dW are kept in the same form."""
    return 1 + op.x.width if is_narrow(op) else 1


# ---- y = activation(x W + b) ----------------------------------------------------------------


def rows_shape(n):
    """Of n rows: threads of one, as few as let all fill a device, for then they share weights."""
    lanes = FEWEST_LANES
    while lanes < WARP and n * lanes < FULL_ONCE * THREADS:
        lanes *= 2
    return Grid(min(-(-n * lanes // THREADS), FULL), lanes)


def dense_forward(run, op):
    if not is_narrow(op):
        kernels.dense_forward(run, op)
    elif not is_with_loss(run, op, run.neighbour(op, 1)):
        y, x, shape = run.value(op.y), run.value(op.x), rows_shape(run.n)
        run.driver.launch(
            kernel_name("narrow_dense", units(op), formula(op.activation), run.dtype),
            shape.blocks, y.address, x.address, *parameters(run, op), run.n, x.columns, y.columns,
            y.stride, x.stride, shape.lanes,
        )  # fmt: skip


def parameters(run, op):
    """Addresses of weights and biases."""
    return run.parameter(op, 0).address, run.parameter(op, 1).address


# ---- p = softmax(x W + b), and its loss -----------------------------------------------------


def is_with_loss(run, op, loss):
    """Whether a narrow op's output is made by the softmax behind it."""
    return (
        loss is not None
        and (op.opcode, loss.opcode) == (Opcode.DENSE, Opcode.SOFTMAX_LOG_LOSS)
        and is_narrow(op)
        and op.activation == Activation.IDENTITY
        and bool(loss.phases & run.phase)
        and run.value(op.y) == run.value(loss.x)
    )


def softmax_forward(run, op):
    product = run.neighbour(op, -1)
    if product is None or not is_with_loss(run, product, op):
        kernels.loss_forward(run, op)
        return
    p, x, shape = run.value(op.x), run.value(product.x), rows_shape(run.n)
    run.n_losses = shape.blocks
    run.driver.launch(
        kernel_name("narrow_softmax_log_loss", units(product), run.dtype), shape.blocks,
        p.address, run.gradient(op.x).address, run.losses, x.address, *parameters(run, product),
        run.targets if run.phase == Phase.TRAIN else 0, run.weights, *run.rows, run.n, x.columns,
        p.columns, p.stride, x.stride, shape.lanes, op.attributes[0],
    )  # fmt: skip


# ---- dx = dy W', dW = x' dy, db = sum of dy -------------------------------------------------


def gradient_shape(n, k):
    """Of n rows of k columns; no more parts than `sum_blocks`."""
    strips = -(-k // GRADIENT_LANES)
    groups = THREADS // GRADIENT_LANES
    most = max(1, min(SUM_BLOCKS, FULL * groups // strips))
    rows = max(FEWEST_ROWS, -(-n // most))
    return Strips(GRADIENT_LANES, strips, rows, -(-n // rows))


def dense_backward(run, op):
    """dx, times the derivative of the activation before where it may be, and parts of dW"""
    if not is_narrow(op):
        kernels.dense_backward(run, op)
        return
    own_activation_gradient(run, op)
    before = run.before(op) if op.x.grad_offset >= 0 else None
    if before is not None and before.opcode not in GATED:
        before = None
    x, dy, dx = run.value(op.x), run.gradient(op.y), run.gradient(op.x).address
    parts = run.sums(op, 1) if op.trains[0] else 0
    if dx or parts:
        shape = gradient_shape(run.n, x.columns)
        activation = Activation.IDENTITY if before is None else before.activation
        run.driver.launch(
            kernel_name("narrow_gradient", units(op), formula(activation), run.dtype),
            shape.strips * -(-shape.parts * shape.lanes // THREADS), dx, x.address, dy.address,
            run.parameter(op, 0).address, run.sums(before) if before else 0, parts, run.n,
            x.columns, dy.columns, x.stride, dy.stride, shape.rows,
        )  # fmt: skip
        if before:
            run.gated.add(before.index)
            run.n_sums[before.index] = shape.parts
    run.gradient_ready()


def dense_gradient(run, op):
    """dW and db, or added to what is there if the run says so"""
    if not is_narrow(op):
        kernels.dense_gradient(run, op)
        return
    trains_weights, trains_biases, *_ = op.trains
    if trains_weights:
        out = run.parameter_gradient(op, 0)
        n_parts = gradient_shape(run.n, out.rows).parts
        sum_columns(
            run, out.address, run.sums(op, 1), n_parts, out.rows * out.columns, inner=out.rows
        )
    if trains_biases:
        bias_gradient(run, op)
