"""How exact the formulas are, and that NaN and infinities pass through them."""

import numpy as np
import pytest

from sknn import losses
from sknn._kernels.cpu import executor
from sknn._kernels.ops import Activation
from sknn._lowering import lower_for_cpu
from sknn.layers import Dense, sequential

from .. import reference

# units in the last place
LIMIT = {np.float32: 6, np.float64: 6}


def apply(layer, loss, x):
    """One unit with weight 1 and no bias."""
    program = lower_for_cpu(sequential((1,), (layer, Dense(1)), loss), False)
    vector = np.zeros(program.n_parameters, x.dtype)
    for view in program.views(vector):
        view[...] = view.ndim == 2
    return executor.predict(program, vector, x.reshape(-1, 1)).ravel()


def formulas():
    for activation in Activation:
        name = activation.name.lower()
        yield pytest.param(
            lambda x, n=name: apply(Dense(1, n), losses.REGRESSION["squared_error"], x),
            lambda x, n=name: getattr(reference, n)(x)[0],
            id=name,
        )
    yield pytest.param(
        lambda x: apply(Dense(1), losses.REGRESSION["poisson"], x), np.exp, id="exp"
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("formula, expected", list(formulas()))
def test_exactness(formula, expected, dtype):
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.uniform(-30, 30, 4000), rng.normal(size=4000), 10.0 ** rng.uniform(-9, 0, 2000)]
    ).astype(dtype)
    exact = expected(x.astype(np.longdouble))
    error = np.abs(formula(x) - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert error.max() <= LIMIT[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("formula, expected", list(formulas()))
def test_extremes(formula, expected, dtype):
    largest = np.finfo(dtype).max
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e4, largest, -largest], dtype)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(formula(x), expected(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_at_the_ends_of_its_range(dtype):
    high = np.log(np.finfo(dtype).max.astype(np.longdouble))
    low = np.log(np.finfo(dtype).tiny.astype(np.longdouble))
    x = np.array([high * (1 - 1e-6), high * (1 + 1e-6), low * 0.99, low * 1.2], dtype)
    y = apply(Dense(1), losses.REGRESSION["poisson"], x)
    np.testing.assert_allclose(y[[0, 2]], np.exp(x[[0, 2]]), rtol=1e-4)
    assert y[1] == np.inf
    assert y[3] == 0
