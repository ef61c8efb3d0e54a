"""Predictions in chunks: any number of rows and threads, checked on the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sknn import losses
from sknn._kernels.cpu import executor

from .. import reference
from .cases import TOLERANCE, Case, all_cases, as_dtype

CASE = Case(losses.SOFTMAX_LOG_LOSS, "relu", (5, 17, 3), sparse=False)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_source = pytest.mark.parametrize("source", [np.float32, np.float64])


def plain(n, source):
    """Rows that `is_plain`, with the parameters of the case."""
    X, _, _ = CASE.data(n)
    return X.astype(source), CASE.parameters()


@each_dtype
@pytest.mark.parametrize("case", [case for case in all_cases() if len(case.sizes) > 2], ids=str)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_chunks(case, dtype, n_threads):
    """Several to a thread, with a short tail that is a loop of its own."""
    X, y, weights = case.data(1450)
    expected, _ = reference.walk(case.program, case.parameters(), X, y, weights)
    X, _ = as_dtype(case, X, y, dtype)
    found = executor.predict(case.program, case.parameters().astype(dtype), X, n_threads=n_threads)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple),
    st.integers(1, 20),
    st.integers(1, 4),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
def test_few_rows(sizes, n, n_threads, dtype, sparse):
    """Products of a few rows are loops, of more rows BLAS: the same numbers."""
    case = Case(losses.REGRESSION["squared_error"], "tanh", sizes, sparse)
    X, y, weights = case.data(n)
    expected, _ = reference.walk(case.program, case.parameters(), X, y, weights)
    X, _ = as_dtype(case, X, y, dtype)
    found = executor.predict(case.program, case.parameters().astype(dtype), X, n_threads=n_threads)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@each_dtype
@each_source
@pytest.mark.parametrize("n", [1, 2, 700])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_check(dtype, source, n, n_threads):
    """Any number out of range is found, wherever it stands and whichever thread reads it."""
    X, parameters = plain(n, source)
    parameters = parameters.astype(dtype)

    def predict(X, check):
        return executor.predict(CASE.program, parameters, X, n_threads=n_threads, check=check)

    np.testing.assert_array_equal(predict(X, check=True), predict(X, check=False))
    limit = np.finfo(np.float32 if np.float32 in (dtype, source) else np.float64).max
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        for row, column in {(0, 0), (n - 1, 4), (n // 2, 2)}:
            bad = X.copy()
            bad[row, column] = value
            assert predict(bad, check=True) is None
            assert predict(bad, check=False).shape == (n, 3)
    for value in (limit, -limit, 0.0, -0.0, 1e-45):
        fine = X.copy()
        fine[-1, -1] = value
        assert predict(fine, check=True) is not None
    if source == np.float64 and dtype == np.float32:
        for value in (np.nextafter(limit.astype(float), np.inf), -1e300):
            large = X.copy()
            large[-1, 0] = value
            assert predict(large, check=True) is None


def test_sizes_that_would_be_overrun():
    X, parameters = plain(4, np.float64)
    with pytest.raises(ValueError, match="X has 4 features, but the program takes 5"):
        executor.predict(CASE.program, parameters, X[:, :4].copy())
    with pytest.raises(ValueError, match=r"parameters, but was given an array of shape \(7,\)"):
        executor.predict(CASE.program, parameters[:7], X)


@each_dtype
def test_largest_columns(dtype):
    """NumPy's argmax: the first of equals, the first NaN."""
    rng = np.random.default_rng(0)
    p = rng.choice([0, 0.25, 0.5, 1, -np.inf, np.inf, np.nan], (500, 4)).astype(dtype)
    for columns in (1, 2, 3, 4):
        part = np.ascontiguousarray(p[:, :columns])
        np.testing.assert_array_equal(executor.largest_columns(part), part.argmax(axis=1))


class Subclass(np.ndarray):
    pass


BASE = np.arange(12.0).reshape(3, 4)
UNALIGNED = np.zeros(97, np.uint8)[1:].view(np.float64).reshape(3, 4)


@pytest.mark.parametrize(
    "X, expected",
    [
        (BASE, True),
        (BASE.astype(np.float32), True),
        (BASE[1:2], True),
        (BASE[:, :4], True),
        (BASE[:0], False),
        (BASE[:, :3], False),
        (BASE[::2], False),
        (np.asfortranarray(BASE), False),
        (BASE.ravel(), False),
        (BASE[None], False),
        (BASE.tolist(), False),
        (BASE.astype(int), False),
        (BASE.astype(np.uint8), False),
        (BASE.astype(np.float16), False),
        (BASE.astype(np.longdouble), False),
        (BASE.astype(complex), False),
        (BASE.astype(object), False),
        (BASE.astype(BASE.dtype.newbyteorder()), False),
        (UNALIGNED, False),
        (BASE.view(Subclass), False),
        (np.ma.masked_array(BASE), False),
        (None, False),
    ],
)
def test_is_plain(X, expected):
    assert executor.is_plain(X, 4) is expected
