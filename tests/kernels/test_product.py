"""The matrix product under every dense layer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sknn._kernels.cpu import variant

from .cases import TOLERANCE, GuardedMemory

kernels = variant.load("kernels")

# beyond a tile, a panel, and what is packed at once; and none of their multiples
SIZES = [1, 2, 3, 5, 10, 13, 14, 15, 16, 17, 22, 29, 32, 33, 64, 100, 193, 200, 385]
WIDE = [(3, 2049, 40), (40, 3, 2049), (2049, 5, 7), (30, 1100, 400), (17, 520, 193)]
# dot products
NARROW = st.tuples(st.integers(1, 40), st.integers(1, 2), st.integers(30, 150))


def factor(memory, rows, columns, by_columns, gap, rng, dtype):
    """A factor whose rows (or columns) are ``gap`` apart, and the NaN between them."""
    n, m = (columns, rows) if by_columns else (rows, columns)
    whole = memory.allocate(n * (m + gap), np.dtype(dtype)).reshape(n, m + gap)
    whole[:, :m] = rng.uniform(-1, 1, (n, m))
    return (whole[:, :m].T if by_columns else whole[:, :m]), whole[:, m:]


def check(n, m, k, a_by_columns, b_by_columns, accumulate, gap, dtype):
    memory, rng = GuardedMemory(), np.random.default_rng(0)
    a, _ = factor(memory, n, k, a_by_columns, gap, rng, dtype)
    b, _ = factor(memory, k, m, b_by_columns, gap, rng, dtype)
    c, between = factor(memory, n, m, False, gap, rng, dtype)
    expected = a.astype(float) @ b.astype(float) + (c if accumulate else 0)
    kernels.multiply(c, a, b, accumulate)
    memory.check()
    assert np.isnan(between).all()
    np.testing.assert_allclose(c, expected, rtol=0, atol=TOLERANCE[dtype] * (1 + k) ** 0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    n=st.sampled_from(SIZES),
    m=st.sampled_from(SIZES),
    k=st.sampled_from(SIZES),
    a_by_columns=st.booleans(),
    b_by_columns=st.booleans(),
    accumulate=st.booleans(),
    gap=st.sampled_from([0, 1, 16]),
)
def test_any_shape(dtype, n, m, k, a_by_columns, b_by_columns, accumulate, gap):
    check(n, m, k, a_by_columns, b_by_columns, accumulate, gap, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    shape=st.sampled_from(WIDE) | st.tuples(*[st.sampled_from(SIZES)] * 3) | NARROW,
    rectify=st.booleans(),
    gated=st.booleans(),
    gap=st.sampled_from([0, 1, 16]),
    a_by_columns=st.booleans(),
)
def test_epilogue(dtype, shape, rectify, gated, gap, a_by_columns):
    (n, m, k), memory, rng = shape, GuardedMemory(), np.random.default_rng(0)
    a, _ = factor(memory, n, k, a_by_columns, gap, rng, dtype)
    b, _ = factor(memory, k, m, False, gap, rng, dtype)
    c, between = factor(memory, n, m, False, gap, rng, dtype)
    gate, _ = factor(memory, n, m, False, gap, rng, dtype)
    np.maximum(gate, 0, out=gate)
    bias = memory.allocate(m, np.dtype(dtype))
    bias[:] = rng.uniform(-1, 1, m)
    expected = a.astype(float) @ b.astype(float) + bias
    kernels.multiply(c, a, b, bias=bias, rectify=rectify, gate=gate if gated else None)
    memory.check()
    assert np.isnan(between).all()
    expected = np.maximum(expected, 0) if rectify else expected
    expected = np.where(gate > 0, expected, 0) if gated else expected
    np.testing.assert_allclose(c, expected, rtol=0, atol=TOLERANCE[dtype] * (1 + k) ** 0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n, m, k", WIDE)
@pytest.mark.parametrize("a_by_columns", [False, True])
@pytest.mark.parametrize("b_by_columns", [False, True])
def test_large_shapes(dtype, n, m, k, a_by_columns, b_by_columns):
    check(n, m, k, a_by_columns, b_by_columns, True, 0, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(shape=NARROW, b_by_columns=st.booleans(), gap=st.sampled_from([0, 1, 16]))
def test_a_row_is_the_same_among_others(dtype, shape, b_by_columns, gap):
    """So that results do not depend on how threads share the rows; BLAS promises nothing."""
    if variant.chosen() not in ("v3", "v4"):
        pytest.skip("products are those of BLAS")
    (n, m, k), memory, rng = shape, GuardedMemory(), np.random.default_rng(0)
    a, _ = factor(memory, n, k, False, gap, rng, dtype)
    b, _ = factor(memory, k, m, b_by_columns, gap, rng, dtype)
    together, alone = np.empty((n, m), dtype), np.empty((n, m), dtype)
    kernels.multiply(together, a, b)
    for i in range(n):
        kernels.multiply(alone[i : i + 1], a[i : i + 1], b)
    memory.check()
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
@pytest.mark.parametrize("k, m", [(30, 10), (70, 1), (70, 2)])
def test_what_is_not_finite_stays_in_its_row(value, k, m):
    a, b = np.ones((20, k), np.float32), np.ones((k, m), np.float32)
    a[3, 7] = value
    c = np.empty((20, m), np.float32)
    kernels.multiply(c, a, b)
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(c, a @ b)
