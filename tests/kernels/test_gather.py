"""Rows of any element type, in any order, read where they lie."""

import numpy as np
import pytest

from sknn._kernels.cpu import executor

from .cases import TOLERANCE, all_cases

CASE = next(case for case in all_cases() if case.sizes == (5, 17, 3) and not case.sparse)


@pytest.mark.parametrize("source", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_gather(source, dtype, n_threads):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 9, (31, 5)).astype(source)
    rows = rng.permutation(31)[:20]
    parameters = CASE.parameters().astype(dtype)
    expected = executor.predict(CASE.program, parameters, X[rows].astype(dtype))
    found = executor.predict(CASE.program, parameters, X, rows, n_threads)
    np.testing.assert_allclose(found, expected, rtol=10 * TOLERANCE[dtype])
    whole = executor.predict(CASE.program, parameters, X, None, n_threads)
    np.testing.assert_allclose(whole[rows], expected, rtol=10 * TOLERANCE[dtype])
