"""Wrong input raises what scikit-learn raises, and says what is wrong."""

import re
import warnings

import numpy as np
import pytest
import sklearn.neural_network
from scipy import sparse
from sklearn.exceptions import NotFittedError

import sknn
import sknn.layers

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

NAMES = ["MLPClassifier", "MLPRegressor"]
PARAMS = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0, "batch_size": 10}
DIVERGED = (
    "Solver produced non-finite parameter weights. The input data may contain large values and"
    " need to be preprocessed."
)

rng = np.random.RandomState(0)
X = rng.standard_normal((40, 4))
y = (X[:, 0] > 0).astype(int)


def changed(array, index, value, dtype=None):
    array = array.astype(dtype or array.dtype)
    array[index] = value
    return array


def make_pair(name, **params):
    params = {**PARAMS, **params}
    return getattr(sknn, name)(**params), getattr(sklearn.neural_network, name)(**params)


def error_of(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Exception as error:
        return error
    return None


def words(error):
    return set(re.findall(r"[\w.-]+", str(error)))


def check_errors(estimators, method, *args, same_words=True, **kwargs):
    """Both raise; ours is of the type of scikit-learn's, with its words and perhaps more."""
    ours, theirs = (error_of(getattr(e, method), *args, **kwargs) for e in estimators)
    assert theirs is not None, "scikit-learn accepts this"
    assert isinstance(ours, type(theirs)), f"ours: {ours!r}, scikit-learn's: {theirs!r}"
    if same_words:
        assert words(ours) >= words(theirs)
    return ours, theirs


# X, y and weights at fit


WRONG_X = {
    "one dimension": X[:, 0],
    "three dimensions": X.reshape(40, 2, 2),
    "a number": 3.0,
    "None": None,
    "no rows": X[:0],
    "no columns": X[:, :0],
    "fewer rows than y": X[:39],
    "NaN": changed(X, (3, 1), np.nan),
    "infinity": changed(X, (3, 1), np.inf),
    "-infinity, float32": changed(X, (3, 1), -np.inf, np.float32),
    "NaN, Fortran order": np.asfortranarray(changed(X, (3, 1), np.nan)),
    "NaN, sparse": sparse.csr_array(changed(X, (3, 1), np.nan)),
    "infinity, csc": sparse.csc_array(changed(X, (3, 1), np.inf)),
    "complex": X + 1j,
    "text": np.full(X.shape, "a"),
    "objects": changed(X, (3, 1), "a", object),
    "ragged": [[1.0, 2.0], [3.0]] * 20,
    "a dict": {"a": 1},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("kind", WRONG_X)
def test_wrong_X(name, method, kind):
    kwargs = {"classes": [0, 1]} if (name, method) == ("MLPClassifier", "partial_fit") else {}
    check_errors(make_pair(name), method, WRONG_X[kind], y, **kwargs)


WRONG_Y = {
    "None": None,
    "fewer than rows": y[:39],
    "no values": y[:0],
    "three dimensions": y.reshape(-1, 1, 1),
    "NaN": changed(y, 3, np.nan, float),
    "infinity": changed(y, 3, np.inf, float),
    "a number": 1,
    "ragged": [[1], [1, 2]] * 20,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", WRONG_Y)
def test_wrong_y(name, kind):
    check_errors(make_pair(name), "fit", X, WRONG_Y[kind])


CONTINUOUS = "Maybe you are trying to fit a classifier"
WRONG_LABELS = {
    "continuous": (X[:, 0], f"type: continuous. {CONTINUOUS}"),
    "several continuous": (X[:, :2], f"type: continuous-multioutput. {CONTINUOUS}"),
    "several of more classes": (np.column_stack([y, 2 * y]), "2 columns.* Give one column of"),
    "None": (changed(y, 3, None, object), r"types \['NoneType', 'int'\]. Give numbers alone or"),
    "mixed types": (changed(y, 3, "a", object), r"types \['int', 'str'\]. Give numbers alone or"),
    "text first": (changed(y, 0, "a", object), r"types \['int', 'str'\]. Give numbers alone or"),
    "bytes": (np.array([b"a", b"b"])[y], r"types \['bytes_'\]. Give numbers alone or"),
    "objects": (y.astype(object), r"dtype object.* Give .*y.astype\(int\)"),
}


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_wrong_labels(kind):
    """What they are and what to do, where scikit-learn prints all of y or says less."""
    labels, says = WRONG_LABELS[kind]
    for method, given in ("fit", {}), ("partial_fit", {"classes": [0, 1]}):
        pair = make_pair("MLPClassifier")
        same_words = method == "fit" and kind in ("several of more classes", "None", "mixed types")
        ours, _ = check_errors(pair, method, X, labels, same_words=same_words, **given)
        assert re.search(says, str(ours)) and len(str(ours)) < 300
    for classifier in sknn.ConvClassifier(), sknn.Perceptron():
        one_column = isinstance(classifier, sknn.ConvClassifier) or np.ndim(labels) == 1
        with pytest.raises(type(ours), match=says if one_column else "1d array"):
            classifier.fit(X, labels)


def test_sparse_regression_targets():
    with pytest.raises(ValueError, match=r"y is a sparse matrix.*Give y\.toarray\(\)"):
        sknn.MLPRegressor(**PARAMS).fit(X, sparse.csr_array(X[:, :2]))


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize(
    "kind", [np.array(["a", "b"]), np.array(["1.5", "2"]), np.array([3, 4], "M8[D]")], ids=str
)
def test_regression_targets_that_are_no_numbers(kind, loss):
    """scikit-learn's error is one of NumPy's private types."""
    ours, theirs = make_pair("MLPRegressor", loss=loss)
    with pytest.raises((ValueError, TypeError)):
        theirs.fit(X, kind[y])
    with pytest.raises(ValueError, match="must be numbers"):
        ours.fit(X, kind[y])


WRONG_WEIGHTS = {
    "too few": np.ones(39),
    "two columns": np.ones((40, 2)),
    "NaN": changed(np.ones(40), 3, np.nan),
    "infinity": changed(np.ones(40), 3, np.inf),
    "text": np.full(40, "a"),
    "all zero": np.zeros(40),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("kind", WRONG_WEIGHTS)
def test_wrong_sample_weight(name, solver, kind):
    pair = make_pair(name, solver=solver)
    ours, _ = check_errors(pair, "fit", X, y, sample_weight=WRONG_WEIGHTS[kind])
    if kind == "all zero":
        assert isinstance(ours, ValueError)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("zero", [slice(0, 10), slice(30, 40)])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_minibatch_without_weight(name, zero, method):
    pair = make_pair(name, shuffle=False)
    kwargs = {"classes": [0, 1]} if (name, method) == ("MLPClassifier", "partial_fit") else {}
    weights = changed(np.ones(40), zero, 0)
    ours, _ = check_errors(pair, method, X, y, sample_weight=weights, same_words=False, **kwargs)
    assert isinstance(ours, ZeroDivisionError)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_weights_that_cancel(name, solver):
    weights = np.tile([1.0, -1.0], 20)
    pair = make_pair(name, solver=solver)
    ours, _ = check_errors(pair, "fit", X, y, sample_weight=weights, same_words=False)
    assert isinstance(ours, ZeroDivisionError)


# Parameters


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": -1},
        {"hidden_layer_sizes": 0},
        {"hidden_layer_sizes": 2.5},
        {"hidden_layer_sizes": (4, 0)},
        {"hidden_layer_sizes": (4, -2)},
        {"hidden_layer_sizes": [-3]},
        {"hidden_layer_sizes": None},
        {"activation": "softmax"},
        {"activation": None},
        {"solver": "rmsprop"},
        {"alpha": -1},
        {"alpha": np.nan},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"learning_rate": "fast"},
        {"learning_rate_init": 0},
        {"learning_rate_init": -0.1},
        {"power_t": -1},
        {"max_iter": 0},
        {"shuffle": "yes"},
        {"random_state": "a"},
        {"random_state": -1},
        {"tol": -1},
        {"warm_start": "no"},
        {"momentum": 1.1},
        {"momentum": -0.1},
        {"nesterovs_momentum": 3},
        {"early_stopping": None},
        {"validation_fraction": 1.0},
        {"beta_1": 1.0},
        {"beta_2": -0.1},
        {"epsilon": 0.0},
        {"n_iter_no_change": 0},
        {"n_iter_no_change": 2.5},
        {"max_fun": 0},
    ],
    ids=str,
)
def test_wrong_parameters(name, params):
    check_errors(make_pair(name, **params), "fit", X, y)


SET_LATER = [
    ("MLPRegressor", {"loss": "huber"}),
    ("MLPClassifier", {"class_weight": "bal"}),
    ("MLPClassifier", {"batch_size": "all"}),
    ("MLPRegressor", {"n_threads": "a"}),
    ("MLPRegressor", {"dtype": "float16"}),
    ("MLPClassifier", {"learning_rate_init": -1}),
    ("Perceptron", {"eta0": -1}),
]


@pytest.mark.parametrize("name, params", SET_LATER, ids=str)
def test_wrong_parameters_set_after_a_fit(name, params):
    """The next partial_fit refuses them, scikit-learn's does not look."""
    given = {**PARAMS, "dtype": None} if name != "Perceptron" else {}
    estimator = getattr(sknn, name)(**given).fit(X, y)
    ((parameter, _),) = params.items()
    before, good = estimator.predict(X), {parameter: getattr(estimator, parameter)}
    for _ in range(2):
        estimator.set_params(**params)
        with pytest.raises(ValueError, match=f"The '{parameter}' parameter of {name} must be"):
            estimator.partial_fit(X, y)
        np.testing.assert_array_equal(estimator.set_params(**good).predict(X), before)
        before = estimator.partial_fit(X, y).predict(X)


def test_parameters_are_checked_where_one_was_set(monkeypatch):
    """Else partial_fit does not spend the time, nor where the user switched it off."""
    classifier = sknn.MLPClassifier(**PARAMS).fit(X, y)
    checked = []
    monkeypatch.setattr(classifier, "_validate_params", lambda: checked.append(1))
    for _ in range(3):
        classifier.partial_fit(X, y)
    assert len(checked) == 1
    classifier.set_params(alpha=0.1).partial_fit(X, y)
    assert len(checked) == 2
    with sklearn.config_context(skip_parameter_validation=True):
        classifier.set_params(alpha=0.2).partial_fit(X, y)
    assert len(checked) == 2


@pytest.mark.parametrize("loss", ["log_loss", "absolute_error", None])
def test_wrong_loss(loss):
    check_errors(make_pair("MLPRegressor", loss=loss), "fit", X, y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [(2.5,), ("a",), [[3, 4]], np.ones((2, 2), int)], ids=str)
def test_hidden_layer_sizes_that_are_no_list_of_integers(name, sizes):
    estimator = getattr(sknn, name)(**{**PARAMS, "hidden_layer_sizes": sizes})
    with pytest.raises((ValueError, TypeError), match="hidden_layer_sizes"):
        estimator.fit(X, y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("sizes", [(10**13,), (10**8, 10**8), (3, 10**9, 10**7)], ids=str)
def test_more_memory_than_there_is(name, solver, sizes):
    """The error tells the size, and the estimator is still what it was."""
    params = {**PARAMS, "solver": solver}
    estimator = getattr(sknn, name)(**params).fit(X, y)
    before, weights = estimator.predict(X), [array.copy() for array in estimator.coefs_]
    estimator.set_params(hidden_layer_sizes=sizes)
    with pytest.raises(MemoryError, match=r"\d\.? ?[GTPE]i?B"):
        estimator.fit(X, y)
    for old, new in zip(weights, estimator.coefs_, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(estimator.predict(X), before)
    with pytest.raises(MemoryError):
        getattr(sknn, name)(**{**params, "hidden_layer_sizes": sizes}).fit(X, y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "bad",
    [
        {"X": changed(X, (0, 0), np.nan)},
        {"y": changed(y, 0, np.nan, float)},
        {"sample_weight": np.zeros(40)},
        {"params": {"alpha": -1}},
        {"params": {"hidden_layer_sizes": (3, -1)}},
    ],
    ids=str,
)
def test_a_failed_fit_leaves_the_estimator_usable(name, bad):
    estimator = make_pair(name)[0].fit(X, y)
    before = estimator.predict(X)
    estimator.set_params(**bad.get("params", {}))
    with pytest.raises(ValueError):
        estimator.fit(bad.get("X", X), bad.get("y", y), sample_weight=bad.get("sample_weight"))
    np.testing.assert_array_equal(estimator.predict(X), before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "params",
    [{"early_stopping": True, "validation_fraction": 0.01}, {"batch_size": 1000}],
    ids=["too few rows to validate", "a warning made an error"],
)
def test_a_failed_fit_on_other_data_leaves_no_mixture(name, params):
    """Weights, number of features and labels belong together, whichever fit they are of."""
    estimator = make_pair(name)[0].fit(X, y)
    wide = np.tile(X, 3)
    labels = np.arange(40) % 3
    with warnings.catch_warnings(), pytest.raises((ValueError, UserWarning)):
        warnings.simplefilter("error")
        estimator.set_params(**params).fit(wide, labels)
    n_features = estimator.n_features_in_
    assert estimator.coefs_[0].shape[0] == n_features
    if name == "MLPClassifier":
        assert estimator.coefs_[-1].shape[1] == (1 if len(estimator.classes_) == 2 else 3)
    assert np.isin(estimator.predict(wide[:, :n_features]).round(), np.arange(-9, 9)).all()


@pytest.mark.parametrize("bad", [{"X": changed(X, (3, 1), np.nan)}, {"classes": [0, 2]}])
def test_classes_of_a_failed_partial_fit_are_forgotten(bad):
    classifier = sknn.MLPClassifier(**PARAMS)
    with pytest.raises(ValueError):
        classifier.partial_fit(**{"X": X, "y": y, "classes": [0, 1, 5], **bad})
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        classifier.partial_fit(X, y)
    classifier.partial_fit(X, y, classes=[0, 1])
    np.testing.assert_array_equal(classifier.classes_, [0, 1])


# Numbers out of range


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("container", [np.asarray, np.asfortranarray, sparse.csr_array])
@pytest.mark.parametrize("value", [1e39, -1e300])
def test_values_too_large_for_float32(name, container, value):
    """They are finite, and it is dtype='float32' that cannot hold them."""
    large = container(changed(X, (7, 2), value))
    with pytest.raises(ValueError, match="float32"):
        getattr(sknn, name)(**PARAMS, dtype="float32").fit(large, y)
    estimator = getattr(sknn, name)(**PARAMS, dtype="float32").fit(X, y)
    with pytest.raises(ValueError, match="float32"):
        estimator.predict(large)
    with pytest.raises(ValueError, match="float32"):
        estimator.partial_fit(large, y)
    assert np.isfinite(
        getattr(sknn, name)(**PARAMS, dtype="float64").fit(X, y).predict(large)
    ).all()


@pytest.mark.parametrize("name", [*NAMES, "NetworkClassifier", "Perceptron"])
def test_more_columns_than_int32(name):
    columns = [0, 2**31 + 9]
    wide = sparse.csr_array((np.ones(2), ([0, 1], columns)), shape=(2, 2**31 + 10))
    params = {"layers": [sknn.layers.Dense(5)]} if name == "NetworkClassifier" else {}
    with pytest.raises(ValueError, match=r"X has 2147483658 .* at most 2147483647.* Make fewer"):
        getattr(sknn, name)(**params).fit(wide, [0, 1])


def test_targets_too_large_for_float32():
    with pytest.raises(ValueError, match="float32"):
        sknn.MLPRegressor(**PARAMS, dtype="float32").fit(X, changed(X[:, 0], 7, 1e39))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "score"])
@pytest.mark.parametrize("n_rows", [1, 40])
def test_nan_for_prediction_in_float32(method, n_rows):
    """NaN is called NaN, not an overflow."""
    classifier = sknn.MLPClassifier(**PARAMS, dtype="float32").fit(X, y)
    args = [changed(X, (0, 0), np.nan)[:n_rows]] + ([y[:n_rows]] if method == "score" else [])
    with pytest.raises(ValueError, match="contains NaN"):
        getattr(classifier, method)(*args)


DIVERGING = {"solver": "sgd", "activation": "identity", "learning_rate_init": 1e250}
each_divergence = pytest.mark.parametrize(
    "given", [1e300 * X, X], ids=["large values", "large rate"]
)


@pytest.mark.parametrize("name", NAMES)
@each_divergence
def test_divergence(name, given):
    """scikit-learn's sentence, then what to change."""
    ours, theirs = check_errors(make_pair(name, **DIVERGING), "fit", given, y)
    assert str(theirs) == DIVERGED
    assert str(ours).startswith(DIVERGED) and "learning_rate_init" in str(ours)[len(DIVERGED) :]


@pytest.mark.parametrize("name", NAMES)
@each_divergence
def test_divergence_with_early_stopping(name, given):
    """The best weights are restored, which may be finite."""
    pair = make_pair(name, **DIVERGING, early_stopping=True)
    ours, theirs = (error_of(estimator.fit, given, y) for estimator in pair)
    assert type(ours) is type(theirs)


def test_divergence_in_partial_fit():
    pair = make_pair("MLPRegressor", solver="sgd", learning_rate_init=1e250)
    ours, _ = check_errors(pair, "partial_fit", 1e100 * X, y)
    assert str(ours).startswith(DIVERGED)


# Several calls


@pytest.mark.parametrize(
    "name, method",
    [
        ("MLPClassifier", "predict"),
        ("MLPClassifier", "predict_proba"),
        ("MLPClassifier", "predict_log_proba"),
        ("MLPRegressor", "predict"),
    ],
)
def test_predict_before_fit(name, method):
    ours, _ = check_errors(make_pair(name), method, X)
    assert isinstance(ours, NotFittedError)


WRONG_X_LATER = {
    "one column less": X[:, :3],
    "one column more": np.c_[X, X[:, 0]],
    "sparse, one column less": sparse.csr_array(X[:, :3]),
    "one dimension": X[0],
    "a number": 1.0,
    "no rows": X[:0],
    "NaN": changed(X, (3, 1), np.nan),
    "one row with NaN": changed(X, (0, 1), np.nan)[:1],
    "infinity": changed(X, (3, 1), np.inf),
    "one row with infinity": changed(X, (0, 1), -np.inf)[:1],
    "infinity, float32": changed(X, (3, 1), np.inf, np.float32),
    "NaN, sparse": sparse.csr_array(changed(X, (3, 1), np.nan)),
    "text": np.full(X.shape, "a"),
    "complex": X + 1j,
    "None": None,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", WRONG_X_LATER)
@pytest.mark.parametrize("method", ["predict", "partial_fit"])
def test_wrong_X_after_fit(name, kind, method):
    pair = make_pair(name)
    for estimator in pair:
        estimator.fit(X, y)
    later = WRONG_X_LATER[kind]
    same_words = kind not in ("text", "None")  # X is read as numbers, which fails otherwise
    args = []
    if method == "partial_fit":
        args = [y[: later.shape[0]] if np.ndim(later) == 2 or sparse.issparse(later) else y]
    check_errors(pair, method, later, *args, same_words=same_words)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", ["abdc", "abce", "abc", "abcde"])
@pytest.mark.parametrize("method", ["predict", "partial_fit"])
def test_wrong_feature_names(name, columns, method):
    pd = pytest.importorskip("pandas")
    pair = make_pair(name)
    for estimator in pair:
        estimator.fit(pd.DataFrame(X, columns=list("abcd")), y)
    frame = pd.DataFrame(0.0, index=range(40), columns=list(columns))
    check_errors(pair, method, frame, *([y] if method == "partial_fit" else []))


@pytest.mark.parametrize(
    "calls",
    [
        [(y, None)],
        [(y, [1])],
        [(y, [1, 2])],
        [(y, [0, 1]), (y + 1, None)],
        [(y, [0, 1]), (y, [0, 1, 2])],
        [(y, [0, 1]), (np.array(["a", "b"])[y], None)],
        [(y, ["a", "b"])],
    ],
    ids=[
        "no classes",
        "one of two classes",
        "other classes",
        "unseen label later",
        "more classes later",
        "text later",
        "classes of another type",
    ],
)
def test_classes_of_partial_fit(calls):
    pair = make_pair("MLPClassifier")
    *good, (labels, classes) = calls
    for estimator in pair:
        for good_labels, good_classes in good:
            estimator.partial_fit(X, good_labels, classes=good_classes)
    check_errors(pair, "partial_fit", X, labels, classes=classes)


several = (y[:, np.newaxis] + np.arange(3)) % 3 == 0


@pytest.mark.parametrize("warm_start", [False, True], ids=["partial_fit", "warm_start"])
@pytest.mark.parametrize(
    "name, first, then",
    [
        ("MLPRegressor", X[:, 0], X[:, :2]),
        ("MLPRegressor", X[:, :2], X[:, 0]),
        ("MLPRegressor", X[:, :2], X[:, :3]),
        ("MLPClassifier", y, several[:, :2].astype(int)),
        ("MLPClassifier", several[:, :2].astype(int), y),
        ("MLPClassifier", several[:, :2].astype(int), several.astype(int)),
        ("MLPClassifier", several.astype(int), several[:, :2].astype(int)),
        ("MLPClassifier", several.astype(int), np.arange(40) % 3),
    ],
    ids=[
        "one output, then two",
        "two outputs, then one",
        "two outputs, then three",
        "classes, then labels",
        "labels, then classes",
        "two labels, then three",
        "three labels, then two",
        "three labels, then three classes",
    ],
)
def test_other_targets_than_before(name, first, then, warm_start):
    """scikit-learn broadcasts some of them, which cannot be meant."""
    estimator = make_pair(name, warm_start=warm_start)[0].fit(X, first)
    with pytest.raises(ValueError):
        getattr(estimator, "fit" if warm_start else "partial_fit")(X, then)
    assert np.isfinite(estimator.predict(X)).all()


@pytest.mark.parametrize("warm_start", [False, True], ids=["partial_fit", "warm_start"])
def test_another_loss_than_before(warm_start):
    regressor = make_pair("MLPRegressor", warm_start=warm_start)[0].fit(X, y)
    regressor.set_params(loss="poisson")
    with pytest.raises(ValueError, match=r"loss 'poisson_deviance'.*fitted with 'squared_error'"):
        getattr(regressor, "fit" if warm_start else "partial_fit")(X, y)


def test_warm_start_needs_the_same_classes():
    pair = make_pair("MLPClassifier", warm_start=True)
    for estimator in pair:
        estimator.fit(X, y)
    check_errors(pair, "fit", X, y + 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fitted", [False, True])
def test_partial_fit_refuses_early_stopping(name, fitted):
    pair = make_pair(name, early_stopping=True)
    kwargs = {}
    if fitted:
        for estimator in pair:
            estimator.fit(X, y)
    elif name == "MLPClassifier":
        kwargs["classes"] = [0, 1]
    ours, _ = check_errors(pair, "partial_fit", X, y, **kwargs)
    assert "Set early_stopping=False, or use fit." in str(ours)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "n_rows, fraction, targets",
    [(40, 0, y), (40, 0.01, y), (4, 0.1, y), (3, 0.9, y), (40, 0.2, changed(0 * y, 0, 1))],
    ids=["no fraction", "one row", "few rows", "nothing left", "a class of one member"],
)
def test_rows_for_early_stopping(name, n_rows, fraction, targets):
    pair = make_pair(name, early_stopping=True, validation_fraction=fraction)
    ours, theirs = (error_of(e.fit, X[:n_rows], targets[:n_rows]) for e in pair)
    assert type(ours) is type(theirs) and str(ours) == str(theirs)


@pytest.mark.parametrize("name", NAMES)
def test_validation_rows_without_weight(name):
    pair = make_pair(name, early_stopping=True, batch_size=36, random_state=3)
    weights = np.zeros(40)
    weights[:2] = 1  # with this random_state, both rows train
    check_errors(pair, "fit", X, y, sample_weight=weights, same_words=False)
