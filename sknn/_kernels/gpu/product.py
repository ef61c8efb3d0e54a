"""Products on tensor cores together with what follows them, where a GPU has kernels for that."""

import numpy as np

from sknn._kernels.gpu.hopper import TILE_ROWS
from sknn._kernels.gpu.source import GATES, formula, kernel_name
from sknn._kernels.ops import Opcode

# rows of a minibatch from which on this is faster than a product and an activation's derivative
FEWEST_ROWS = 1024
# ops whose gradient may be made before their activation, and bias gradient of the sums it left
GATED = Opcode.DENSE, Opcode.DENSE_CSR
# elements that 16 bytes are
ALIGNED = 4


def gated_gradient(run, op):
    """dx = (dy W') activation'(x) for the layer before, and sums of its columns.

    Returns
    -------
    done : bool
        False if there is no kernel for that; nothing was launched then.
    """
    before = run.before(op)
    if before is None or before.activation not in GATES or op.x.accumulate:
        return False
    if before.opcode not in GATED or run.n < FEWEST_ROWS:
        return False
    x, dx, dy, weights = (
        run.value(op.x),
        run.gradient(op.x),
        run.gradient(op.y),
        run.parameter(op, 0),
    )
    rounds = run.dtype == np.float32 and run.executor.precision != "float32"
    if not (rounds and run.driver.has_tiles and weights.stride % ALIGNED == 0 == x.columns % 2):
        return False
    blocks = -(-run.n // TILE_ROWS)
    if blocks > run.executor.sum_blocks:  # a minibatch that batch normalization needs as a whole
        return False
    run.n_sums[before.index] = blocks
    run.gated.add(before.index)
    tiles = run.driver.tiles
    run.driver.launch(
        kernel_name("gated_product", formula(before.activation)),
        blocks * -(-x.columns // TILE_ROWS), dx.address, tiles(dy, True), tiles(weights, True),
        tiles(x, False), run.sums(before), run.n, x.columns, dy.columns, dx.stride,
    )  # fmt: skip
    return True
