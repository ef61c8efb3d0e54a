"""Each kernel on the CPU, in three orders of threads, against NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest

from sknn import optimizers, schedules
from sknn._kernels.cpu import variant
from sknn._kernels.gpu import kernels
from sknn._kernels.gpu.epoch import PROGRESS_DTYPE, RANGE_DTYPE
from sknn._kernels.gpu.source import (
    C_TYPES,
    ELEMENTWISE_LOSSES,
    PLAIN_SGD,
    THREADS,
    formula,
    kernel_name,
    rule_name,
)
from sknn._kernels.ops import Activation, Opcode, Optimizer

from .. import reference
from .simulated import ORDERS, SimulatedDriver

pytestmark = pytest.mark.usefixtures("compiler")
cpu_kernels = variant.load("kernels")
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
SHAPES = [(1, 1), (3, 2), (9, 5), (70, 33), (5, 300), (300, 16)]

each_order = pytest.mark.parametrize("order", ORDERS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")


class Device:
    """A simulated device with arrays on it."""

    def __init__(self, order, **options):
        self.driver = SimulatedDriver(order, **options)
        self.arrays = []

    def put(self, array):
        """An array between guards, and its address."""
        memory = self.driver.allocate(array.nbytes).view(array.dtype).reshape(array.shape)
        memory[...] = array
        self.arrays.append(memory)
        return memory, memory.ctypes.data

    def padded(self, array, stride):
        """Rows ``stride`` apart, with NaN between them; the rows and their address."""
        n, m = array.shape
        whole, address = self.put(np.full((n, stride), np.nan, array.dtype))
        whole[:, :m] = array
        return whole[:, :m], address, whole[:, m:]

    def check(self, *paddings):
        self.driver.check()
        for padding in paddings:
            assert np.isnan(padding).all(), "written between rows"

    def rows(self, n, n_samples, rng):
        """Progress, order, step and batch of a minibatch that is not the first, and its rows."""
        progress = np.zeros(1, PROGRESS_DTYPE)
        progress["first_step"] = 2
        order = rng.integers(0, n_samples, 4 * n)
        return (self.put(progress)[1], self.put(order)[1], 1, n), order[3 * n : 4 * n]


def numbers(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize("activation", Activation, ids=lambda a: a.name.lower())
def test_activation(order, dtype, shape, activation):
    rng, (n, m) = np.random.default_rng(0), shape
    device, of = Device(order), getattr(reference, activation.name.lower())
    x, bias = numbers(rng, shape, dtype), numbers(rng, m, dtype)
    grid = kernels.grid(n, m)
    for name, with_bias in (("bias_activation", True), ("activation", False)):
        y, address, gap = device.padded(x, m + 3)
        vector = [device.put(bias)[1]] if with_bias else []
        device.driver.launch(
            kernel_name(name, formula(activation), dtype), grid.blocks, address, *vector, n, m,
            m + 3, grid.lanes,
        )  # fmt: skip
        expected = of(x.astype(float) + bias * with_bias)[0]
        np.testing.assert_allclose(y, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        device.check(gap)


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize("activation", Activation, ids=lambda a: a.name.lower())
def test_activation_gradient_and_column_sums(order, dtype, shape, activation):
    rng, (n, m) = np.random.default_rng(0), shape
    device, of = Device(order), getattr(reference, activation.name.lower())
    x = numbers(rng, shape, dtype)
    y, slope = of(x)
    g, g_address, gap = device.padded(numbers(rng, shape, dtype), m + 1)
    before = g.astype(float)
    y_address = device.padded(y.astype(dtype), m + 1)[1]
    shape = kernels.strips(n, m)
    parts, parts_address = device.put(np.full((shape.parts, m), np.nan, dtype))
    device.driver.launch(
        kernel_name("activation_gradient", formula(activation), dtype),
        shape.parts * shape.strips, g_address, y_address, parts_address, n, m, m + 1,
        shape.lanes, shape.rows,
    )  # fmt: skip
    expected = before * slope
    options = {"rtol": 10 * TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
    np.testing.assert_allclose(g, expected, **options)
    np.testing.assert_allclose(parts.sum(axis=0), expected.sum(axis=0), **options)
    device.check(gap)


@each_order
@each_dtype
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (600, 1, 3), (16, 1, 16), (33, 7, 11), (300, 10, 30)], ids=str
)
def test_column_sums(order, dtype, shape):
    """Of matrices, which parts hold transposed."""
    rng, (n, rows, columns) = np.random.default_rng(0), shape
    device, m = Device(order), rows * columns
    parts, parts_address = device.put(numbers(rng, (n, columns, rows), dtype))
    options = {"rtol": 10 * TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
    for accumulate in (False, True):
        start = numbers(rng, (rows, columns), dtype)
        out, address = device.put(start if accumulate else np.full_like(start, np.nan))
        run = SimpleNamespace(driver=device.driver, dtype=dtype, accumulate=accumulate)
        kernels.sum_columns(run, address, parts_address, n, m, rows)
        wanted = parts.astype(float).sum(axis=0).T + (start if accumulate else 0)
        np.testing.assert_allclose(out, wanted, **options)
    device.check()


def check_strips(shape_of, m):
    """They take all rows and columns, in no more parts than there is room for."""
    for n in (1, 3, 64, 1000, 1024, 65536, 800_000):
        shape = shape_of(n, m)
        assert shape.lanes * (shape.strips - 1) < m <= shape.lanes * shape.strips
        assert shape.rows * (shape.parts - 1) < n <= shape.rows * shape.parts
        assert shape.parts <= kernels.sum_blocks(n)


@pytest.mark.parametrize("m", [1, 10, 32, 100, 512, 5000])
def test_strips(m):
    check_strips(kernels.strips, m)


@each_order
@each_dtype
@pytest.mark.parametrize("source_dtype", C_TYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (33, 20), (6, 300)])
def test_gather(order, dtype, source_dtype, shape):
    rng, (n, m) = np.random.default_rng(0), shape
    device = Device(order)
    X = rng.integers(0, 200, (50, m)).astype(source_dtype)
    place, rows = device.rows(n, 50, rng)
    out, address, gap = device.padded(np.full(shape, np.nan, dtype), m + 2)
    grid = kernels.grid(-(-n // kernels.ROWS_AT_ONCE), m)
    device.driver.launch(
        kernel_name("gather", source_dtype, dtype), grid.blocks, address, device.put(X)[1],
        *place, n, m, m + 2, grid.lanes, 0.5, 0, 0,
    )  # fmt: skip
    np.testing.assert_array_equal(out, X[rows].astype(dtype) * 0.5)
    ring, begin = 7, 2  # the rows that come next, as the third step's from the third on
    device.driver.launch(
        kernel_name("gather", source_dtype, dtype), grid.blocks, address, device.put(X[:ring])[1],
        *place, n, m, m + 2, grid.lanes, 0.5, begin, ring,
    )  # fmt: skip
    rows = (3 * n + begin + np.arange(n)) % ring
    np.testing.assert_array_equal(out, X[rows].astype(dtype) * 0.5)
    device.check(gap)


@each_order
@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (33, 20), (6, 301)])
@pytest.mark.parametrize("pixels", [1, 3])
def test_dropout(order, dtype, shape, pixels):
    """The words of the generator, four for each block of a sample's elements."""
    rng, (n, m), first, seed, stream = np.random.default_rng(0), shape, 3, 77, 2
    device, rate, x = Device(order), 0.3, numbers(rng, (n * pixels, m), dtype)
    progress = device.put(np.array([(2, 0.0, 1000, seed)], PROGRESS_DTYPE))[1]
    blocks, position = -(-m // 4), 1000 + (2 + 1) * 50
    words = [[cpu_kernels.philox(((first + i) * blocks + b, stream, position, 0), (seed, 0))
              for b in range(blocks)] for i in range(n)]  # fmt: skip
    kept = (np.reshape(words, (n, -1))[:, :m] >= rate * 2**32).repeat(pixels, axis=0)
    grid = kernels.grid(n * pixels, blocks)
    for accumulate in (0, 1):
        start = numbers(rng, x.shape, dtype) if accumulate else np.full(x.shape, np.nan, dtype)
        out, address, gap = device.padded(start, m + 1)
        device.driver.launch(
            kernel_name("dropout", dtype), grid.blocks, address, device.padded(x, m + 2)[1],
            progress, 1, 50, first, pixels, stream, rate, n * pixels, m, m + 1, m + 2,
            grid.lanes, accumulate,
        )  # fmt: skip
        expected = kept * x / (1 - rate) + (start if accumulate else 0)
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
        device.check(gap)


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize("activation", Activation, ids=lambda a: a.name.lower())
@pytest.mark.parametrize("second", [False, True])
def test_activated_sum(order, dtype, shape, activation, second):
    """And its gradient, which one input takes and the other adds to what it has."""
    rng, (n, m) = np.random.default_rng(0), shape
    device, of = Device(order), getattr(reference, activation.name.lower())
    x, x2, g = (numbers(rng, shape, dtype) for _ in range(3))
    grid = kernels.grid(n, m)
    y, address, y_gap = device.padded(np.full(shape, np.nan, dtype), m + 1)
    other = device.padded(x2, m + 3)[1] if second else 0
    device.driver.launch(
        kernel_name("activated_sum", formula(activation), dtype), grid.blocks, address,
        device.padded(x, m + 2)[1], other, n, m, m + 1, m + 2, m + 3, grid.lanes,
    )  # fmt: skip
    expected, slope = of(x.astype(float) + x2 * second)
    options = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(y, expected, **options)
    dx, dx_address, gap = device.padded(np.full(shape, np.nan, dtype), m + 2)
    dx2, dx2_address, gap2 = device.padded(x2, m + 3)
    device.driver.launch(
        kernel_name("activated_sum_gradient", formula(activation), dtype), grid.blocks,
        dx_address, dx2_address * second, device.padded(g, m + 1)[1], address, n, m, m + 2,
        m + 3, m + 1, grid.lanes, 0, 1,
    )  # fmt: skip
    np.testing.assert_allclose(dx, g * slope, **options)
    np.testing.assert_allclose(dx2, x2 + g * slope * second, **options)
    device.check(y_gap, gap, gap2)


@each_order
@each_dtype
@each_shape
def test_copy_rows(order, dtype, shape):
    rng, (n, m) = np.random.default_rng(0), shape
    device, x, grid = Device(order), numbers(rng, shape, dtype), kernels.grid(n, m)
    for accumulate in (0, 1):
        start = numbers(rng, shape, dtype) if accumulate else np.full(shape, np.nan, dtype)
        out, address, gap = device.padded(start, m + 1)
        device.driver.launch(
            kernel_name("copy_rows", dtype), grid.blocks, address, device.padded(x, m + 2)[1], n,
            m, m + 1, m + 2, grid.lanes, accumulate,
        )  # fmt: skip
        np.testing.assert_array_equal(out, start + x if accumulate else x)
        device.check(gap)


def run_loss(device, opcode, dtype, shape, trains=True):
    """Predictions, gradient and loss of a minibatch, and what the reference says."""
    rng, (n, m) = np.random.default_rng(1), shape
    softmax = opcode == Opcode.SOFTMAX_LOG_LOSS
    z = numbers(rng, shape, dtype)
    y = rng.integers(0, 2, (40, m)).astype(dtype)
    if softmax:
        y = rng.integers(0, m, 40).astype(np.int32)
    weights = rng.uniform(0.5, 2, 40)
    place, rows = device.rows(n, 40, rng)
    p, p_address, p_gap = device.padded(z, m + 2)
    g, g_address, g_gap = device.padded(np.full(shape, np.nan, dtype), m + 2)
    grid = kernels.grid(n, m, kernels.WARP if softmax else THREADS, kernels.LOSS_BLOCKS)
    losses, losses_address = device.put(np.full((2, grid.blocks), np.nan))
    arguments = (dtype,) if softmax else (formula(opcode), dtype)
    device.driver.launch(
        kernel_name("softmax_log_loss" if softmax else "elementwise_loss", *arguments),
        grid.blocks, p_address, g_address, losses_address, device.put(y)[1] * trains,
        device.put(weights)[1], *place, n, m, m + 2, grid.lanes, 0.5,
    )  # fmt: skip
    device.check(p_gap, g_gap)
    targets = y[rows]
    expected, row_loss = getattr(reference, opcode.name.lower())(z.astype(float), targets)
    one_hot = np.eye(m)[targets] if softmax else targets
    slope = (expected - one_hot) * weights[rows, None]
    return (p, g, losses), (expected, slope, 0.5 * (row_loss * weights[rows]).sum())


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize(
    "opcode", [Opcode.SOFTMAX_LOG_LOSS, *ELEMENTWISE_LOSSES], ids=lambda o: o.name.lower()
)
def test_loss(order, dtype, shape, opcode):
    found, expected = run_loss(Device(order), opcode, dtype, shape)
    for array, wanted in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e2 * TOLERANCE[dtype], atol=1e-6)
    assert np.isnan(found[2][0]).all(), "wrote to another step"
    assert found[2][1].sum() == pytest.approx(expected[2], rel=1e2 * TOLERANCE[dtype], abs=1e-6)
    found, expected = run_loss(Device(order), opcode, dtype, shape, trains=False)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e2 * TOLERANCE[dtype])
    assert np.isnan(found[1]).all() and np.isnan(found[2]).all()


def test_not_a_number_stays_one():
    device, x = Device("up"), np.array([[np.nan, 1.0]])
    for activation in Activation:
        y, address = device.put(x)
        device.driver.launch(
            kernel_name("activation", formula(activation), float), 1, address, 1, 2, 2, 2
        )
        assert np.isnan(y[0, 0]) and not np.isnan(y[0, 1])


OPTIMIZERS = {
    "Sgd": optimizers.SGD(np.zeros(1), schedules.Constant(0.1), 0.9, True),
    PLAIN_SGD: optimizers.SGD(np.zeros(1), schedules.Constant(0.1), 0.0, True),
    "Adam": optimizers.Adam(np.zeros(1), 0.01, 0.9, 0.999, 1e-8),
}


def test_every_optimizer_is_tested():
    assert {o.opcode for o in OPTIMIZERS.values()} == set(Optimizer)


def run_update(device, dtype, rule, n):
    """What a step of three ranges, the last one frozen, makes of arrays, and what it should."""
    rng, optimizer = np.random.default_rng(0), OPTIMIZERS[rule]
    decayed, last = n // 12 * 4, n - 4
    p, p_address = device.put(numbers(rng, n, dtype))
    g, g_address = device.put(numbers(rng, n, dtype))
    g[last:] = np.nan
    slots, slots_address = device.put(np.abs(numbers(rng, (optimizer.n_slots, n), dtype)))
    start, before = p.astype(float), slots.astype(float)
    ranges = np.array([(decayed, 0.3, False), (last, 0.0, False), (n, 0.0, True)], RANGE_DTYPE)
    progress = np.zeros(1, PROGRESS_DTYPE)
    progress["first_step"] = 1
    rates, scales = np.array([9, 9, 0.05]), np.array([9, 9, 0.25])
    blocks = -(-n // (4 * THREADS))
    penalties, penalties_address = device.put(np.full((2, blocks), np.nan))
    coefficients = (*map(float, optimizer.coefficients), 0.0, 0.0)[:3]
    device.driver.launch(
        kernel_name("update", rule_name(rule, dtype), dtype), blocks, p_address, g_address,
        slots_address, penalties_address, device.put(ranges)[1], device.put(rates)[1],
        device.put(scales)[1], device.put(progress)[1], 1, n, *coefficients,
    )  # fmt: skip
    device.check()
    step = getattr(reference, optimizer.opcode.name.lower())
    old, expected = list(before) if len(before) else [np.zeros(n)] * 2, [start, before]
    for part, decay in ((slice(0, decayed), 0.3), (slice(decayed, last), 0)):
        gradient = (g[part].astype(float) + decay * start[part]) * 0.25
        moved, new = step(start[part], gradient, [s[part] for s in old], 0.05,
                          optimizer.coefficients)  # fmt: skip
        expected = [e.copy() for e in expected]
        expected[0][part] = moved
        for slot, wanted in zip(expected[1], new, strict=False):
            slot[part] = wanted
    return (p, slots, penalties[1].sum()), (*expected, 0.3 * (start[:decayed] ** 2).sum())


@each_order
@each_dtype
@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("n", [16, 1504])
def test_update(order, dtype, rule, n):
    found, expected = run_update(Device(order), dtype, rule, n)
    options = {"rtol": 20 * TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    for array, wanted in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(array, wanted, **options)
        np.testing.assert_array_equal(array[..., -4:], wanted[..., -4:])
    assert found[2] == pytest.approx(expected[2], rel=1e-6)


@each_order
def test_finish_steps(order):
    rng, device = np.random.default_rng(0), Device(order)
    n_steps, first = 11, 2
    losses, penalties = rng.uniform(size=(n_steps, 40)), rng.uniform(size=(n_steps, 3))
    scales = rng.uniform(size=first + n_steps)
    progress, address = device.put(np.array([(first, 5.0, 0, 0)], PROGRESS_DTYPE))
    step_losses = device.put(np.full(n_steps, np.nan))[1]
    device.driver.launch(
        kernel_name("finish_steps"), 1, address, step_losses, device.put(losses)[1], 40,
        device.put(penalties)[1], 3, device.put(scales)[1], n_steps, 7.0,
    )  # fmt: skip
    total = (losses.sum(axis=1) + 0.5 * penalties.sum(axis=1)) * scales[first:] * 7
    assert progress["loss"][0] == pytest.approx(5 + total.sum())
    assert progress["first_step"][0] == first + n_steps
    device.check()
