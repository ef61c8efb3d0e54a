"""How exact the logarithm in the losses is, at the ends of its range and where rows are long."""

import numpy as np
import pytest

from sknn import losses
from sknn._kernels.cpu import executor
from sknn._lowering import lower_for_cpu
from sknn.layers import Dense, sequential

from .. import reference

ELEMENTWISE = [loss for loss in losses.LOSSES if loss is not losses.SOFTMAX_LOG_LOSS]


def loss_of(loss, z, y, dtype):
    """The loss of one row by the executor; the identity makes its outputs of z."""
    m = z.size
    program = lower_for_cpu(sequential((m,), (Dense(m),), loss), False)
    vector = np.zeros(program.n_parameters, dtype)
    program.views(vector)[0][...] = np.eye(m)
    run = executor.Executor(program, dtype=dtype, capacity=1, n_threads=1)
    run.bind(np.ascontiguousarray(z[None], dtype), y, None)
    return run.evaluate(vector, np.zeros_like(vector), np.arange(1))


@pytest.mark.parametrize("dtype, limit", [(np.float32, 3e-7), (np.float64, 2e-15)])
def test_logarithm(dtype, limit):
    """Poisson's deviance y log(y / p) - y + p with p = 1 is y log(y) - y + 1."""
    tiny, largest = np.finfo(dtype).tiny, np.finfo(dtype).max
    smallest = np.nextafter(dtype(0), dtype(1))
    points = [0, smallest, tiny / 8, tiny, 0.1, 0.7, 0.71, 2, 3, 1e6, largest / 1e3]
    for y in np.array([*points, *np.random.default_rng(0).uniform(0, 9, 50)], dtype):
        found = loss_of(losses.REGRESSION["poisson"], np.zeros(1), np.full((1, 1), y), dtype)
        exact = np.longdouble(y) * np.log(np.longdouble(y)) if y else np.longdouble(0)
        assert found == pytest.approx(
            float(exact - y + 1), rel=limit, abs=limit * max(1, float(y))
        )
    for z in np.linspace(-80, 80, 41):  # y = 1: -z - 1 + p
        found = loss_of(losses.REGRESSION["poisson"], np.array([z]), np.ones((1, 1), dtype), dtype)
        assert found == pytest.approx(np.exp(z) - z - 1, rel=10 * limit, abs=10 * limit)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_and_missing_predictions(dtype):
    poisson = losses.REGRESSION["poisson"]
    one = np.ones((1, 1), dtype)
    assert loss_of(poisson, np.array([-1e4]), one, dtype) == np.inf  # log(1 / 0)
    assert np.isnan(loss_of(poisson, np.array([1e4]), one, dtype))  # -inf + inf, as NumPy
    assert np.isnan(loss_of(poisson, np.array([np.nan]), one, dtype))


@pytest.mark.parametrize("dtype, limit", [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("loss", losses.LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("m", [15, 16, 17, 511, 512, 513, 1100])
def test_long_rows(loss, m, dtype, limit):
    """Rows longer than the vectors, and than the buffer in which losses are made."""
    rng = np.random.default_rng(m)
    z, y = rng.normal(size=m).astype(dtype), rng.integers(0, 2, (1, m)).astype(dtype)
    if loss is losses.SOFTMAX_LOG_LOSS:
        y = np.array([m - 1], np.int32)
    name = loss.name
    _, expected = getattr(reference, name)(z[None].astype(float), y)
    factor = 1 / m if loss.averaged else 1
    assert loss_of(loss, z, y, dtype) == pytest.approx(factor * expected[0], rel=limit)


@pytest.mark.parametrize("dtype, limit", [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("loss", ELEMENTWISE, ids=lambda loss: loss.name)
@pytest.mark.parametrize("n", [1, 3, 15, 16, 17, 511, 512, 513, 1100])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_column(loss, n, dtype, limit, weighted):
    """More rows than vectors have elements, and than the buffer in which losses are made."""
    rng = np.random.default_rng(n)
    z, y = rng.normal(size=(n, 1)).astype(dtype), rng.integers(0, 2, (n, 1)).astype(dtype)
    weights = rng.uniform(0.5, 2, n) if weighted else None
    program = lower_for_cpu(sequential((1,), (Dense(1),), loss), False)
    vector = np.zeros(program.n_parameters, dtype)
    program.views(vector)[0][...] = 1
    run = executor.Executor(program, dtype=dtype, capacity=n, n_threads=1)
    run.bind(z, y, weights)
    gradient = np.zeros_like(vector)
    found = run.evaluate(vector, gradient, np.arange(n))
    step = 1e-5
    below, here, above = (
        getattr(reference, loss.name)(z.astype(float) + shift, y)[1] for shift in (-step, 0, step)
    )
    factors = np.ones(n) if weights is None else weights
    assert found == pytest.approx(factors @ here, rel=limit)
    slopes = factors * (above - below) / (2 * step)
    expected = [slopes @ z[:, 0], slopes.sum()]
    found = [float(part.item()) for part in program.views(gradient)]
    np.testing.assert_allclose(found, expected, atol=max(limit, 1e-9) * n)
