"""Sparse rows against the same rows made dense, which take another way through every step."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sknn import losses, optimizers, schedules
from sknn._kernels.cpu.executor import split_columns
from sknn._validation import prepare_X

from .cases import Case, GuardedMemory, make_executor

OPTIMIZERS = {
    "plain descent": lambda p, rate: optimizers.SGD(p, schedules.Constant(rate), 0.0, True),
    "momentum": lambda p, rate: optimizers.SGD(p, schedules.Constant(rate), 0.9, False),
    "adam": lambda p, rate: optimizers.Adam(p, rate, 0.9, 0.999, 1e-8),
}


def messy_csr(n, n_features, density, seed):
    """Rows with repeated and unsorted indices; some rows and columns are empty."""
    rng = np.random.default_rng(seed)
    n_nonzeros = rng.binomial(n * n_features, density)
    rows = np.sort(rng.integers(n, size=n_nonzeros))
    indices = rng.integers(n_features, size=n_nonzeros)
    indptr = np.searchsorted(rows, np.arange(n + 1))
    X = sparse.csr_array((rng.uniform(-1, 1, n_nonzeros), indices, indptr), (n, n_features))
    return X


def train(case, X, name, *, alpha, rate, order, batch_size, n_threads=1, epochs=2, dtype=float,
          start=None, weighted=True):  # fmt: skip
    """The losses of some epochs, and the parameters then."""
    memory = GuardedMemory()
    _, y, weights = replace(case, sparse=True).data(X.shape[0])  # the same for both forms
    y = y if y.dtype == np.int32 else y.astype(dtype)
    run = make_executor(case, np.dtype(dtype), batch_size, n_threads)
    run.bind(prepare_X(X.astype(dtype), np.dtype(dtype)), y, weights if weighted else None)
    parameters = memory.copy((case.parameters() if start is None else start).astype(dtype))
    optimizer = OPTIMIZERS[name](parameters, rate)
    reported = [
        run.train_epoch(parameters, optimizer, order, batch_size, alpha) for _ in range(epochs)
    ]
    memory.check()
    return reported, parameters.copy()


def same_network(sizes, activation="relu", loss=losses.SOFTMAX_LOG_LOSS, seed=0):
    """As a program over sparse rows, and over dense ones."""
    return tuple(Case(loss, activation, sizes, is_sparse, seed) for is_sparse in (True, False))


@settings(max_examples=120)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple),
    loss=st.sampled_from(losses.LOSSES),
    name=st.sampled_from(list(OPTIMIZERS)),
    n=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    n_threads=st.integers(1, 4),
    density=st.floats(0, 0.6),
    alpha=st.sampled_from([0.0, 0.1, 3.0]),
    seed=st.integers(0, 1000),
)
def test_any_shape(sizes, loss, name, n, batch_size, n_threads, density, alpha, seed):
    csr, dense = same_network(sizes, "tanh", loss, seed)
    X = messy_csr(n, sizes[0], density, seed)
    order = np.random.default_rng(seed).permutation(n)
    settings = {"alpha": alpha, "rate": 0.01, "order": order, "batch_size": min(batch_size, n)}
    expected_losses, expected = train(dense, X.toarray(), name, **settings)
    reported, parameters = train(csr, X, name, n_threads=n_threads, **settings)
    np.testing.assert_allclose(reported, expected_losses, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(parameters, expected, rtol=1e-7, atol=1e-9)
    _, again = train(csr, X, name, n_threads=n_threads, **settings)
    np.testing.assert_array_equal(parameters, again)


@pytest.mark.parametrize("alpha", [10.0, 10.5, 9.999999, 19.0, 21.0, 30.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_scale_that_vanishes_or_grows_is_folded(alpha, dtype, n_threads):
    """Decay that leaves nothing, changes the sign, or grows the weights at each of 60 steps."""
    csr, dense = same_network((9, 5, 3), "identity", losses.SIGMOID_LOG_LOSS)
    X = messy_csr(60, 9, 0.1, 4)
    settings = {"alpha": alpha, "rate": 0.1, "order": np.arange(60), "batch_size": 1}
    settings |= {"epochs": 1, "weighted": False}
    expected_loss, expected = train(dense, X.toarray(), "plain descent", **settings)
    loss, parameters = train(csr, X, "plain descent", dtype=dtype, n_threads=n_threads, **settings)
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(loss, expected_loss, rtol=tolerance)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(parameters, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_steps_of_many_small_parts(n_threads):
    """Each nonzero moves a weight by less than float32 can say, all of a minibatch do not."""
    csr, _ = same_network((3, 20, 2), "identity", losses.REGRESSION["squared_error"])
    X = sparse.csr_array(np.random.default_rng(0).uniform(0.5, 1, (4000, 3)))
    settings = {"alpha": 0.1, "rate": 1e-6, "order": np.arange(4000), "batch_size": 4000}
    start = csr.parameters().astype(np.float32)
    _, expected = train(csr, X, "plain descent", start=start, **settings)
    _, parameters = train(csr, X, "plain descent", dtype=np.float32, n_threads=n_threads,
                          start=start, **settings)  # fmt: skip
    moved = [csr.program.views(p - start)[0] for p in (expected, parameters)]
    np.testing.assert_allclose(*moved, atol=0.1 * np.abs(moved[0]).max())


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("n_threads", [1, 3])
def test_rows_of_absent_columns_are_not_read(name, n_threads):
    """They hold NaN, and nothing else becomes NaN."""
    csr, _ = same_network((30, 7, 3))
    X = messy_csr(25, 30, 0.1, 5)
    X = sparse.csr_array(X.toarray() * (np.arange(30) % 3 != 1))
    start = csr.parameters()
    csr.program.views(start)[0][1::3] = np.nan
    settings = {"alpha": 0.0, "rate": 0.1, "order": np.arange(25), "batch_size": 4}
    _, expected = train(csr, X, name, **settings)
    losses_, parameters = train(csr, X, name, start=start, n_threads=n_threads, **settings)
    if name == "plain descent":
        assert np.isfinite(losses_).all()
    expected, ours = csr.program.views(expected), csr.program.views(parameters)
    assert np.isnan(ours[0][1::3]).all()
    expected[0][1::3] = ours[0][1::3] = 0
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_wide_layers_and_many_columns(name):
    """Slices of one row, of a few, of many; rows longer than what is fetched ahead."""
    for sizes in ((3, 5000, 2), (40, 300, 2), (3000, 3, 2)):
        csr, dense = same_network(sizes)
        X = messy_csr(20, sizes[0], 0.1, 6)
        settings = {"alpha": 0.1, "rate": 0.01, "order": np.arange(20), "batch_size": 8}
        expected_losses, expected = train(dense, X.toarray(), name, **settings)
        reported, parameters = train(csr, X, name, n_threads=2, **settings)
        np.testing.assert_allclose(reported, expected_losses, rtol=1e-10)
        np.testing.assert_allclose(parameters, expected, rtol=1e-7, atol=1e-9)


def test_rows_may_repeat_in_an_order():
    """A minibatch may then have more nonzeros than any of distinct rows."""
    csr, dense = same_network((12, 4, 3))
    X = messy_csr(10, 12, 0.2, 7)
    fullest = np.diff(X.indptr).argmax()
    settings = {"alpha": 0.1, "rate": 0.1, "order": np.full(10, fullest), "batch_size": 5}
    _, expected = train(dense, X.toarray(), "adam", **settings)
    _, parameters = train(csr, X, "adam", n_threads=2, **settings)
    np.testing.assert_allclose(parameters, expected, rtol=1e-9, atol=1e-12)


def test_columns_are_split_by_nonzeros():
    rng = np.random.default_rng(0)
    columns = np.minimum(rng.zipf(1.5, size=(200, 10)) - 1, 99)
    X = sparse.csr_array((np.ones(2000), columns.ravel(), np.arange(0, 2001, 10)), (200, 100))
    for n_threads in (1, 2, 3, 200):
        splits = split_columns(prepare_X(X, np.dtype(float)), n_threads)
        assert splits[0] == 0 and splits[-1] == 100 and len(splits) == n_threads + 1
        assert (np.diff(splits) >= 0).all()
    shares = [
        np.isin(columns, np.arange(splits[0], splits[1])).sum()
        for splits in (split_columns(prepare_X(X, np.dtype(float)), 2),)
    ]
    most_frequent = (columns == 0).sum()
    assert abs(shares[0] - 1000) <= most_frequent
