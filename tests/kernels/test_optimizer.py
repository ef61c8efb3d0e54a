"""Optimizers against plain NumPy, over whole epochs with a short last minibatch."""

import numpy as np
import pytest

from sknn import losses, optimizers, schedules
from sknn._kernels.ops import Optimizer

from .. import reference
from .cases import TOLERANCE, Case, all_cases, as_dtype, make_executor

CASES = [case for case in all_cases() if len(case.sizes) > 2][:6]
MAKE = {
    "sgd": lambda p: optimizers.SGD(p, schedules.Constant(0.1), 0.9, True),
    "plain descent": lambda p: optimizers.SGD(p, schedules.Constant(0.1), 0.0, True),
    "adam": lambda p: optimizers.Adam(p, 0.01, 0.9, 0.999, 1e-8),
}
each_optimizer = pytest.mark.parametrize("name", list(MAKE))


def reference_epoch(case, optimizer, vector, slots, order, batch_size, alpha, t):
    """One epoch in NumPy; its reported loss, the parameters and the slots."""
    X, y, weights = case.data(len(order))
    total = 0.0
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        batch = X[rows], y[rows], weights[rows]
        _, loss = reference.walk(case.program, vector, *batch)
        gradient = reference.finite_differences(case.program, vector, *batch)
        views = [v for v in case.program.views(vector) if v.ndim == 2]
        slopes = [v for v in case.program.views(gradient) if v.ndim == 2]
        loss += 0.5 * alpha * sum((v**2).sum() for v in views)
        for view, slope in zip(views, slopes, strict=True):
            slope += alpha * view
        total += loss / weights[rows].sum() * len(rows)
        t += 1
        step = getattr(reference, optimizer.opcode.name.lower())
        rate = optimizer.learning_rates(t)[t - 1]
        vector, slots = step(
            vector, gradient / weights[rows].sum(), slots, rate, optimizer.coefficients
        )
    return total / len(order), vector, slots


def test_every_optimizer_is_tested():
    assert {make(np.zeros(1)).opcode for make in MAKE.values()} == set(Optimizer)


@pytest.mark.parametrize("case", CASES, ids=str)
@each_optimizer
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_epochs(memory, case, name, n_threads):
    n, batch_size, alpha = 13, 5, 0.3
    order = np.random.default_rng(3).permutation(n)
    X, y, weights = case.data(n)
    X, y = as_dtype(case, X, y, np.float64)
    parameters = memory.copy(case.parameters())
    optimizer, fresh = MAKE[name](parameters), MAKE[name](parameters)
    optimizer.slots = memory.copy(optimizer.slots.ravel()).reshape(optimizer.slots.shape)
    run = make_executor(case, np.float64, batch_size, n_threads)
    run.bind(X, y, weights)
    vector, slots = parameters.copy(), [np.zeros(parameters.size)] * 2
    for epoch in range(2):
        loss = run.train_epoch(parameters, optimizer, order, batch_size, alpha)
        expected, vector, slots = reference_epoch(
            case, fresh, vector, slots, order, batch_size, alpha, 3 * epoch
        )
        assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(parameters, vector, atol=1e-6)


@each_optimizer
@pytest.mark.parametrize("n_threads", [1, 2])
def test_what_vanishes_is_zero(name, n_threads):
    """Slots of parameters without a gradient do not stay below the smallest normal number."""
    case = Case(losses.SOFTMAX_LOG_LOSS, "identity", (3, 2, 2), sparse=False)
    X, y = np.zeros((2000, 3), np.float32), np.zeros(2000, np.int32)
    X[0] = 1
    run = make_executor(case, np.float32, 1, n_threads)
    run.bind(X, y)
    parameters = case.parameters().astype(np.float32)
    optimizer = MAKE[name](parameters)
    run.train_epoch(parameters, optimizer, np.arange(2000), 1, 0.0)
    smallest = np.finfo(np.float32).smallest_normal
    for slot in optimizer.slots:
        assert not ((slot != 0) & (np.abs(slot) < smallest)).any()
    assert np.float32(smallest) / np.float32(2) > 0, "the caller's arithmetic is as before"


@each_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_vectors(name, dtype):
    """More parameters than a block of the sum of squares, and than a whole vector register."""
    case = next(case for case in all_cases() if case.activation == "relu" and not case.sparse)
    case.sizes = (150, 67, 3)
    n = 8
    X, y, weights = case.data(n)
    start = case.parameters()
    reported = {}
    for kind in (np.float64, dtype):
        bound = as_dtype(case, X, y, kind)
        run = make_executor(case, kind, n, 1)
        run.bind(*bound, weights)
        parameters = start.astype(kind)
        optimizer = MAKE[name](parameters)
        reported[kind] = [
            run.train_epoch(parameters, optimizer, np.arange(n), n, 5.0) for _ in range(2)
        ]
    assert reported[dtype] == pytest.approx(reported[np.float64], rel=10 * TOLERANCE[dtype])


@each_optimizer
def test_small_weights(name):
    """Weights count beside each other: their size does not matter, though its square vanishes."""
    case = next(case for case in all_cases() if case.activation == "tanh" and not case.sparse)
    n = 12
    X, y = as_dtype(case, *case.data(n)[:2], np.float32)
    reached = []
    for weight in (1.0, 1e-25):
        run = make_executor(case, np.float32, n, 1)
        run.bind(X, y, np.full(n, weight))
        parameters = case.parameters().astype(np.float32)
        optimizer = MAKE[name](parameters)
        for _ in range(5):
            run.train_epoch(parameters, optimizer, np.arange(n), n, 0.0)
        reached.append(parameters)
    np.testing.assert_allclose(reached[1], reached[0], atol=1e-5)
    assert np.abs(reached[0] - case.parameters()).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_overflow(dtype):
    """A mean divided by infinity is nothing, as in scikit-learn."""
    case = Case(losses.BY_NAME["squared_error"], "identity", (3, 2), sparse=False)
    n, huge = 4, np.sqrt(100 * np.sqrt(np.finfo(dtype).max))  # the gradient is its square
    run = make_executor(case, dtype, n, 1)
    run.bind(np.full((n, 3), huge, dtype), np.zeros((n, 2), dtype))
    parameters = np.ones(run.program.n_parameters, dtype)
    before = parameters.copy()
    optimizer = MAKE["adam"](parameters)
    run.train_epoch(parameters, optimizer, np.arange(n), n, 0.0)
    assert np.isinf(optimizer.slots[1]).any()
    np.testing.assert_allclose(parameters, before, atol=0.011)
