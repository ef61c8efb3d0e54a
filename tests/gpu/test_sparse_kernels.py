"""The kernels of DENSE_CSR on the CPU, in three orders of threads, against SciPy."""

import numpy as np
import pytest
from scipy import sparse

from sknn._kernels.gpu import kernels
from sknn._kernels.gpu.rows import SparseRows
from sknn._kernels.gpu.source import formula, kernel_name
from sknn._kernels.gpu.sparse import CSR_COLUMNS
from sknn._kernels.ops import Activation

from .. import reference
from .test_kernels import TOLERANCE, Device, each_dtype, each_order, numbers

pytestmark = pytest.mark.usefixtures("compiler")
# rows of the minibatch, columns of X, units, density
SHAPES = [(1, 1, 1, 1.0), (7, 20, 3, 0.3), (40, 9, 33, 0.5), (300, 17, 5, 0.2), (5, 30, 300, 0.1)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def csr_rows(rng, n, k, density, dtype):
    X = sparse.random_array((n, k), density=density, rng=rng, format="csr", dtype=dtype)
    X.indices = X.indices.astype(np.int32)
    X.indptr = X.indptr.astype(np.int64)
    return X


def csr_on_device(device, X):
    """Addresses of X."""
    return [device.put(array)[1] for array in (X.data, X.indices, X.indptr)]


def csr_gradient(device, dtype, shape, accumulate=False):
    """What the kernel makes of x' dy, and what SciPy does."""
    rng, (n, k, m, density) = np.random.default_rng(1), shape
    X = csr_rows(rng, 50, k, density, dtype)
    dy = numbers(rng, (n, m), dtype)
    place, taken = device.rows(n, 50, rng)
    start = numbers(rng, (k, m), dtype) if accumulate else np.full((k, m), np.nan, dtype)
    dW, address = device.put(start)
    device.driver.launch(
        kernel_name("csr_gradient", dtype), -(-k // CSR_COLUMNS), address,
        *csr_on_device(device, X), *place, device.padded(dy, m + 2)[1], n, k, m, m + 2,
        kernels.grid(n, m).lanes, int(accumulate),
    )  # fmt: skip
    expected = X[taken].T.astype(float) @ dy.astype(float)
    device.check()
    return dW, expected + (start if accumulate else 0)


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize("activation", [Activation.IDENTITY, Activation.TANH])
def test_csr_dense(order, dtype, shape, activation):
    rng, (n, k, m, density), device = np.random.default_rng(0), shape, Device(order)
    X = csr_rows(rng, 50, k, density, dtype)
    W, b = numbers(rng, (k, m), dtype), numbers(rng, m, dtype)
    place, taken = device.rows(n, 50, rng)
    y, address, gap = device.padded(np.full((n, m), np.nan, dtype), m + 3)
    grid = kernels.grid(n, m)
    device.driver.launch(
        kernel_name("csr_dense", formula(activation), dtype), grid.blocks, address,
        *csr_on_device(device, X), device.put(W)[1], device.put(b)[1], *place, n, m, m + 3,
        grid.lanes,
    )  # fmt: skip
    of = getattr(reference, activation.name.lower())
    expected = of(X[taken].astype(float) @ W.astype(float) + b)[0]
    np.testing.assert_allclose(y, expected, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
    device.check(gap)


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize("accumulate", [False, True])
def test_csr_gradient(order, dtype, shape, accumulate):
    found, expected = csr_gradient(Device(order), dtype, shape, accumulate)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])


@each_dtype
def test_the_order_of_threads_changes_no_bit(dtype):
    found = [
        csr_gradient(Device(order), dtype, SHAPES[3])[0] for order in ("up", "down", "shuffled")
    ]
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_what_is_not_finite_stays_in_its_columns():
    device = Device("up")
    X = sparse.csr_array(np.array([[0.0, np.nan, 2.0], [1.0, 0.0, 0.0]]))
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int64)
    place = device.rows(2, 1, np.random.default_rng(0))[0]
    device.arrays[-1][-2:] = 0, 1
    dW, address = device.put(np.full((3, 1), 7.0))
    dy = device.put(np.array([[1.0], [np.inf]]))[1]
    device.driver.launch(
        kernel_name("csr_gradient", float), 1, address, *csr_on_device(device, X), *place, dy, 2,
        3, 1, 1, 1, 0,
    )  # fmt: skip
    np.testing.assert_array_equal(dW[:, 0], [np.inf, np.nan, 2])


def test_columns_in_disorder_are_put_in_order():
    """And those that come twice are added up, on a copy."""
    X = sparse.csr_array(
        (np.arange(1.0, 7), np.array([4, 0, 2, 1, 1, 0]), np.array([0, 3, 3, 6])), shape=(3, 5)
    )
    dense, indices = X.toarray(), X.indices.copy()
    device = Device("up")
    data, columns, starts = SparseRows(device.driver, X).arrays
    np.testing.assert_array_equal(columns, [0, 2, 4, 0, 1])
    np.testing.assert_array_equal(X.indices, indices)
    found = sparse.csr_array((data, columns, starts), shape=X.shape).toarray()
    np.testing.assert_array_equal(found, dense)
    assert (columns.dtype, starts.dtype) == (np.int32, np.int64)
