"""What we add to scikit-learn's two classes: dtype, class_weight, threads, state, input."""

import copy
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import numpy as np
import pytest
import sklearn.neural_network
from scipy import sparse
from sklearn import config_context
from sklearn.linear_model import SGDClassifier
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_info, threadpool_limits

from sknn import MLPClassifier, MLPRegressor, Perceptron

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1 or larger"),
]

BOTH = [MLPClassifier, MLPRegressor]
PARAMS = {"hidden_layer_sizes": (7, 5), "max_iter": 4, "random_state": 0, "batch_size": 16}


def make_data(n_samples=90, n_features=6, seed=0):
    """Four times as many rows of class 0 as of class 2."""
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n_samples, n_features))
    return X, np.digitize(X[:, 0] + 0.2 * X[:, 1], [0.3, 1.0])


def parameters(estimator):
    return estimator.coefs_ + estimator.intercepts_


def n_bytes(estimator):
    return sum(array.nbytes for array in parameters(estimator))


def assert_same_parameters(a, b, rtol=0.0):
    for left, right in zip(parameters(a), parameters(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol)


def theirs_like(estimator):
    """scikit-learn's estimator with the parameters that it knows."""
    cls = getattr(sklearn.neural_network, type(estimator).__name__)
    known = cls().get_params()
    return cls(**{name: v for name, v in estimator.get_params().items() if name in known})


# targets


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("change", [lambda Y: 255 * Y, lambda Y: 2.0 * Y, sparse.csr_array,
                                    lambda Y: sparse.csr_array(3 * Y)])  # fmt: skip
def test_what_is_not_zero_in_an_indicator_matrix_is_a_label(solver, change):
    X, y = make_data()
    Y = np.eye(3, dtype=np.uint8)[y] | np.eye(3, dtype=np.uint8)[y // 2]
    expected = MLPClassifier(**PARAMS, solver=solver).fit(X, Y)
    assert_same_parameters(MLPClassifier(**PARAMS, solver=solver).fit(X, change(Y)), expected)
    theirs = theirs_like(expected).fit(X, change(Y))
    np.testing.assert_allclose(expected.loss_, theirs.loss_, rtol=1e-8)


@pytest.mark.parametrize("classes", [[0, 1], [1, 2, 3], ["a", "b", "c"]])
def test_classes_of_an_indicator_matrix(classes):
    X, y = make_data()
    for estimator in (MLPClassifier(**PARAMS), theirs_like(MLPClassifier(**PARAMS))):
        with pytest.raises(ValueError, match="`y` has classes not in"):
            estimator.partial_fit(X, np.eye(3, dtype=int)[y], classes=classes)


# failing fits


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("warm_start", [False, True])
def test_lbfgs_that_fails_leaves_the_network_as_it_was(cls, warm_start, monkeypatch):
    X, y = make_data()
    model = cls(**PARAMS, solver="lbfgs", warm_start=warm_start).fit(X, y)
    expected, attributes = model.predict(X), set(vars(model))

    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("scipy.optimize.minimize", fail)
    if not warm_start:
        model.set_params(hidden_layer_sizes=(9,))
    with pytest.raises(MemoryError):
        model.fit(X + 1, y)
    np.testing.assert_array_equal(model.predict(X), expected)
    assert set(vars(model)) == attributes


def test_steps_before_one_that_fails_count():
    X, y = make_data()
    weights = np.repeat([1.0, 0.0], 45)
    ours = MLPClassifier(**PARAMS, shuffle=False)
    theirs = theirs_like(ours)
    for model in (ours, theirs):
        model.partial_fit(X, y, classes=[0, 1, 2])
        with pytest.raises(ZeroDivisionError):
            model.partial_fit(X, y, sample_weight=weights)
        model.partial_fit(X, y)
    assert_same_parameters(ours, theirs, rtol=1e-10)


# dtype


def test_lbfgs_computes_in_float64_after_a_fit_in_float32():
    X, y = make_data()
    X = X.astype(np.float32)
    model = MLPClassifier(**PARAMS, warm_start=True).fit(X, y)
    assert model.coefs_[0].dtype == np.float32
    assert model.set_params(solver="lbfgs").fit(X, y).coefs_[0].dtype == np.float64


def test_powers_that_vanish_are_no_error():
    X, y = make_data(20)
    with np.errstate(all="raise"):
        MLPClassifier((3,), batch_size=2, beta_1=0.01, max_iter=40, tol=0).fit(X, y)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("given", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_dtype(cls, given, dtype, solver):
    """None follows X, all but float32 being float64; a name forces it."""
    X, y = make_data()
    X = (10 * X).astype(given)
    estimator = cls(**PARAMS, solver=solver, dtype=dtype).fit(X, y)
    expected = np.dtype(dtype or ("float32" if given == "float32" else "float64"))
    assert {array.dtype for array in parameters(estimator)} == {expected}
    prediction = estimator.predict_proba(X) if cls is MLPClassifier else estimator.predict(X)
    if dtype is not None:
        assert prediction.dtype == expected
        assert_same_parameters(estimator, cls(**PARAMS, solver=solver).fit(X.astype(dtype), y))
        estimator.partial_fit(X, y)
        assert {array.dtype for array in parameters(estimator)} == {expected}


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("fitted", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float32", "float64", "int64"])
def test_dtype_of_predictions(cls, container, fitted, given):
    """With dtype=None a prediction has the type that scikit-learn's has."""
    X, y = make_data()
    X = 10 * X
    ours = cls(**PARAMS)
    method = "predict_proba" if cls is MLPClassifier else "predict"
    new = container(X.astype(given))
    ours, theirs = (
        getattr(estimator.fit(X.astype(fitted), y), method)(new)
        for estimator in (ours, theirs_like(ours))
    )
    assert ours.dtype == theirs.dtype
    single = "float32" in (fitted, given)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-3 if single else 0)


def test_float32_takes_half_the_memory():
    X, y = make_data()
    single, double = (MLPClassifier(**PARAMS, dtype=d).fit(X, y) for d in ("float32", "float64"))
    assert n_bytes(single) * 2 == n_bytes(double)
    np.testing.assert_allclose(single.predict_proba(X), double.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("cls", BOTH)
def test_change_of_dtype_between_calls(cls):
    """What was learned goes on in the other type, the optimizer's vectors too."""
    X, y = make_data()
    estimator = cls(**PARAMS, dtype="float32").fit(X, y)
    before = estimator.coefs_[0].copy()
    estimator.set_params(dtype="float64", learning_rate_init=1e-9).partial_fit(X, y)
    assert {array.dtype for array in parameters(estimator)} == {np.dtype(np.float64)}
    np.testing.assert_allclose(estimator.coefs_[0], before, atol=2e-2)
    estimator.set_params(dtype="float32", warm_start=True).fit(X, y)
    assert {array.dtype for array in parameters(estimator)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("dtype", ["float16", "int", np.float16, 32])
def test_other_dtypes_are_refused(cls, dtype):
    with pytest.raises(ValueError, match="'dtype' parameter"):
        cls(dtype=dtype).fit(*make_data())


# class_weight


@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "b", "c"]], ids=str)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", ["balanced", "dict", "dict for one class"])
def test_class_weight_is_sample_weight(labels, solver, kind):
    X, y = make_data()
    labels = np.array(labels)
    y = labels[y]
    class_weight = {
        "balanced": "balanced",
        "dict": dict(zip(labels.tolist(), [0.5, 1, 4], strict=True)),
        "dict for one class": {labels[2].item(): 5},
    }[kind]
    params = {**PARAMS, "solver": solver}
    weighted = MLPClassifier(**params, class_weight=class_weight).fit(X, y)
    equivalent = MLPClassifier(**params).fit(X, y, compute_sample_weight(class_weight, y))
    assert_same_parameters(weighted, equivalent, rtol=1e-7 if solver == "lbfgs" else 1e-12)
    assert not np.allclose(weighted.coefs_[0], MLPClassifier(**params).fit(X, y).coefs_[0])


def test_class_weight_multiplies_sample_weight():
    X, y = make_data()
    sample_weight = np.random.RandomState(1).uniform(size=len(y))
    class_weight = {0: 0.3, 1: 2, 2: 3}
    product = sample_weight * compute_sample_weight(class_weight, y)
    for method, kwargs in ("fit", {}), ("partial_fit", {"classes": [0, 1, 2]}):
        weighted = MLPClassifier(**PARAMS, class_weight=class_weight)
        getattr(weighted, method)(X, y, sample_weight=sample_weight, **kwargs)
        equivalent = MLPClassifier(**PARAMS)
        getattr(equivalent, method)(X, y, sample_weight=product, **kwargs)
        assert_same_parameters(weighted, equivalent, rtol=1e-12)


def test_balanced_helps_the_rare_class():
    X, y = make_data(400)
    params = {**PARAMS, "max_iter": 60}
    plain, balanced = (
        MLPClassifier(**params, class_weight=w).fit(X, y).predict(X) for w in (None, "balanced")
    )
    assert (balanced == 2).sum() > (plain == 2).sum()


def test_balanced_needs_all_the_data():
    X, y = make_data()
    for classifier in (
        MLPClassifier(class_weight="balanced"),
        SGDClassifier(class_weight="balanced"),
    ):
        with pytest.raises(
            ValueError, match="class_weight 'balanced' is not supported for partial_fit"
        ):
            classifier.partial_fit(X, y, classes=[0, 1, 2])


@pytest.mark.parametrize("class_weight", [{7: 2.0}, "even", [1, 2, 3]], ids=str)
def test_wrong_class_weight(class_weight):
    X, y = make_data()
    for classifier in (
        MLPClassifier(class_weight=class_weight),
        SGDClassifier(class_weight=class_weight),
    ):
        with pytest.raises(ValueError, match=r"class_weight|classes"):
            classifier.fit(X, y)


@pytest.mark.parametrize("cls", [MLPClassifier, Perceptron])
@pytest.mark.parametrize("weight", [np.nan, np.inf, "a", None, [1.0]], ids=str)
def test_class_weight_that_is_no_number(cls, weight):
    X, y = make_data()
    classifier = cls(class_weight={0: 1, 2: weight})
    for call in (classifier.fit, partial(classifier.partial_fit, classes=[0, 1, 2])):
        with pytest.raises(ValueError, match=r"class_weight has .* for the class 2, but the"):
            call(X, y)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_class_weight_for_several_labels(container):
    """The weights of a row's columns are multiplied; a dict cannot say whose they are."""
    X, y = make_data()
    Y = np.column_stack([y == 2, y > 0]).astype(int)
    weighted = MLPClassifier(**PARAMS, class_weight="balanced").fit(X, container(Y))
    equivalent = MLPClassifier(**PARAMS).fit(X, Y, compute_sample_weight("balanced", Y))
    assert_same_parameters(weighted, equivalent, rtol=1e-12)
    assert not np.allclose(weighted.coefs_[0], MLPClassifier(**PARAMS).fit(X, Y).coefs_[0])
    with pytest.raises(ValueError, match=r"label indicator matrix.*class_weight='balanced'"):
        MLPClassifier(**PARAMS, class_weight={0: 1, 1: 5}).fit(X, container(Y))


# n_threads


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    "solver, n_samples, sizes",
    [
        ("sgd", 150, (7, 5)),
        ("sgd", 150, (600, 500)),
        ("sgd", 3000, (7, 5)),
        ("adam", 150, (100,)),
        ("adam", 150, (600, 500)),
        ("lbfgs", 150, (100,)),
        ("lbfgs", 5000, (7, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("weighted", [False, True])
def test_threads(cls, solver, n_samples, sizes, container, weighted):
    """Any number of threads gives the same result up to rounding, and each always its own."""
    X, y = make_data(n_samples, 30)
    X = container(np.where(np.abs(X) < 0.7, 0, X))
    sample_weight = np.random.RandomState(1).uniform(size=n_samples) if weighted else None
    params = {**PARAMS, "hidden_layer_sizes": sizes, "batch_size": 64, "solver": solver}
    fits = [cls(**params, n_threads=n).fit(X, y, sample_weight) for n in (1, 2, 3, 1, 2, 3)]
    for first, second in zip(fits[:3], fits[3:], strict=True):
        assert_same_parameters(first, second)
        assert first.loss_ == second.loss_
    for several in fits[1:3]:
        assert_same_parameters(several, fits[0], rtol=1e-7 if solver == "lbfgs" else 1e-10)
        assert several.loss_ == pytest.approx(fits[0].loss_, rel=1e-9)


@pytest.mark.parametrize("n_samples", [1, 2, 5])
def test_more_threads_than_rows(n_samples):
    X, y = make_data(n_samples)
    for cls in BOTH:
        few, many = (cls(**{**PARAMS, "batch_size": 2}, n_threads=n).fit(X, y) for n in (1, 8))
        assert_same_parameters(few, many, rtol=1e-10)
        np.testing.assert_allclose(few.predict(X), many.predict(X), rtol=1e-10)


@pytest.mark.parametrize("n_threads", [0, 1.5, "two"])
def test_wrong_number_of_threads(n_threads):
    with pytest.raises(ValueError, match="'n_threads' parameter"):
        MLPClassifier(n_threads=n_threads).fit(*make_data())


@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_wrong_dtype_where_nobody_checks_parameters(dtype):
    """It would have kernels write beyond the vectors."""
    X, y = make_data()
    classifier = MLPClassifier(**PARAMS).fit(X, y).set_params(dtype=dtype)
    with config_context(skip_parameter_validation=True):
        for call in (classifier.fit, classifier.partial_fit):
            with pytest.raises(ValueError, match=f"dtype must be .* got '{dtype}'"):
                call(X, y)


@pytest.mark.parametrize("n_threads", [0, -1, "2", 2.5, np.inf, np.nan])
def test_wrong_number_of_threads_after_fit(n_threads):
    """Predictions check no parameters."""
    X, y = make_data()
    classifier = MLPClassifier(**PARAMS).fit(X, y).set_params(n_threads=n_threads)
    with pytest.raises(ValueError, match=rf"n_threads must be .* got {n_threads!r}\."):
        classifier.predict(X)
    np.testing.assert_array_equal(
        classifier.set_params(n_threads=np.int64(2)).predict(X).shape, 90
    )


# Pickles and the flat vector


def unpickled(estimator, path):
    return pickle.loads(pickle.dumps(estimator))


def from_joblib(estimator, path):
    joblib.dump(estimator, path / "estimator.joblib")
    return joblib.load(path / "estimator.joblib")


def mapped(estimator, path):
    joblib.dump(estimator, path / "estimator.joblib")
    return joblib.load(path / "estimator.joblib", mmap_mode="r")


COPIES = [unpickled, from_joblib, lambda estimator, path: copy.deepcopy(estimator)]
each_copy = pytest.mark.parametrize("copied", COPIES, ids=["pickle", "joblib", "deepcopy"])


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_a_pickle_holds_the_weights_once(cls, params):
    X, y = make_data(60, 50)
    estimator = cls(hidden_layer_sizes=(200, 100), max_iter=2, **params).fit(X, y)
    estimator.predict(X)
    size = len(pickle.dumps(estimator))
    assert n_bytes(estimator) < size < n_bytes(estimator) + 5000


@pytest.mark.parametrize("solver, vectors", [("adam", 3), ("sgd", 2)])
@pytest.mark.parametrize("cls", BOTH)
def test_a_pickle_holds_the_slots_of_partial_fit(cls, solver, vectors):
    """What partial_fit needs to go on: one vector (SGD) or two (Adam) besides the weights."""
    X, y = make_data(60, 50)
    estimator = cls(hidden_layer_sizes=(200, 100), solver=solver, max_iter=2, random_state=0)
    estimator.fit(X, y).partial_fit(X, y)
    size = len(pickle.dumps(estimator))
    assert vectors * n_bytes(estimator) < size < vectors * n_bytes(estimator) + 5000
    estimator.fit(X, y)
    assert len(pickle.dumps(estimator)) < n_bytes(estimator) + 5000


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@each_copy
def test_partial_fit_goes_on_in_a_copy(cls, solver, copied, tmp_path):
    X, y = make_data()
    rng = np.random.RandomState(0)
    estimator = cls(**{**PARAMS, "random_state": rng}, solver=solver, learning_rate="invscaling")
    kwargs = {"classes": [0, 1, 2]} if cls is MLPClassifier else {}
    for _ in range(3):
        estimator.partial_fit(X, y, **kwargs)
    other = copied(estimator, tmp_path)
    for _ in range(2):
        estimator.partial_fit(X, y)
        other.partial_fit(X, y)
    assert_same_parameters(estimator, other)
    assert other.loss_curve_ == estimator.loss_curve_ and other.t_ == estimator.t_ == 5 * len(X)


def public(estimator):
    return {name for name in vars(estimator) if not name.startswith("_")}


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
@each_copy
def test_copies(cls, params, copied, tmp_path):
    X, y = make_data()
    estimator = cls(**PARAMS, **params).fit(X, y)
    other = copied(estimator, tmp_path)
    assert public(other) == public(estimator)
    assert_same_parameters(other, estimator)
    before = estimator.predict(X)
    np.testing.assert_array_equal(other.predict(X), before)
    assert all(array.flags.writeable for array in parameters(other))

    for array in parameters(other):
        array[...] = 0
    assert not np.array_equal(other.predict(X), before)
    np.testing.assert_array_equal(estimator.predict(X), before)
    other.set_params(warm_start=True).fit(X, y)
    assert any(np.any(array) for array in parameters(other))


def owner(array):
    """The array that holds the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
@pytest.mark.parametrize("copied", [lambda estimator, path: estimator, *COPIES])
def test_parameters_are_views_of_one_vector(cls, params, copied, tmp_path):
    """All weights, then all biases."""
    X, y = make_data()
    estimator = copied(cls(**PARAMS, **params).fit(X, y), tmp_path)
    estimator.predict(X)
    vector = owner(estimator.coefs_[0])
    assert all(owner(array) is vector for array in parameters(estimator))
    addresses = [array.__array_interface__["data"][0] for array in parameters(estimator)]
    assert addresses == sorted(addresses)
    assert all(array.flags.c_contiguous for array in parameters(estimator))


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("n_samples", [1, 90])
@pytest.mark.parametrize("copied", [lambda estimator, path: estimator, *COPIES])
def test_change_in_place(cls, n_samples, copied, tmp_path):
    """What is written into coefs_ counts at the next prediction."""
    X, y = make_data()
    estimator = copied(cls(**PARAMS).fit(X, y), tmp_path)
    theirs = theirs_like(estimator).fit(X, y)
    method = "predict_proba" if cls is MLPClassifier else "predict"
    before = getattr(estimator, method)(X[:n_samples])
    for e in estimator, theirs:
        e.coefs_[0][...] *= 3
        e.intercepts_[-1][0] += 1
    after = getattr(estimator, method)(X[:n_samples])
    assert not np.allclose(after, before)
    np.testing.assert_allclose(after, getattr(theirs, method)(X[:n_samples]), rtol=1e-9)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("kind", ["coefs_", "intercepts_"])
@pytest.mark.parametrize("how", ["item", "list", "float32", "fortran"])
def test_an_array_put_in_is_used(cls, kind, how):
    X, y = make_data()
    ours = cls(**PARAMS).fit(X, y)
    theirs = theirs_like(ours).fit(X, y)
    method = "predict_proba" if cls is MLPClassifier else "predict"
    before = getattr(ours, method)(X)
    new = [2 * array for array in getattr(theirs, kind)]
    if how == "float32":
        new = [array.astype(np.float32) for array in new]
    elif how == "fortran":
        new = [np.asfortranarray(array) for array in new]
    for estimator in ours, theirs:
        if how == "item":
            getattr(estimator, kind)[1] = new[1].copy()
        else:
            setattr(estimator, kind, [array.copy(order="K") for array in new])
    expected = getattr(theirs, method)(X)
    assert not np.allclose(expected, before)
    np.testing.assert_allclose(getattr(ours, method)(X), expected, rtol=1e-9)
    restored = pickle.loads(pickle.dumps(ours))
    np.testing.assert_allclose(getattr(restored, method)(X), expected, rtol=1e-9)
    ours.partial_fit(X, y)
    theirs.partial_fit(X, y)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    "kind, index, shape, named",
    [
        ("coefs_", 0, (6, 8), r"\(6, 8\)"),
        ("coefs_", 1, (5, 7), r"\(5, 7\)"),
        ("coefs_", 0, (5, 7), r"\(5, 7\)"),
        ("intercepts_", 0, (5,), r"\(5,\)"),
        ("intercepts_", -1, (9,), r"\(9,\)"),
    ],
)
def test_an_array_of_another_shape_is_refused(cls, kind, index, shape, named):
    X, y = make_data()
    estimator = cls(**PARAMS).fit(X, y)
    getattr(estimator, kind)[index] = np.ones(shape)
    for n_samples in 1, 90:
        with pytest.raises(ValueError, match=named):
            estimator.predict(X[:n_samples])


@pytest.mark.parametrize("cls", BOTH)
def test_memory_mapped_estimator_predicts(cls, tmp_path):
    X, y = make_data()
    estimator = cls(**{**PARAMS, "hidden_layer_sizes": (100, 50)}).fit(X, y)
    other = mapped(estimator, tmp_path)
    assert isinstance(owner(other.coefs_[0]), np.memmap)
    assert not other.coefs_[0].flags.writeable
    for n_samples in 1, 90:
        np.testing.assert_array_equal(
            other.predict(X[:n_samples]), estimator.predict(X[:n_samples])
        )


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("method", ["partial_fit", "warm start"])
def test_memory_mapped_estimator_trains(cls, solver, method, tmp_path):
    """On copies of what must not be written to."""
    X, y = make_data()
    normalization = None if solver == "lbfgs" else "batch"
    params = {**PARAMS, "solver": solver, "normalization": normalization, "warm_start": True}
    estimator = cls(**params).fit(X, y)
    train = cls.fit if method == "warm start" or solver == "lbfgs" else cls.partial_fit
    other = mapped(train(estimator, X, y), tmp_path)
    before = mapped(estimator, tmp_path)
    for _ in range(2):
        assert_same_parameters(train(other, X, y), train(estimator, X, y))
    assert all(array.flags.writeable for array in parameters(other))
    assert not np.array_equal(before.coefs_[0], other.coefs_[0])  # the file is as it was


@pytest.mark.parametrize("cls", BOTH)
def test_partial_fit_is_hidden_with_lbfgs(cls):
    assert not hasattr(cls(solver="lbfgs"), "partial_fit")
    assert hasattr(cls(solver="sgd"), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        cls(solver="lbfgs").partial_fit(*make_data())


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("columns", [1, 2])
def test_poisson_needs_targets_that_are_not_negative(solver, columns):
    X, _ = make_data()
    y = np.ones((len(X), columns)).squeeze()
    y[3] = 0
    regressor = MLPRegressor(**PARAMS, loss="poisson", solver=solver).fit(X, y)
    assert (regressor.predict(X) > 0).all()
    y[5] = -0.5
    with pytest.raises(ValueError, match=r"(?i)poisson"):
        regressor.fit(X, y)


# Threads of the caller


@pytest.mark.parametrize("cls", BOTH)
def test_concurrent_predictions(cls):
    X, y = make_data(2000)
    estimator = cls(**PARAMS, n_threads=1).fit(X, y)
    method = estimator.predict_proba if cls is MLPClassifier else estimator.predict
    chunks = [X[19 * i : 20 * i + 1] for i in range(100)]
    expected = [method(chunk) for chunk in chunks]
    with ThreadPoolExecutor(4) as pool:
        for result, right in zip(pool.map(method, chunks * 5), expected * 5, strict=True):
            np.testing.assert_array_equal(result, right)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_concurrent_fits(solver, n_threads):
    X, y = make_data(200)

    def fit(seed):
        cls = BOTH[seed % 2]
        return cls(**{**PARAMS, "random_state": seed}, solver=solver, n_threads=n_threads).fit(
            X, y
        )

    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(fit, range(8)))
    for seed, estimator in enumerate(concurrent):
        assert_same_parameters(estimator, fit(seed))


def test_predictions_while_another_estimator_is_fitted():
    X, y = make_data(500)
    fitted = MLPClassifier(**PARAMS).fit(X, y)
    expected = fitted.predict_proba(X)
    with ThreadPoolExecutor(2) as pool:
        fit = pool.submit(MLPRegressor(**{**PARAMS, "max_iter": 100}, tol=0).fit, X, y)
        while True:
            np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-12)
            if fit.done():
                break
    assert fit.result().n_iter_ > 10


def fit_once(seed):
    X, y = make_data(200)
    params = {**PARAMS, "random_state": seed}
    return MLPClassifier(**params, n_threads=2).fit(X, y).predict_proba(X)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fits_in_forked_children():
    """After a fit of the parent."""
    expected = [fit_once(seed) for seed in range(4)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map_async(fit_once, range(4)).get(timeout=60)
    np.testing.assert_array_equal(results, expected)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_threads_of_blas_are_left_alone(n_threads):
    """However a fit ends."""
    X, y = make_data()
    before = [library["num_threads"] for library in threadpool_info()]
    classifier = MLPClassifier(**PARAMS, n_threads=n_threads, shuffle=False).fit(X, y)
    classifier.predict(X)
    with pytest.raises(ZeroDivisionError):
        classifier.fit(X, y, np.r_[np.zeros(16), np.ones(74)])
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(classifier.predict, [X] * 20))
    assert [library["num_threads"] for library in threadpool_info()] == before
    with threadpool_limits(1):
        classifier.fit(X, y)
        assert {library["num_threads"] for library in threadpool_info()} == {1}


# Input


def as_memmap(X, path):
    mapped = np.memmap(path / "X", dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[...] = X
    mapped.flush()
    return np.memmap(path / "X", dtype=X.dtype, mode="r", shape=X.shape)


def read_only(X, path):
    X = X.copy()
    X.flags.writeable = False
    return X


def strided(X, path):
    wide = np.full((2 * len(X), 3 * X.shape[1]), 1, dtype=X.dtype)
    wide[::2, ::3] = X
    return wide[::2, ::3]


def row_padded(X, path):
    wide = np.full((len(X), X.shape[1] + 3), 1, dtype=X.dtype)
    wide[:, : X.shape[1]] = X
    return wide[:, : X.shape[1]]


def unaligned(X, path):
    memory = np.empty(X.nbytes + 1, dtype=np.uint8)
    shifted = memory[1:].view(X.dtype).reshape(X.shape)
    shifted[...] = X
    return shifted


LAYOUTS = {
    "memmap": as_memmap,
    "read only": read_only,
    "fortran": lambda X, path: np.asfortranarray(X),
    "strided": strided,
    "padded rows": row_padded,
    "reversed": lambda X, path: X[::-1, ::-1].copy()[::-1, ::-1],
    "repeated rows": lambda X, path: np.broadcast_to(X[:1], X.shape),
    "unaligned": unaligned,
}


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int32", "bool"])
def test_layouts_of_X(cls, layout, dtype, tmp_path):
    """However X lies in memory, it is read and not written."""
    X, y = make_data()
    X = np.abs(20 * X).astype("int").astype(dtype)
    given = LAYOUTS[layout](X, tmp_path)
    values = np.array(given, order="C")
    estimator = cls(**PARAMS).fit(given, y)
    plain = cls(**PARAMS).fit(values.astype("float32" if dtype == "float32" else "float64"), y)
    assert_same_parameters(estimator, plain, rtol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(estimator.predict(given), estimator.predict(values), rtol=1e-5)
    np.testing.assert_array_equal(given, values)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_are_predicted_alike_alone_and_together(cls, dtype):
    X, y = make_data(1500)
    X = X.astype(dtype)
    estimator = cls(**PARAMS).fit(X[:90], y[:90])
    method = estimator.predict_proba if cls is MLPClassifier else estimator.predict
    together = method(X)
    alone = np.concatenate([method(row) for row in X[:20, np.newaxis]])
    rtol = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(together[:20], alone, rtol=rtol)
    np.testing.assert_allclose(together[700:], method(X[700:]), rtol=rtol)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_no_rows(cls, container):
    X, y = make_data()
    ours = cls(**PARAMS).fit(X, y)
    messages = []
    for estimator in ours, theirs_like(ours).fit(X, y):
        with pytest.raises(ValueError, match=r"0 sample") as caught:
            estimator.predict(container(X[:0]))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
