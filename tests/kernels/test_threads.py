"""Programs on several threads: each number of them has its own results, always the same."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sknn import losses, optimizers, schedules
from sknn._kernels.cpu import executor
from sknn._kernels.ops import Activation

from .cases import TOLERANCE, Case, GuardedMemory, as_dtype, make_executor

WIDE = Case(losses.REGRESSION["squared_error"], "tanh", (300, 200, 3), sparse=False)


def sgd(parameters):
    return optimizers.SGD(parameters, schedules.Constant(0.002), 0.9, True)


def descent(parameters):
    """Without momentum, which has steps of its own for sparse rows."""
    return optimizers.SGD(parameters, schedules.Constant(0.002), 0, False)


def adam(parameters):
    return optimizers.Adam(parameters, 0.001, 0.9, 0.999, 1e-8)


def fit(case, dtype, n, batch_size, n_threads, make_optimizer, epochs=2, memory=None):
    """Losses and the vector after some epochs."""
    X, y, weights = case.data(n)
    X, y = as_dtype(case, X, y, dtype)
    run = make_executor(case, dtype, batch_size, n_threads)
    run.bind(X, y, weights)
    parameters = (memory or GuardedMemory()).copy(case.parameters().astype(dtype))
    optimizer = make_optimizer(parameters)
    order = np.random.default_rng(0).permutation(n)
    losses = [
        run.train_epoch(parameters, optimizer, order, batch_size, 0.01) for _ in range(epochs)
    ]
    return losses, parameters


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        Case,
        loss=st.sampled_from(losses.LOSSES),
        activation=st.sampled_from([activation.name.lower() for activation in Activation]),
        sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5).map(tuple),
        sparse=st.booleans(),
        seed=st.integers(0, 1000),
    ),
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 60),
    st.integers(1, 25),
    st.integers(2, 6),
)
def test_any_training(memory, case, dtype, n, batch_size, n_threads):
    """Odd tails and fewer rows than threads among them."""
    arguments = case, dtype, n, min(n, batch_size)
    for make_optimizer in (descent, sgd, adam):
        loss, vector = fit(*arguments, n_threads, make_optimizer, memory=memory)
        again, same = fit(*arguments, n_threads, make_optimizer)
        np.testing.assert_array_equal(loss, again)  # NaN where it diverges
        np.testing.assert_array_equal(vector, same)
        if make_optimizer is adam:  # it divides rounding errors by each other
            continue
        alone, expected = fit(*arguments, 1, make_optimizer)
        assert loss == pytest.approx(alone, rel=100 * TOLERANCE[dtype], abs=TOLERANCE[dtype])
        scale = 100 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(vector, expected, atol=scale * TOLERANCE[dtype])


@pytest.mark.parametrize(
    "batch_size, own",
    [(1, [False, True, False, True]), (100, [False, True, True, True]), (400, [True] * 4)],
)
def test_which_segments_have_a_gradient_per_thread(batch_size, own):
    """Those with few parameters for so many rows."""
    segments, size = WIDE.program.own_gradients(batch_size)
    found = segments["own_gradient"] >= 0
    assert found.tolist() == own
    assert size >= (segments["rows"] * segments["columns"])[found].sum()
    assert (WIDE.program.segments["own_gradient"] == -1).all()


@pytest.mark.parametrize("batch_size", [7, 150, 640])
@pytest.mark.parametrize("n_threads", [2, 3, 5])
def test_both_kinds_of_gradient(memory, batch_size, n_threads):
    """A large layer, of which slices are made, before a small one."""
    for dtype in (np.float32, np.float64):
        loss, vector = fit(WIDE, dtype, 650, batch_size, n_threads, sgd, memory=memory)
        alone, expected = fit(WIDE, np.float64, 650, batch_size, 1, sgd)
        assert loss == pytest.approx(alone, rel=100 * TOLERANCE[dtype])
        np.testing.assert_allclose(vector, expected, atol=100 * TOLERANCE[dtype])


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("make_optimizer", [adam, descent])
def test_none_asks_again_at_each_run(memory, monkeypatch, is_sparse, make_optimizer):
    """An executor runs with fewer threads than it was made for, as if made for them."""
    answers = iter([3, 3, 1, 2])  # what it is made for, and three epochs
    asked = []

    def choose(n_threads, flops_per_step, n_steps, n_executors=None):
        asked.append((n_threads, n_steps, n_executors))
        return next(answers) if n_threads is None else n_threads

    monkeypatch.setattr(executor, "choose_n_threads", choose)
    case = Case(losses.SOFTMAX_LOG_LOSS, "relu", (20, 30, 3), is_sparse)
    X, y, weights = case.data(50)
    X, y = as_dtype(case, X, y, np.float64)
    results = []
    for numbers in ([None] * 3, [3, 1, 2]):
        parameters = memory.copy(case.parameters())
        optimizer = make_optimizer(parameters)
        runs = {n: make_executor(case, np.float64, 20, n) for n in dict.fromkeys(numbers)}
        for n in numbers:
            runs[n].bind(X, y, weights)
            runs[n].train_epoch(parameters, optimizer, np.arange(50), 20, 0.1)
        results.append(parameters)
    np.testing.assert_array_equal(*results)
    assert asked[:4] == [(None, math.inf, 1)] + [(None, 2.5, None)] * 3
