"""Predictions skip scikit-learn's checks where these could find nothing; all else is as it was."""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import sklearn
import sklearn.neural_network
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import LabelBinarizer

from sknn import MLPClassifier, MLPRegressor, _base
from sknn._targets import LabelEncoder

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1 or larger"),
]

PARAMS = {"hidden_layer_sizes": (7, 5), "max_iter": 4, "random_state": 0}
RNG = np.random.RandomState(0)
X = RNG.standard_normal((90, 6))
LABELS = np.digitize(X[:, 0] + 0.2 * X[:, 1], [-0.5, 0.7])

TARGETS = {
    "multiclass": LABELS,
    "binary": LABELS > 0,
    "single class": np.full(90, "only"),
    "multilabel": np.c_[LABELS > 0, LABELS > 1, LABELS == 1].astype(int),
    "strings": np.array(["a", "bb", "ccc"])[LABELS],
    "objects": np.array(["a", "bb", "ccc"], object)[LABELS],
    "binary strings": np.array(["no", "yes"])[(LABELS > 0).astype(int)],
    "one number": X[:, 0],
    "two numbers": X[:, :2],
}


def fit(kind, cls=None, X=X, **params):
    default = MLPRegressor if kind.endswith(("number", "numbers")) else MLPClassifier
    return (cls or default)(**{**PARAMS, **params}).fit(X, TARGETS[kind])


def methods(estimator):
    names = ("predict", "predict_proba", "predict_log_proba")
    return [getattr(estimator, name) for name in names if hasattr(estimator, name)]


@pytest.fixture
def checked(monkeypatch):
    """The X that scikit-learn checked."""
    seen = []

    def check_data(estimator, X, **options):
        seen.append(X)
        return original(estimator, X, **options)

    original = _base.check_data
    monkeypatch.setattr(_base, "check_data", check_data)
    return seen


# What takes the short way, and that it ends where the long one does


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("fitted_with", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_same_bits_without_checks(kind, fitted_with, given, dtype, checked):
    """Of one row, some rows and many."""
    estimator = fit(kind, X=X.astype(fitted_with), dtype=dtype)
    for n in (1, 3, 600):
        rows = np.resize(X, (n, 6)).astype(given)
        for method in methods(estimator):
            checked.clear()
            quick = method(rows)
            assert not checked
            slow = method(rows.view(Subclass))
            assert len(checked) == 1
            np.testing.assert_array_equal(quick, slow)
            assert quick.dtype == slow.dtype and type(quick) is np.ndarray


class Subclass(np.ndarray):
    """An array that scikit-learn has to look at."""


def copied_by_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def with_replaced_arrays(estimator):
    estimator.coefs_ = [2 * array for array in estimator.coefs_]
    return estimator


def with_array_put_in(estimator):
    estimator.intercepts_[0] = estimator.intercepts_[0] + 1
    return estimator


def with_change_in_place(estimator):
    estimator.coefs_[-1][...] *= -1
    return estimator


def with_another_activation(estimator):
    return estimator.set_params(activation="tanh")


@pytest.mark.parametrize("kind", ["multiclass", "one number"])
@pytest.mark.parametrize(
    "change",
    [
        copied_by_pickle, copy.deepcopy, with_replaced_arrays, with_array_put_in,
        with_change_in_place, with_another_activation,
        lambda e: e.set_params(dtype="float32"),
        lambda e: e.partial_fit(X[:30], TARGETS["multiclass"][:30]),
        lambda e: sklearn.clone(e).set_params(max_iter=7).fit(X, TARGETS["multiclass"]),
        lambda e: e.set_params(hidden_layer_sizes=(3,)).fit(X, TARGETS["multiclass"]),
        lambda e: e.fit(X.astype(np.float32), TARGETS["multiclass"]),
    ],
)  # fmt: skip
def test_the_model_of_now(kind, change, checked):
    """After a prediction, nothing of it is left that a change would have to reach."""
    estimator = fit(kind)
    methods(estimator)[-1](X[:1])
    size = len(pickle.dumps(estimator))
    before = methods(estimator)[-1](X)
    assert len(pickle.dumps(estimator)) == size
    estimator = change(estimator)
    checked.clear()
    after = methods(estimator)[-1](X)
    assert not checked
    np.testing.assert_array_equal(after, methods(estimator)[-1](X.view(Subclass)))
    unchanged = change in (copied_by_pickle, copy.deepcopy)
    same_numbers = unchanged or estimator.dtype == "float32"
    assert np.array_equal(after, before) == same_numbers


def test_subclasses(checked):
    """Of our estimators: what they override is called."""

    class Doubled(MLPRegressor):
        def _forward(self, X):
            return 2 * super()._forward(X)

    plain, doubled = fit("one number"), fit("one number", Doubled)
    checked.clear()
    np.testing.assert_array_equal(doubled.predict(X), 2 * plain.predict(X))
    assert not checked


# What does not


NOT_PLAIN = {
    "list": lambda X: X.tolist(),
    "Fortran order": np.asfortranarray,
    "every other column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "swapped bytes": lambda X: X.astype(X.dtype.newbyteorder()),
    "integers": lambda X: X.astype(int),
    "uint8": lambda X: X.astype(np.uint8),
    "float16": lambda X: X.astype(np.float16),
    "objects": lambda X: X.astype(object),
    "memory map": lambda X: X.view(np.memmap),
    "frame": pd.DataFrame,
    "CSR": sparse.csr_array,
    "CSC": sparse.csc_matrix,
    "no rows": lambda X: X[:0],
    "one row short": lambda X: X[0],
    "three dimensions": lambda X: X[None],
    "too few features": lambda X: X[:, :3].copy(),
    "too many features": lambda X: np.c_[X, X],
    "NaN": lambda X: changed(X, np.nan),
    "infinity": lambda X: changed(X, -np.inf),
    "sparse NaN": lambda X: sparse.csr_array(changed(X, np.nan)),
    "complex": lambda X: X.astype(complex),
    "masked": lambda X: np.ma.masked_array(X),
}


def changed(X, value):
    X = X.copy()
    X[len(X) // 2, 3] = value
    return X


def outcome(method, X):
    """What a call returns, raises and warns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = method(X)
        except Exception as error:
            result = type(error), str(error)
    return result, [(w.category, str(w.message)) for w in caught]


@pytest.mark.parametrize("form", NOT_PLAIN)
@pytest.mark.parametrize("n", [1, 90])
@pytest.mark.parametrize("kind", ["multiclass", "one number"])
def test_all_else_is_checked(form, n, kind, checked):
    """And is taken, or refused, with the words of scikit-learn."""
    ours = fit(kind)
    theirs = getattr(sklearn.neural_network, type(ours).__name__)(**PARAMS)
    theirs.fit(X, TARGETS[kind])
    given = NOT_PLAIN[form](X[:n])
    for method in (m.__name__ for m in methods(ours)[:2]):
        checked.clear()
        (found, our_warnings), (expected, their_warnings) = (
            outcome(getattr(e, method), given) for e in (ours, theirs)
        )
        plain = form in ("Fortran order", "every other column") and given.flags.c_contiguous
        assert bool(checked) != plain
        assert our_warnings == their_warnings
        if isinstance(expected, tuple):
            assert found[0] is expected[0]
            assert found[1] == expected[1].replace(type(theirs).__module__, type(ours).__module__)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_values_that_float32_cannot_hold():
    """Finite as they are."""
    estimator = fit("multiclass", dtype="float32")
    with pytest.raises(ValueError, match=r"too large for dtype\('float32'\): 1e\+39"):
        estimator.predict(changed(X, 1e39))
    assert estimator.predict(changed(X, 3e38)).shape == (90,)


def test_finite_by_assumption():
    """Then even NaN goes through."""
    estimator = fit("one number")
    with sklearn.config_context(assume_finite=True):
        found = estimator.predict(changed(X, np.nan))
    assert np.isnan(found[45]) and np.isfinite(np.delete(found, 45)).all()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        estimator.predict(changed(X, np.nan))


@pytest.mark.parametrize("kind", ["multiclass", "one number"])
def test_names_of_features(kind, checked):
    """A model that knows names warns of X without, whatever else is right about it."""
    frame = pd.DataFrame(X, columns=list("uvwxyz"))
    estimator = fit(kind, X=frame)
    checked.clear()
    for n in (1, 90):
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            found = estimator.predict(X[:n])
        np.testing.assert_array_equal(found, estimator.predict(frame[:n]))
    assert len(checked) == 4
    estimator.fit(X, TARGETS[kind])
    checked.clear()
    estimator.predict(X)
    assert not checked


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_not_fitted(cls):
    estimator = cls()
    for method in methods(estimator):
        with pytest.raises(NotFittedError, match=f"This {cls.__name__} instance is not fitted"):
            method(X)


# Labels


LABELLED = {kind: y for kind, y in TARGETS.items() if "number" not in kind}
SPARSE = {
    form.__name__: form(LABELLED["multilabel"]) for form in (sparse.csr_matrix, sparse.csr_array)
}


@pytest.mark.parametrize("y", [*LABELLED.values(), *SPARSE.values()], ids=[*LABELLED, *SPARSE])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_decoding_is_that_of_the_binarizer(y, dtype):
    """Ties, probabilities of one half, infinities and NaN included."""
    encoder, binarizer = LabelEncoder(y), LabelBinarizer().fit(y)
    values = [0, 0.25, 0.5, np.nextafter(dtype(0.5), dtype(1)), 0.75, 1, np.nan, np.inf]
    outputs = np.random.RandomState(0).choice(values, (400, encoder.n_outputs)).astype(dtype)
    for rows in outputs, outputs[:1], np.full_like(outputs, np.nan):
        expected = binarizer.inverse_transform(rows.ravel() if encoder.n_outputs == 1 else rows)
        found = encoder.decode(rows)
        assert type(found) is type(expected) and found.dtype == expected.dtype
        if sparse.issparse(found):
            found, expected = found.toarray(), expected.toarray()
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", LABELLED)
def test_probabilities_of_all_classes(kind):
    """Those of two classes follow from one output; they sum to one, as scikit-learn's do."""
    estimator = fit(kind)
    theirs = sklearn.neural_network.MLPClassifier(**PARAMS).fit(X, TARGETS[kind])
    for n in (1, 90):
        found = estimator.predict_proba(X[:n])
        np.testing.assert_allclose(found, theirs.predict_proba(X[:n]), rtol=1e-9)
        np.testing.assert_array_equal(estimator.predict(X[:n]), theirs.predict(X[:n]))


# Threads and memory


@pytest.mark.parametrize("n", [1, 7, 50, 3000])
def test_one_estimator_in_many_threads(n):
    """Each call has memory of its own, even where the arrays in coefs_ are to be packed."""
    estimator = fit("multiclass")
    chunks = [np.roll(np.resize(X, (n, 6)), i, axis=1) for i in range(6)]
    expected = [estimator.predict_proba(chunk) for chunk in chunks]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            estimator.coefs_ = [array.copy() for array in estimator.coefs_]
            for found, right in zip(
                pool.map(estimator.predict_proba, chunks), expected, strict=True
            ):
                np.testing.assert_array_equal(found, right)
    before = estimator.predict_proba(X)
    estimator.coefs_[0] *= 3
    assert not np.array_equal(estimator.predict_proba(X), before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_threads_that_the_system_refuses():
    """An error, rather than fewer rows."""
    import resource

    estimator = fit("multiclass", n_threads=3_000)
    rows = np.resize(X, (3_000, 6))
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (in_use + (1 << 28), hard))
        with pytest.raises(RuntimeError, match="refused to start 3000 threads"):
            estimator.predict(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert estimator.set_params(n_threads=2).predict(rows).shape == (3_000,)


MEMORY = """
import numpy as np
from sknn import MLPRegressor

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if "VmHWM" in line)

rng = np.random.default_rng(0)
X = rng.random((40_000, 2), dtype=np.float32){given}
wide = MLPRegressor("squared_error", ({units},), max_iter=1, n_threads={n_threads})
wide.fit(X[:10].astype(np.float32), X[:10, 0])
wide.predict(X[:100])
before = peak()
wide.predict(X)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("given", ["", ".astype(float)"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_memory_does_not_grow_with_the_rows(given, n_threads):
    """Of a wide layer there are the values of some hundred rows, not of all 40,000."""
    units = 5_000
    code = MEMORY.format(given=given, units=units, n_threads=n_threads)
    path = os.pathsep.join(p for p in sys.path if p)
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    ).stdout  # fmt: skip
    of_all_rows = 40_000 * units * 4
    assert int(output) < of_all_rows / 20
