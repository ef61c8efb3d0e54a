"""Rows in chunks that stay in cache: as if a thread took all of them at once."""

import numpy as np
import pytest

from sknn import _places
from sknn._kernels.cpu import executor
from sknn._kernels.ops import Opcode

from .cases import TOLERANCE, gradient_of, network_cases

CASES = list(network_cases())
IMAGES = [case for case in CASES if (case.program.ops["opcode"] == Opcode.CONV).any()]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_chunks(memory, monkeypatch, case, dtype, n_threads):
    """One row at a time, and threads without any."""
    for n in (2, 11):
        expected_loss, expected = gradient_of(memory, case, dtype, n, n, n_threads)
        with monkeypatch.context() as patch:
            patch.setattr(executor, "stretches", _places.stretches.__wrapped__)
            patch.setattr(_places, "CACHE_BYTES", 1)
            patch.setattr(_places, "ELEMENTS_PER_PARAMETER", 0)
            loss, gradient = gradient_of(memory, case, dtype, n, n, n_threads)
        tolerance = 20 * TOLERANCE[dtype]
        assert loss == pytest.approx(expected_loss, rel=tolerance)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance * scale)


def test_how_many_rows_at_once():
    """Stretches begin at sync ops; as many rows as fit, and more where there are many weights."""
    case = IMAGES[-2]
    found = _places.stretches(case.program, 4)
    sync = np.flatnonzero(case.program.ops["sync"])
    np.testing.assert_array_equal(found["first_op"][1:], sync)
    np.testing.assert_array_equal(found["end_op"][:-1], sync)
    assert found["end_op"][-1] == len(case.program.ops)
    assert (found["backward_rows"] <= found["forward_rows"]).all()
    twice = _places.stretches(case.program, 8)
    assert (twice["forward_rows"] <= found["forward_rows"]).all()
    assert (twice["forward_rows"] < found["forward_rows"]).any()
