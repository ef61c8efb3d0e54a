"""Threads of a fit: how many, none left behind, and BLAS held at one beside them."""

import _thread
import os
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import sknn._threads as threads
from sknn import MLPClassifier, MLPRegressor
from sknn._threads import choose_n_threads, running

PARAMS = {"hidden_layer_sizes": (30,), "max_iter": 5, "random_state": 0, "tol": 0}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
TASKS = Path("/proc/self/task")


@pytest.fixture(scope="module")
def data():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((300, 20))
    return X, (X[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def large():
    """An epoch takes seconds."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((100_000, 50)).astype(np.float32)
    return X, X[:, 0] > 0


# How many


@pytest.mark.parametrize(
    "flops_per_step, n_steps, n_executors, expected",
    [
        (1e3, 1e9, 1, 1),  # a step is worth no second thread
        (1e9, 1e-3, 1, 1),  # nor is the call
        (4.1e6, 100, 1, 2),
        (8.1e6, 100, 1, 4),
        (1e9, 100, 1, 8),  # as many as there are cores
        (1e9, 100, 3, 2),  # shared with two others
        (1e9, 100, 20, 1),
    ],
)
def test_none_takes_what_the_work_is_worth(
    monkeypatch, flops_per_step, n_steps, n_executors, expected
):
    monkeypatch.setattr(threads, "effective_n_threads", lambda: 8)
    found = choose_n_threads(None, flops_per_step, n_steps, n_executors)
    assert found == expected
    assert choose_n_threads(5, flops_per_step, n_steps, n_executors) == 5


def test_executors_that_run_are_counted(monkeypatch):
    monkeypatch.setattr(threads, "effective_n_threads", lambda: 8)
    assert choose_n_threads(None, 1e9) == 8
    with running(), running():
        assert choose_n_threads(None, 1e9) == 2
    assert choose_n_threads(None, 1e9) == 8


def test_limits_of_scikit_learn_hold():
    assert choose_n_threads(None, 1e12) <= os.cpu_count()
    with threadpool_limits(1):
        assert choose_n_threads(None, 1e12) == 1


# None left behind


@pytest.fixture
def no_thread_stays():
    """As many threads of the system after as before."""
    if not TASKS.exists():
        pytest.skip("counts threads in /proc")
    before = len(list(TASKS.iterdir()))
    yield
    assert len(list(TASKS.iterdir())) == before


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_after_a_fit(no_thread_stays, data, solver):
    MLPClassifier(**PARAMS, n_threads=4, solver=solver).fit(*data).predict(data[0])


def test_after_a_failure(no_thread_stays, data):
    """In the second minibatch."""
    weights = np.r_[np.ones(200), np.zeros(100)]
    estimator = MLPRegressor(**PARAMS, n_threads=4, shuffle=False, batch_size=100)
    with pytest.raises(ZeroDivisionError, match="weights of a minibatch sum to zero"):
        estimator.fit(*data, weights)


def test_after_an_interrupt(no_thread_stays, large):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    try:
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            MLPClassifier((1000, 1000), max_iter=1, n_threads=3).fit(*large)
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_after_a_thread_was_refused(no_thread_stays, data):
    """By a limit of memory, which the stacks of so many threads exceed."""
    estimator = MLPClassifier(**PARAMS, n_threads=500)
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        with pytest.raises(RuntimeError, match=r"refused to start 500 threads\. Set n_threads"):
            estimator.fit(*data)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    estimator.set_params(n_threads=2).fit(*data)


# BLAS


def blas_threads():
    return [library.get_num_threads() for library in threads.scipy_blas_libraries()]


@pytest.fixture
def two_blas_threads():
    libraries = threads.scipy_blas_libraries()
    before = blas_threads()
    for library in libraries:
        library.set_num_threads(2)
    yield
    for library, n in zip(libraries, before, strict=True):
        library.set_num_threads(n)


def test_blas_is_held_until_the_last_executor_ends(two_blas_threads):
    """In whatever order they end."""
    first, second = running(), running()
    first.__enter__()
    assert set(blas_threads()) == {1}
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert set(blas_threads()) == {2}


def test_blas_under_concurrent_fits(two_blas_threads, data):
    """Held while any runs, as it was before once none does; some of the fits fail."""

    def fit(seed):
        estimator = MLPRegressor(
            **{**PARAMS, "random_state": seed}, n_threads=1 + seed % 3, shuffle=False,
            batch_size=100,
        )  # fmt: skip
        weights = np.repeat([1.0, seed % 4 != 0, 1.0], 100)
        try:
            estimator.fit(*data, weights)
        except ZeroDivisionError:
            return "failed"
        return blas_threads()

    with ThreadPoolExecutor(4) as pool:
        with running():
            results = list(pool.map(fit, range(24)))
        n_libraries = len(blas_threads())
        assert results == ["failed", *[[1] * n_libraries] * 3] * 6
        list(pool.map(fit, range(24)))
    assert set(blas_threads()) == {2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_forked_from_a_running_parent(two_blas_threads, data):
    """It runs none of the parent's executors, and BLAS is as it was before them."""
    expected = MLPClassifier(**PARAMS, n_threads=2).fit(*data).predict_proba(data[0])
    with running():
        child = os.fork()
        if child == 0:
            try:
                right = set(blas_threads()) == {2}
                fitted = MLPClassifier(**PARAMS, n_threads=2).fit(*data)
                right &= np.array_equal(fitted.predict_proba(data[0]), expected)
                right &= len(threads._running.executors) == 0
                os._exit(not right)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# More threads than cores


@pytest.mark.slow
def test_many_fits_with_more_threads_than_cores(data):
    """None of them stalls."""
    for seed in range(100):
        MLPClassifier(
            **{**PARAMS, "random_state": seed}, n_threads=4 * os.cpu_count(), batch_size=50
        ).fit(*data)
