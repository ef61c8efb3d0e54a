"""What every scikit-learn estimator owes to the tools around it."""

import inspect
import re
import warnings

import numpy as np
import pytest
import sklearn.neural_network
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

import sknn
from sknn import MLPClassifier, MLPRegressor
from sknn._kernels.ops import Activation, Optimizer
from sknn.losses import REGRESSION

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAMES = ["MLPClassifier", "MLPRegressor"]
FAST = {"hidden_layer_sizes": 5, "max_iter": 8, "random_state": 0, "learning_rate_init": 0.02}


def make_pair(name, **params):
    """Our class and scikit-learn's with the same parameters."""
    params = {**FAST, **params}
    return getattr(sknn, name)(**params), getattr(sklearn.neural_network, name)(**params)


@pytest.fixture
def data():
    """Three classes, which a regressor may take for numbers."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((60, 4)) * [1, 2, 3, 4]
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


# scikit-learn's own checks


@parametrize_with_checks(
    [
        MLPClassifier(max_iter=100),
        MLPRegressor(max_iter=100),
        MLPClassifier(max_iter=100, solver="lbfgs"),
        MLPRegressor(max_iter=100, solver="lbfgs"),
        MLPClassifier(max_iter=50, solver="sgd", learning_rate_init=0.1),
        MLPRegressor(max_iter=50, solver="sgd", learning_rate_init=0.01),
        MLPClassifier(max_iter=30, learning_rate_init=0.01, dtype="float64", n_threads=2),
        MLPRegressor(max_iter=30, learning_rate_init=0.01, loss="squared_error", n_threads=1),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# The class


@pytest.mark.parametrize("name", NAMES)
def test_constructor(name):
    """scikit-learn's parameters with their order, kinds and defaults, then keyword-only ones."""
    ours, theirs = (
        list(inspect.signature(getattr(module, name)).parameters.values())
        for module in (sknn, sklearn.neural_network)
    )
    assert ours[: len(theirs)] == theirs
    added = ours[len(theirs) :]
    assert {p.kind for p in added} == {inspect.Parameter.KEYWORD_ONLY}
    assert {p.name: p.default for p in added} == {
        "dtype": None,
        "n_threads": None,
        "dropout": 0.0,
        "normalization": None,
        "device": None,
        "matmul_precision": "float32",
        **({"class_weight": None} if name == "MLPClassifier" else {}),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "predict_proba", "score"])
def test_method_signatures(name, method):
    ours, theirs = (getattr(module, name) for module in (sknn, sklearn.neural_network))
    assert hasattr(ours, method) == hasattr(theirs, method)
    if hasattr(theirs, method):
        assert inspect.signature(getattr(ours, method)) == inspect.signature(
            getattr(theirs, method)
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_tags(name, solver):
    ours, theirs = make_pair(name, solver=solver)
    assert get_tags(ours) == get_tags(theirs)


@pytest.mark.parametrize("name", NAMES)
def test_public_names(name):
    """Every public name of scikit-learn's class is there; few are added."""
    ours, theirs = (
        {method for method in dir(getattr(module, name)) if not method.startswith("_")}
        for module in (sknn, sklearn.neural_network)
    )
    added = {"parameters_", "set_callbacks"}
    added |= {"loss"} if name == "MLPClassifier" else set()  # a fixed property
    assert ours >= theirs and ours - theirs == added


@pytest.mark.parametrize("name", NAMES)
def test_repr(name, data):
    ours, theirs = make_pair(name)
    assert repr(ours) == repr(theirs)
    page = estimator_html_repr(ours.fit(*data))
    assert name in page and "n_threads" in page and "learning_rate_init" in page
    assert estimator_html_repr(make_pipeline(StandardScaler(), ours)).count(name) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_clone(name, data):
    ours = make_pair(name)[0].set_params(dtype="float32", n_threads=1).fit(*data)
    copied = clone(ours)
    assert copied.get_params() == ours.get_params()
    assert not hasattr(copied, "coefs_")
    np.testing.assert_array_equal(copied.fit(*data).coefs_[0], ours.coefs_[0])


def test_documented():
    for name in NAMES:
        cls = getattr(sknn, name)
        for parameter in inspect.signature(cls).parameters:
            assert f"\n{parameter} : " in inspect.getdoc(cls), parameter


METHODS = (
    "fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "score", "transform",
)  # fmt: skip


@pytest.mark.parametrize("name", [n for n in sknn.__all__ if inspect.isclass(getattr(sknn, n))])
def test_methods_are_documented(name):
    """Each says what it takes, gives and raises, and no name of a shared text is left."""
    cls = getattr(sknn, name)
    texts = [inspect.getdoc(cls)]
    for method in METHODS:
        function = getattr(cls, method, None)
        if function is not None and function.__module__.startswith("sknn"):
            texts.append(inspect.getdoc(function))
            for section in "Parameters", "Returns", "Raises":
                assert f"\n{section}\n---" in texts[-1], f"{method}: {section}"
    assert len(texts) > 2
    assert not any(re.search(r"\{\w+\}", text) for text in texts)


def test_every_option_is_documented():
    """What the enumerations hold is in the docstrings."""
    options = {
        "activation": {activation.name.lower() for activation in Activation},
        "solver": {optimizer.name.lower() for optimizer in Optimizer} | {"lbfgs"},
        "loss": set(REGRESSION),
    }
    for cls, names in ((MLPClassifier, ["activation", "solver"]), (MLPRegressor, options)):
        text = inspect.getdoc(cls)
        for name in names:
            description = text.split(f"\n{name} : ")[1].split("\n\n")[0]
            assert all(f"'{option}'" in description for option in options[name])
            assert cls._parameter_constraints[name][0].options == options[name]


# Data frames


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_feature_names(name, library, data):
    X, y = data
    frame = pytest.importorskip(library).DataFrame(dict(zip("wxyz", X.T, strict=True)))
    ours, theirs = make_pair(name)
    for estimator in ours, theirs:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(frame, y)
            estimator.predict(frame)
    np.testing.assert_array_equal(ours.feature_names_in_, theirs.feature_names_in_)
    assert ours.feature_names_in_.dtype == theirs.feature_names_in_.dtype
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-10)

    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        without_names = ours.predict(X)
    np.testing.assert_allclose(ours.predict(frame), without_names, rtol=1e-12)

    swapped = frame[["x", "w", "y", "z"]]
    for estimator in ours, theirs:
        with pytest.raises(ValueError, match="Feature names must be in the same order"):
            estimator.predict(swapped)


@pytest.mark.parametrize("name", NAMES)
def test_data_frame_of_several_types(name, data):
    pd = pytest.importorskip("pandas")
    X, y = data
    frame = pd.DataFrame(X, columns=list("wxyz")).astype({"w": "float32", "x": int, "y": bool})
    frame["z"] = frame["z"].astype("Float64")
    ours, theirs = (
        e.fit(frame, pd.Series(y, index=y.size - frame.index)) for e in make_pair(name)
    )
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-10)
    np.testing.assert_allclose(ours.predict(frame), theirs.predict(frame), rtol=1e-10)


def test_data_frame_of_labels(data):
    pd = pytest.importorskip("pandas")
    X, y = data
    Y = pd.DataFrame({"a": y > 0, "b": y > 1}).astype(int)
    ours, theirs = (e.fit(X, Y) for e in make_pair("MLPClassifier"))
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    categories = pd.Series(pd.Categorical.from_codes(y, ["p", "q", "r"]))
    ours, theirs = (e.fit(X, categories) for e in make_pair("MLPClassifier"))
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


# Pipelines and searches


@pytest.mark.parametrize("name", NAMES)
def test_nested_parameters(name, data):
    X, y = data
    ours, theirs = (make_pipeline(StandardScaler(), e) for e in make_pair(name))
    step = name.lower()
    for pipeline in ours, theirs:
        pipeline.set_params(**{f"{step}__alpha": 0.5, f"{step}__hidden_layer_sizes": (3, 2)})
        pipeline.fit(X, y)
    assert ours[-1].coefs_[0].shape == (4, 3)
    assert ours.get_params()[f"{step}__alpha"] == 0.5
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(name, n_jobs, data):
    grid = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [3, (4, 2)]}
    ours, theirs = (
        GridSearchCV(e, grid, cv=3, n_jobs=jobs).fit(*data)
        for e, jobs in zip(make_pair(name), [n_jobs, 1], strict=True)
    )
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-10
    )
    np.testing.assert_allclose(ours.predict(data[0]), theirs.predict(data[0]), rtol=1e-10)


@pytest.mark.parametrize(
    "name, method",
    [
        ("MLPClassifier", "predict"),
        ("MLPClassifier", "predict_proba"),
        ("MLPClassifier", "predict_log_proba"),
        ("MLPRegressor", "predict"),
    ],
)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cross_val_predict(name, method, n_jobs, data):
    ours, theirs = (
        cross_val_predict(e, *data, cv=4, method=method, n_jobs=n_jobs) for e in make_pair(name)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


# Metadata routing


@pytest.mark.parametrize("name", NAMES)
def test_requests(name):
    with config_context(enable_metadata_routing=True):
        ours, theirs = (
            e.set_fit_request(sample_weight=True)
            .set_score_request(sample_weight="w")
            .set_partial_fit_request(sample_weight=False)
            .get_metadata_routing()
            ._serialize()
            for e in make_pair(name)
        )
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_sample_weight_is_routed(name, data):
    X, y = data
    weights = np.random.RandomState(3).uniform(size=len(y))
    with config_context(enable_metadata_routing=True):
        ours, theirs = (
            e.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            for e in make_pair(name)
        )
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, clone(ours)).fit(X, y, sample_weight=weights)
        scores = [
            cross_validate(e, X, y, params={"sample_weight": weights}, cv=3)["test_score"]
            for e in (ours, theirs)
        ]
    direct = clone(ours).fit(StandardScaler().fit_transform(X), y, sample_weight=weights)
    np.testing.assert_allclose(pipeline[-1].coefs_[0], direct.coefs_[0])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-10)
    unweighted = clone(ours).fit(StandardScaler().fit_transform(X), y)
    assert not np.allclose(direct.coefs_[0], unweighted.coefs_[0])


def test_subclass_parameters():
    """A constructor of one's own says what the parameters are, to a subclass of that too."""

    class Wide(MLPClassifier):
        def __init__(self, width=200, *, alpha=0.1):
            super().__init__((width,), alpha=alpha)
            self.width = width

    class Same(Wide):
        pass

    for kind in (Wide, Same):
        assert kind(width=3).get_params() == {"width": 3, "alpha": 0.1}
        assert clone(kind(width=3)).width == 3
    assert "width" not in MLPClassifier().get_params()
