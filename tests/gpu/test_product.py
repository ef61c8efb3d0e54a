"""Products on tensor cores, simulated, in three orders of threads, against NumPy."""

from itertools import pairwise

import numpy as np
import pytest

from sknn import losses
from sknn._kernels.gpu import product
from sknn._kernels.gpu.executor import Executor
from sknn._kernels.gpu.kernels import SUM_BLOCKS, Matrix
from sknn._kernels.gpu.source import GATES, formula, kernel_name
from sknn.layers import BatchNorm, Dense, sequential

from .. import reference
from .simulated import SimulatedDriver
from .test_kernels import Device, each_order, numbers

pytestmark = pytest.mark.usefixtures("compiler")

# rows, columns, and what is added up: one tile, several that are cut off, one element of each
SHAPES = [(128, 128, 32), (150, 132, 164), (1, 4, 4), (260, 68, 40)]
ROWS, COLUMNS = 128, 128


def rounded(array):
    """The nearest numbers of 11 significant bits, ties away from zero."""
    bits = np.asarray(array, np.float32).view(np.uint32)
    return ((bits + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32)


def run_gated(device, shape, gate=GATES[0], gap=4):
    """What a product, gated, leaves in memory, and what NumPy says."""
    rng, (n, m, k) = np.random.default_rng(0), shape
    a, b, y = (numbers(rng, s, np.float32) for s in ((n, k), (m, k), (n, m)))
    y = getattr(reference, gate.name.lower())(y)[0].astype(np.float32)
    rows = -(-n // ROWS)
    c, c_address, c_gap = device.padded(np.full((n, m), np.nan, np.float32), m + gap)
    sums, sums_address = device.put(np.full((rows, m), np.nan, np.float32))
    tiles = [
        device.driver.tiles(
            Matrix(device.padded(array, array.shape[1] + gap)[1], *array.shape,
                   array.shape[1] + gap), rounds=array is not y,
        )
        for array in (a, b, y)
    ]  # fmt: skip
    device.driver.launch(
        kernel_name("gated_product", formula(gate)), rows * -(-m // COLUMNS), c_address, *tiles,
        sums_address, n, m, k, m + gap,
    )  # fmt: skip
    expected = np.where(y == 0, 0, rounded(a).astype(float) @ rounded(b).astype(float).T)
    device.check(c_gap)
    return c, sums, expected


@each_order
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gated_product(order, shape):
    c, sums, expected = run_gated(Device(order), shape)
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5)
    blocks = np.arange(0, shape[0], ROWS)
    np.testing.assert_allclose(sums, np.add.reduceat(expected, blocks), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [(8, 36, 20, 3), (5, 4, 132, 2, 4), (6, 7, 8, 3)], ids=str)
def test_executor_takes_it(monkeypatch, layers, n=150):
    """With gradients of parameters that are those without it, but for rounded factors."""
    monkeypatch.setattr(product, "FEWEST_ROWS", 1)
    rng = np.random.default_rng(0)
    X, y = numbers(rng, (n, layers[0]), np.float32), rng.integers(0, layers[-1], n, np.int32)
    hidden = [Dense(units, "relu") for units in layers[1:-1]]
    program = sequential(layers[:1], (*hidden, Dense(layers[-1])), losses.SOFTMAX_LOG_LOSS)
    parameters = numbers(rng, program.n_parameters, np.float32) / 3
    gradients, launched = [], []
    for precision in ("float32", "tf32"):
        driver = SimulatedDriver()
        executor = Executor(program, dtype=np.float32, capacity=n, driver=driver,
                            precision=precision)  # fmt: skip
        executor.bind(X, y)
        gradients.append(np.zeros_like(parameters))
        executor.evaluate(parameters, gradients[-1], np.arange(n))
        launched.append([name for name in driver.launched if "gated_product" in name])
    assert not launched[0]
    # other widths are no multiples of what is copied or written at once
    fit = [k % 2 == 0 == m % 4 for k, m in pairwise(layers[1:])]
    assert bool(launched[1]) == any(fit)
    np.testing.assert_allclose(*gradients, atol=2e-3 * np.abs(gradients[0]).max())


@pytest.mark.parametrize("more", [0, 1])
def test_no_more_sums_than_there_is_room_for(more):
    """Batch normalization needs a minibatch as a whole, however many rows it has."""
    layers, n = (BatchNorm(), Dense(36, "relu"), Dense(20), Dense(3)), SUM_BLOCKS * ROWS + more
    program, driver = sequential((4,), layers, losses.SOFTMAX_LOG_LOSS), SimulatedDriver()
    executor = Executor(program, dtype=np.float32, capacity=n, driver=driver, precision="tf32")
    executor.bind(np.zeros((n, 4), np.float32), np.zeros(n, np.int32), state=np.ones(
        program.n_state, np.float32))  # fmt: skip
    executor._begin(np.arange(n), 1, True)
    driver.prepare(lambda: executor._evaluate_steps(1, n, n))
    assert executor.capacity == n
    assert any("gated_product" in name for name in driver.launched) == (more == 0)
