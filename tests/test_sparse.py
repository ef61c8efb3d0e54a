"""Sparse X: scikit-learn's numbers from every solver, whatever the rows look like.

With decay, plain gradient descent keeps the weights as a product and their norm as a running
sum, so 1e-8 is asked for where everything else is held to 1e-10.
"""

import pickle
import threading
import tracemalloc
from _thread import interrupt_main

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone

from sknn import MLPClassifier, MLPRegressor
from sknn._kernels.ops import Activation

from .test_parity import (
    SCHEDULES,
    TASKS,
    assert_same,
    call_both,
    check_fit,
    make_pair,
    make_task,
    weights_for,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SOLVERS = {
    "plain": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.1},
    "plain_nesterov": {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": True},
    "momentum": {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "momentum": 0.9},
    "adam": {"solver": "adam"},
}
each_solver = pytest.mark.parametrize("solver", list(SOLVERS))
N_FEATURES = 23


def text_like(n=70, n_features=N_FEATURES, density=0.15, seed=3):
    """Few nonzeros a row; empty rows and columns, repeated and unsorted indices."""
    rng = np.random.default_rng(seed)
    lengths = rng.binomial(n_features, density, n)
    lengths[::11] = 0
    indices = 2 * rng.integers((n_features + 1) // 2, size=lengths.sum())
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.uniform(0.2, 1, len(indices))
    X = sparse.csr_matrix((values, indices, indptr), (n, n_features))
    assert not X.has_canonical_format
    return X


def tolerance(alpha):
    return 1e-8 if alpha else 1e-10


def check(task, X, sample_weight=None, **params):
    _, y = make_task(task, n_samples=X.shape[0])
    rtol = tolerance(params.get("alpha", 1e-4))
    return check_fit(task, X, y, sample_weight=sample_weight, rtol=rtol, **params)


@each_solver
@pytest.mark.parametrize("alpha", [0.0, 1e-4, 2.0])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_solvers(solver, alpha, n_threads, monkeypatch):
    monkeypatch.setattr("sknn._kernels.cpu.executor.choose_n_threads", lambda *_, **__: n_threads)
    check("multiclass", text_like(), alpha=alpha, **SOLVERS[solver])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("solver", ["plain", "adam"])
def test_tasks(task, solver):
    check(task, text_like(), alpha=0.01, **SOLVERS[solver] | {"learning_rate_init": 0.01})


@pytest.mark.parametrize("activation", [activation.name.lower() for activation in Activation])
def test_activations(activation):
    check("binary", text_like(), alpha=0.1, activation=activation, **SOLVERS["plain"])


@pytest.mark.parametrize("hidden_layer_sizes", [(), (1,), (9, 5)])
@pytest.mark.parametrize("task", ["multiclass", "squared_error"])
def test_layers(hidden_layer_sizes, task):
    check(task, text_like(), alpha=0.1, hidden_layer_sizes=hidden_layer_sizes, **SOLVERS["plain"])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_schedules(schedule, shuffle, alpha):
    check(
        "multiclass", text_like(), alpha=alpha, learning_rate=schedule, shuffle=shuffle,
        tol=0.01, n_iter_no_change=2, max_iter=60, **SOLVERS["plain"],
    )  # fmt: skip


@each_solver
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_sample_weights(solver, alpha):
    weights = weights_for(70)
    check("multiclass", text_like(), sample_weight=weights, alpha=alpha, **SOLVERS[solver])


@each_solver
def test_class_weights(solver):
    X, (_, y) = text_like(), make_task("multiclass")
    params = SOLVERS[solver] | {"max_iter": 5, "random_state": 0, "alpha": 0.1}
    weights = {"red": 3.0, "green": 0.5, "blue": 1.0}
    ours = MLPClassifier(class_weight=weights, **params).fit(X, y)
    same = MLPClassifier(**params).fit(X, y, sample_weight=[weights[label] for label in y])
    np.testing.assert_array_equal(ours.coefs_[0], same.coefs_[0])


@each_solver
def test_a_minibatch_without_nonzeros(solver):
    X = sparse.vstack([sparse.csr_matrix((32, N_FEATURES)), text_like(38)], format="csr")
    check("multiclass", X, alpha=0.3, shuffle=False, batch_size=16, **SOLVERS[solver])
    check("binary", sparse.csr_matrix((70, N_FEATURES)), alpha=0.3, **SOLVERS[solver])


@each_solver
def test_partial_fit_and_pickles(solver):
    X, (_, y) = text_like(), make_task("multiclass")
    ours, theirs = make_pair("multiclass", alpha=0.2, **SOLVERS[solver])
    for rows in (slice(0, 30), slice(30, 70), slice(0, 70)):
        options = {} if hasattr(theirs, "classes_") else {"classes": np.unique(y)}
        call_both(ours, theirs, "partial_fit", X[rows], y[rows], **options)
        ours = pickle.loads(pickle.dumps(ours))
        assert_same(ours, theirs, X, 1e-8)


@each_solver
def test_warm_start(solver):
    X, (_, y) = text_like(), make_task("multiclass")
    ours, theirs = make_pair(
        "multiclass", alpha=0.2, warm_start=True, **SOLVERS[solver] | {"max_iter": 4}
    )
    for _ in range(3):
        call_both(ours, theirs, "fit", X, y)
    assert_same(ours, theirs, X, 1e-8)


@each_solver
@pytest.mark.parametrize("task", ["binary", "squared_error"])
def test_early_stopping(solver, task):
    check(task, text_like(), early_stopping=True, validation_fraction=0.3, **SOLVERS[solver])


@pytest.mark.parametrize("task", ["multiclass", "poisson"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_lbfgs(task, n_threads, monkeypatch):
    monkeypatch.setattr("sknn._kernels.cpu.executor.choose_n_threads", lambda *_, **__: n_threads)
    monkeypatch.setattr("sknn._device.EVALUATE_ROWS", 32)
    _, y = make_task(task)
    check_fit(task, text_like(), y, solver="lbfgs", max_iter=12, alpha=0.1, rtol=1e-7)


@pytest.mark.parametrize("form", ["csc_matrix", "csr_array", "coo_array", "int64", "padded"])
@each_solver
def test_forms_of_the_same_matrix(solver, form):
    X, (_, y) = text_like(), make_task("binary")
    before = X.copy()
    params = SOLVERS[solver] | {"max_iter": 3, "random_state": 0, "alpha": 0.1}
    expected = MLPClassifier(**params).fit(X.toarray(), y).coefs_[0]
    if form == "int64":
        other = X.copy()
        other.indptr, other.indices = X.indptr.astype(np.int64), X.indices.astype(np.int64)
    elif form == "padded":  # arrays may be longer than the matrix
        other = X.copy()
        other.indices = np.append(X.indices, [9999, -3]).astype(np.int32)
        other.data = np.append(X.data, [7.0, 7.0])
    else:
        other = getattr(sparse, form)(X)
    np.testing.assert_allclose(
        MLPClassifier(**params).fit(other, y).coefs_[0], expected, rtol=1e-9, atol=1e-12
    )
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(X, name), getattr(before, name))


@settings(max_examples=40)
@given(
    n=st.integers(2, 60),
    n_features=st.integers(1, 50),
    density=st.floats(0, 0.5),
    solver=st.sampled_from(list(SOLVERS)),
    n_threads=st.integers(1, 4),
    batch_size=st.integers(1, 30),
    alpha=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 100),
)
def test_any_matrix(n, n_features, density, solver, n_threads, batch_size, alpha, seed):
    """scikit-learn's numbers, and the same ones again from as many threads."""
    X = sparse.random(n, n_features, density, "csr", random_state=seed)
    y = np.random.default_rng(seed).standard_normal(n)
    params = SOLVERS[solver] | {
        "alpha": alpha, "batch_size": min(batch_size, n), "max_iter": 3, "activation": "tanh",
        "learning_rate_init": 0.01,
    }  # fmt: skip
    ours, theirs = make_pair("squared_error", **params)
    ours.set_params(n_threads=n_threads)
    call_both(ours, theirs, "fit", X, y)
    for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance(alpha))
    again = clone(ours)
    call_both(again, clone(theirs), "fit", X, y)
    np.testing.assert_array_equal(ours.coefs_[0], again.coefs_[0])


def test_float32_stays_close():
    X, (_, y) = text_like(), make_task("multiclass")
    for solver in SOLVERS.values():
        params = solver | {"max_iter": 20, "random_state": 0, "alpha": 0.5}
        wide = MLPClassifier(**params).fit(X, y)
        narrow = MLPClassifier(**params).fit(X.astype(np.float32), y)
        assert narrow.coefs_[0].dtype == np.float32
        np.testing.assert_allclose(narrow.loss_curve_, wide.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_interrupted_epoch_leaves_the_true_weights(n_threads):
    """Rows without nonzeros shrink all weights by the same factor at every step."""
    n, rate, alpha = 1_000_000, 0.01, 1e-4
    X, y = sparse.csr_matrix((n, 20)), np.zeros(n)
    params = {
        "hidden_layer_sizes": (5,), "solver": "sgd", "momentum": 0, "batch_size": 1,
        "max_iter": 1, "random_state": 0, "learning_rate_init": rate, "n_threads": n_threads,
    }  # fmt: skip
    start = MLPRegressor(alpha=0.0, **params).fit(X[:1], y[:1]).coefs_[0]
    interrupter = threading.Timer(0.3, interrupt_main)
    interrupter.start()
    with pytest.warns(UserWarning, match="interrupted"):
        shrunk = MLPRegressor(alpha=alpha, **params).fit(X, y).coefs_[0]
    interrupter.join()
    factor = 1 - rate * alpha
    n_steps = np.round(np.log(shrunk[0, 0] / start[0, 0]) / np.log(factor))
    assert 0 < n_steps < n
    np.testing.assert_allclose(shrunk, start * factor**n_steps, rtol=1e-8)


def test_a_failing_minibatch_leaves_the_true_weights():
    """Its weights sum to zero, after others that have changed the scale."""
    X = text_like(40)
    _, y = make_task("squared_error", n_samples=40)
    weights = np.repeat([1.0, 0.0], 20)
    params = {
        "hidden_layer_sizes": (5,), "solver": "sgd", "momentum": 0, "alpha": 5.0,
        "batch_size": 10, "shuffle": False, "random_state": 0, "learning_rate_init": 1.0,
        "max_iter": 1, "warm_start": True,
    }  # fmt: skip
    ours, expected = (MLPRegressor(**params).fit(X[:20], y[:20]) for _ in range(2))
    with pytest.raises(ZeroDivisionError):
        ours.fit(X, y, sample_weight=weights)
    expected.fit(X[:20], y[:20])
    np.testing.assert_allclose(ours.coefs_[0], expected.coefs_[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("solver, copies", [("plain", 0), ("momentum", 1), ("adam", 2)])
def test_no_dense_copy_of_the_weights_but_slots(solver, copies):
    X = sparse.random(2000, 60_000, 1e-3, "csr", random_state=0)
    y = np.arange(2000) % 3
    weights = 60_000 * 50 * 8
    network = MLPClassifier((50,), max_iter=2, random_state=0, n_threads=2, **SOLVERS[solver])
    network.partial_fit(X, y, classes=[0, 1, 2])  # draws and rounds them, which takes some
    network._optimizer.slots = None
    tracemalloc.start()
    network.partial_fit(X, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # the check for finite weights takes a byte of eight, columns 8 bytes a thread, and
    # products some of their own
    assert peak < (copies + 0.3) * weights
