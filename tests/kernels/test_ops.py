"""Every opcode against plain NumPy and finite differences, on any number of threads.

Nothing here names an op: what the enumerations hold is tested.
"""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sknn import losses
from sknn._kernels.cpu import executor
from sknn._kernels.ops import Activation, Opcode

from .. import reference
from .cases import (
    TOLERANCE,
    Case,
    GuardedMemory,
    all_cases,
    as_dtype,
    gradient_of,
    network_cases,
    state_of,
)

CASES = list(all_cases())
NETWORKS = list(network_cases())
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_network = pytest.mark.parametrize("case", NETWORKS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_every_opcode_and_activation_is_tested():
    ops = [op for case in CASES + NETWORKS for op in case.program.ops]
    opcodes = {int(op["opcode"]) for op in ops}
    activations = {int(op["activation"]) for op in ops}
    assert opcodes == set(map(int, Opcode))
    assert activations == set(map(int, Activation))


@lru_cache
def expected_of(index, n):
    """Loss and gradient of a network by the reference, and its predictions."""
    case = NETWORKS[index]
    X, y, weights = case.data(n)
    batch = case.program, case.parameters(), X, y, weights
    state = state_of(case, np.float64)
    _, loss = reference.walk(*batch, state=state)
    gradient = reference.finite_differences(*batch, state=state)
    predictions, _ = reference.walk(case.predicts, case.parameters(), X, state=state)
    return loss, gradient, predictions


@each_network
@each_dtype
@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_networks(memory, case, dtype, n, n_threads):
    """One minibatch: the loss, and the gradient by finite differences; and predictions."""
    expected_loss, expected, expected_predictions = expected_of(NETWORKS.index(case), n)
    loss, gradient = gradient_of(memory, case, dtype, n, n, n_threads)
    tolerance = 40 * TOLERANCE[dtype]
    assert loss == pytest.approx(expected_loss, rel=tolerance, abs=n * tolerance)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=max(2e-6, tolerance) * scale)
    _, again = gradient_of(memory, case, dtype, n, n, n_threads)
    np.testing.assert_array_equal(gradient, again)

    X, y, _ = case.data(n)
    X, _ = as_dtype(case, X, y, dtype)
    predicted = executor.predict(
        case.predicts, case.parameters().astype(dtype), X, n_threads=n_threads,
        state=state_of(case, dtype),
    )  # fmt: skip
    np.testing.assert_allclose(predicted, expected_predictions, rtol=tolerance, atol=tolerance)


@each_case
@each_dtype
@pytest.mark.parametrize("n, capacity", [(1, 1), (7, 7), (23, 10)])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_forward_and_loss(memory, case, dtype, n, capacity, n_threads):
    """In training (the loss) and in prediction, in chunks with a short tail."""
    X, y, weights = case.data(n)
    expected, expected_loss = reference.walk(case.program, case.parameters(), X, y, weights)
    loss, _ = gradient_of(memory, case, dtype, n, capacity, n_threads)
    assert loss == pytest.approx(expected_loss, rel=TOLERANCE[dtype], abs=n * TOLERANCE[dtype])

    X, _ = as_dtype(case, X, y, dtype)
    parameters = case.parameters().astype(dtype)
    predicted = executor.predict(case.program, parameters, X, n_threads=n_threads)
    assert predicted.dtype == dtype
    np.testing.assert_allclose(predicted, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@each_case
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_is_that_of_finite_differences(memory, case, weighted):
    X, y, weights = case.data(9)
    weights = weights if weighted else None
    expected = reference.finite_differences(case.program, case.parameters(), X, y, weights)
    _, gradient = gradient_of(memory, case, np.float64, 9, 4, 1, weighted)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6 * scale)


@each_case
@each_dtype
def test_gradient_on_several_threads(memory, case, dtype):
    """Fewer rows than threads among them."""
    for n in (2, 11):
        _, expected = gradient_of(memory, case, np.float64, n, 5, 1)
        scale = np.abs(expected).max()
        for n_threads in (1, 2, 3):
            _, gradient = gradient_of(memory, case, dtype, n, 5, n_threads)
            np.testing.assert_allclose(
                gradient, expected, rtol=20 * TOLERANCE[dtype], atol=20 * TOLERANCE[dtype] * scale
            )
            _, again = gradient_of(memory, case, dtype, n, 5, n_threads)
            np.testing.assert_array_equal(gradient, again)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        Case,
        loss=st.sampled_from(losses.LOSSES),
        activation=st.sampled_from([activation.name.lower() for activation in Activation]),
        sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5).map(tuple),
        sparse=st.booleans(),
        seed=st.integers(0, 1000),
    ),
    st.integers(1, 50),
    st.integers(1, 20),
    st.integers(1, 4),
)
def test_any_shape(case, n, capacity, n_threads):
    """Any network, number of rows, minibatch and threads: the loss and the gradient agree."""
    guarded = GuardedMemory()
    X, y, weights = case.data(n)
    _, expected = reference.walk(case.program, case.parameters(), X, y, weights)
    loss, gradient = gradient_of(guarded, case, np.float64, n, capacity, n_threads)
    assert loss == pytest.approx(expected, rel=1e-10, abs=1e-10)
    _, alone = gradient_of(guarded, case, np.float64, n, n, 1)
    scale = np.abs(alone).max()
    np.testing.assert_allclose(gradient, alone, rtol=1e-9, atol=1e-10 * scale)
    guarded.check()
