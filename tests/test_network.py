"""NetworkClassifier and NetworkRegressor: lists of layers, shapes of X, names, and what is
fitted."""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import parametrize_with_checks

from sknn import ConvClassifier, MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor
from sknn.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    MaxPool,
    Residual,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1 or larger"),
]
FAST = {"max_iter": 3, "random_state": 0}
rng = np.random.RandomState(0)
IMAGES = rng.uniform(0, 1, (40, 6, 5, 2))
y = (IMAGES.mean(axis=(1, 2, 3)) > 0.5).astype(int) + (IMAGES[:, 0, 0, 0] > 0.7)


def small(**params):
    layers = [Conv(4, activation="relu"), MaxPool(2), Dense(6, "relu")]
    return NetworkClassifier(layers, **{**FAST, **params})


@parametrize_with_checks(
    [
        NetworkClassifier([Dense(50, "relu")], max_iter=100),
        NetworkClassifier(
            [Dense(30), BatchNorm(), Activation("relu"), Residual([Dense(30, "relu")])],
            max_iter=100, learning_rate_init=0.01,
        ),
        NetworkRegressor([Dense(50, "relu")], max_iter=100),
        NetworkRegressor([Concatenate([Dense(20, "tanh"), Dense(20, "relu")]), LayerNorm()],
                         max_iter=50, solver="lbfgs"),
    ]
)  # fmt: skip
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# The same training as the multilayer perceptrons


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense_layers_are_a_multilayer_perceptron(solver, dtype):
    X = IMAGES.reshape(40, -1)
    params = {**FAST, "solver": solver, "dtype": dtype, "batch_size": 10}
    layers = [Dense(7, "tanh"), Dense(5, "tanh")]
    ours = NetworkClassifier(layers, **params).fit(X, y)
    theirs = MLPClassifier((7, 5), "tanh", **params).fit(X, y)
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    ours = NetworkRegressor(layers, loss="poisson", **params).fit(X, y)
    theirs = MLPRegressor("poisson", (7, 5), "tanh", **params).fit(X, y)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


BASE = {"solver": "sgd", "batch_size": 20, "learning_rate_init": 0.02}
# a parameter -> its value, and what it needs to have an effect
TRAINING = {
    "alpha": {"alpha": 10.0},
    "batch_size": {"batch_size": 10},
    "learning_rate": {"learning_rate": "invscaling"},
    "learning_rate_init": {"learning_rate_init": 0.05},
    "power_t": {"learning_rate": "invscaling", "power_t": 0.1},
    "max_iter": {"max_iter": 4},
    "shuffle": {"shuffle": False},
    "random_state": {"random_state": 1},
    "momentum": {"momentum": 0.5},
    "nesterovs_momentum": {"nesterovs_momentum": False},
    "early_stopping": {"early_stopping": True},
    "validation_fraction": {"early_stopping": True, "validation_fraction": 0.3},
    "beta_1": {"solver": "adam", "beta_1": 0.5},
    "beta_2": {"solver": "adam", "beta_2": 0.5},
    "epsilon": {"solver": "adam", "epsilon": 0.1},
    "solver": {"solver": "adam"},
    "dtype": {"dtype": "float32"},
    "class_weight": {"class_weight": "balanced"},
    "initializer": {"initializer": "he"},
    "tol": {"max_iter": 40, "n_iter_no_change": 3, "tol": 0.05},
    "n_iter_no_change": {"max_iter": 40, "n_iter_no_change": 1, "tol": 0.05},
    "max_fun": {"solver": "lbfgs", "max_iter": 9, "max_fun": 4},
}
# parameters with tests of their own
OTHERS = {"layers", "input_shape", "warm_start", "verbose", "n_threads", "device"}
OTHERS |= {"matmul_precision", "transform_layer", "pretrained", "frozen_layers"}


@pytest.mark.parametrize("name", TRAINING)
def test_every_training_parameter_has_its_effect(name):
    """By itself: the other fit has the same parameters but for this one."""
    changed = small(**{**BASE, **TRAINING[name]})
    other = clone(changed).set_params(**{name: getattr(small(**BASE), name)})
    changed.fit(IMAGES, y), other.fit(IMAGES, y)
    assert not np.array_equal(changed._parameters, other._parameters)


def test_all_training_parameters_are_tested():
    assert TRAINING.keys() | OTHERS == small().get_params(deep=False).keys()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_weights_and_further_training(n_threads):
    params = {"solver": "sgd", "batch_size": 20, "n_threads": n_threads}
    plain = small(**params).fit(IMAGES, y)
    weighted = small(**params).fit(IMAGES, y, sample_weight=np.linspace(0.5, 1, 40))
    assert not np.array_equal(plain.coefs_[0], weighted.coefs_[0])
    before = plain.loss_curve_[-1]
    assert plain.partial_fit(IMAGES, y).loss_curve_[-1] < before
    assert plain.t_ == 4 * 40
    stopped = small(early_stopping=True, validation_fraction=0.3, **params).fit(IMAGES, y)
    assert len(stopped.validation_scores_) == stopped.n_iter_ == len(stopped.loss_curve_)
    assert stopped.t_ == 28 * stopped.n_iter_


def test_warm_start_goes_on_with_the_same_layers():
    clf = small(warm_start=True).fit(IMAGES, y)
    before = clf.coefs_[0].copy()
    losses = [clf.fit(IMAGES, y).loss_ for _ in range(3)]
    assert losses[0] > losses[-1] and not np.array_equal(before, clf.coefs_[0])
    clf.set_params(conv1__filters=5)
    with pytest.raises(ValueError, match="layers were changed"):
        clf.fit(IMAGES, y)
    assert clf.set_params(warm_start=False).fit(IMAGES, y).coefs_[0].shape == (3, 3, 2, 5)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_goes_on_with_the_same_input_shape(method):
    X = IMAGES.reshape(40, -1)
    clf = NetworkClassifier([Conv(2)], input_shape=(6, 10, 1), warm_start=True, **FAST).fit(X, y)
    before = clf.coefs_[0].copy()
    with pytest.raises(
        ValueError,
        match=r"input_shape was changed from \(6, 10, 1\) to "
        r"\(10, 6, 1\) after the network was fitted.*warm_start=False",
    ):
        getattr(clf.set_params(input_shape=(10, 6, 1)), method)(X, y)  # fmt: skip
    np.testing.assert_array_equal(clf.coefs_[0], before)
    for same in [6, 10, 1], None:
        getattr(clf.set_params(input_shape=same), method)(X, y)
    clf.set_params(input_shape=(10, 6, 1), warm_start=False).fit(X, y)
    assert clf.input_shape_ == (10, 6, 1)


@pytest.mark.parametrize(
    "layer, wrong",
    [(Dense(7), Dense(7.0)), (Conv(3), Conv(3.0)), (Dense(1), Dense(True))],
    ids=str,
)
def test_an_invalid_layer_is_not_hidden_by_an_equal_one(layer, wrong):
    NetworkClassifier([layer], **FAST).fit(IMAGES, y)
    with pytest.raises(ValueError, match=r"Layer '\w+': \w+ must be an integer"):
        NetworkClassifier([wrong], **FAST).fit(IMAGES, y)


def test_parameters_set_as_they_are_change_no_network():
    clf = NetworkClassifier(
        [Residual([Conv(2)]), Concatenate([[Conv(1), Conv(2)], Conv(2)])], warm_start=True, **FAST
    ).fit(IMAGES, y)
    program = clf._program()
    before = clf.coefs_[0].copy()
    clf.set_params(**clf.get_params()).fit(IMAGES, y)
    assert clf._program() is program and not np.array_equal(clf.coefs_[0], before)
    clf.set_params(concatenate1__branch1__conv1__filters=2)
    with pytest.raises(ValueError, match="layers were changed"):
        clf.fit(IMAGES, y)


# Names and parameters


def test_nested_parameters():
    clf = NetworkClassifier(
        [Conv(4), ("wide", Dense(9)), Dense(5), Residual([("inner", Dense(5)), Dropout(0.1)])]
    )
    params = clf.get_params()
    assert params["conv1__filters"] == 4 and params["wide__units"] == 9
    assert params["dense1"] == Dense(5)
    assert params["residual1__inner__units"] == 5 and params["residual1__dropout1__rate"] == 0.1
    assert "conv1" not in clf.get_params(deep=False)
    clf.set_params(conv1__filters=7, residual1__inner__activation="tanh", alpha=0.5)
    assert clf.layers[0].filters == 7 and clf.alpha == 0.5
    assert clf.layers[3].layers[0][1] == Dense(5, "tanh")
    clf.set_params(wide=Dense(3, "relu"), wide__units=2)
    assert dict(clf.layers)["wide"] == Dense(2, "relu") and dict(clf.layers)["dense1"] == Dense(5)
    with pytest.raises(ValueError, match="Invalid parameter"):
        clf.set_params(dense9__units=3)


def test_names_reach_into_branches():
    clf = NetworkClassifier([Concatenate([[Conv(4, 1), Conv(8)], Conv(2)])], **FAST)
    grid = {"concatenate1__branch1__conv1__filters": [2, 3]}
    search = GridSearchCV(clf, grid, cv=2).fit(IMAGES, y)
    best = search.best_estimator_
    filters = search.best_params_["concatenate1__branch1__conv1__filters"]
    assert best.parameters_["concatenate1.branch1.conv1.weights"].shape == (1, 1, 2, filters)
    rows = {row.name: row[1:3] for row in best.summary().layers}
    assert rows["concatenate1.branch1.conv1"] == ("Conv", (6, 5, filters))
    assert rows["concatenate1.branch1"] == ("Branch", (6, 5, 8))


def test_replacing_a_layer_keeps_the_names_of_the_others():
    clf = small().set_params(layers=[Dense(1), Dense(2)], dense2__units=3)
    assert clf.layers == [Dense(1), Dense(3)]
    clf.set_params(dense1=BatchNorm())
    assert [name for name, _ in clf.layers] == ["dense1", "dense2"]


def test_clone_copies_the_layers():
    clf = small()
    copied = clone(clf)
    assert copied.layers == clf.layers and copied.layers[0] is not clf.layers[0]
    copied.set_params(conv1__filters=9)
    assert clf.layers[0].filters == 4


def test_grid_search_over_layers():
    grid = {
        "conv1__filters": [2, 3],
        "dense1": [Dense(4), Dense(5, "tanh")],
        "maxpool1": [Flatten()],
    }
    search = GridSearchCV(small(), grid, cv=2).fit(IMAGES, y)
    assert search.best_estimator_.coefs_[0].shape[-1] == search.best_params_["conv1__filters"]
    assert small().layers[0].filters == 4


def test_repr():
    assert "Conv(activation='relu', filters=4)" in repr(small())
    assert "NetworkClassifier" in estimator_html_repr(small().fit(IMAGES, y))
    assert repr(Residual([Dense(3)])) == "Residual(layers=[Dense(units=3)])"


@pytest.mark.parametrize(
    "layers, message",
    [
        ([], "empty"),
        ([Dense(3), "relu"], "no layer"),
        ([Dense], "no layer but <class"),
        ([("a", Dense)], "'a' is no layer but <class"),
        ([Dense({3})], r"Layer 'dense1': units must be .* got \{3\}"),
        ([Dense(3), Conv(2)], "'conv1' got an input of 1 x 1 x 3 and needs images.*before Dense"),
        ([[Conv(3), Dense(3)]], "no layer but the list"),
        ([("a", Dense(3)), ("a", Dense(4))], "different"),
        ([("dense1", Dense(3)), Dense(4)], "different"),
        ([("a__b", Dense(3))], "__"),
        ([("a.b", Dense(3))], "separate"),
        ([("alpha", Dense(3))], "parameters"),
        ([("output", Dense(3))], "appended"),
        ([Dense(0)], "'dense1'.*at least 1"),
        ([Dense(3, "swosh")], "'dense1'.*activation"),
        ([Conv(3, 9, padding="valid")], "'conv1'.*at least 9 x 9"),
        ([Conv(3, groups=2), Conv(4, groups=2)], "'conv1'.*groups"),
        ([Residual([Conv(3, padding="valid")])], "'residual1'"),
        ([Concatenate([Conv(3), MaxPool(2)])], "'concatenate1'.*sizes"),
        ([MaxPool(0)], "pool_size"),
        ([Dropout(1.0)], "rate"),
    ],
    ids=str,
)  # fmt: skip
def test_refused_layers(layers, message):
    clf = NetworkClassifier(layers, **FAST)
    repr(clf), clf.get_params(), clone(clf)
    with pytest.raises(ValueError, match=message):
        clf.fit(IMAGES, y)
    assert not hasattr(clf, "coefs_") and not hasattr(clf, "classes_")


def test_maps_need_images():
    with pytest.raises(ValueError, match="'conv1' got an input of 1 x 1 x 60 and needs images"):
        small().fit(IMAGES.reshape(40, -1), y)


@pytest.mark.parametrize("layers", [None, Dense(3), 5, "dense"])
def test_layers_must_be_a_list(layers):
    with pytest.raises(ValueError, match="'layers' parameter"):
        NetworkClassifier(layers).fit(IMAGES, y)


# What was fitted


def test_later_changes_do_not_reach_the_fitted_network():
    layers = [Conv(4, activation="relu"), Dense(6, "relu")]
    clf = NetworkClassifier(layers, **FAST).fit(IMAGES, y)
    before, shown = clf.predict_proba(IMAGES), str(clf.summary())
    layers[0].activation, layers[1].units = "tanh", 2
    clf.set_params(conv1__filters=1, input_shape=(3,), alpha=1.0)
    np.testing.assert_array_equal(clf.predict_proba(IMAGES), before)
    for other in pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf):
        np.testing.assert_array_equal(other.predict_proba(IMAGES), before)
        assert str(other.summary()) == shown


def test_parameters_by_name():
    clf = NetworkClassifier([Conv(4), BatchNorm(), Dense(3)], **FAST).fit(IMAGES, y)
    assert {name: view.shape for name, view in clf.parameters_.items()} == {
        "conv1.weights": (3, 3, 2, 4), "conv1.biases": (4,),
        "batchnorm1.scales": (4,), "batchnorm1.shifts": (4,),
        "dense1.weights": (120, 3), "dense1.biases": (3,),
        "output.weights": (3, 3), "output.biases": (3,),
    }  # fmt: skip
    assert clf.coefs_[0] is not clf.parameters_["conv1.weights"]
    assert np.shares_memory(clf.coefs_[0], clf.parameters_["conv1.weights"])
    before = clf.predict_proba(IMAGES)
    clf.parameters_["batchnorm1.shifts"][...] += 1
    changed = clf.predict_proba(IMAGES)
    assert not np.allclose(changed, before)
    clf.coefs_[1] = np.zeros((120, 3))
    np.testing.assert_array_equal(clf.parameters_["dense1.weights"], 0)
    clf.statistics_["batchnorm1.variances"][...] = 4
    assert set(clf.statistics_) == {"batchnorm1.means", "batchnorm1.variances"}
    assert not np.array_equal(pickle.loads(pickle.dumps(clf)).statistics_["batchnorm1.means"], 0)


def test_summary():
    layers = [Conv(4, strides=2), Residual([Conv(4)]), GlobalAveragePool(), Dropout(0), Dense(6)]
    clf = NetworkClassifier(layers, dtype="float32", **FAST).fit(IMAGES, y)
    summary = clf.summary()
    found = {row.name: row[1:] for row in summary.layers}
    assert found == {
        "conv1": ("Conv", (3, 3, 4), 76, 2 * 9 * 18 * 4, 4 * 36),
        "residual1.conv1": ("Conv", (3, 3, 4), 148, 2 * 9 * 36 * 4, 4 * 36),
        "residual1": ("Residual", (3, 3, 4), 148, 2 * 9 * 36 * 4, 8 * 36),
        "globalaveragepool1": ("GlobalAveragePool", (4,), 0, 0, 16),
        "dropout1": ("Dropout", (4,), 0, 0, 0),
        "dense1": ("Dense", (6,), 30, 48, 24),
        "output": ("Dense", (3,), 21, 36, 12),
    }
    assert summary.total.n_parameters == sum(v.size for v in clf.parameters_.values())
    assert "residual1.conv1" in str(summary) and "6 x 5 x 2" in str(summary)
    signals = NetworkRegressor([Conv(2)], **FAST).fit(IMAGES[:, 0], y).summary()
    assert signals.layers[0].output_shape == (5, 2)


# X


def test_shapes_that_are_taken():
    clf = NetworkClassifier([Conv(2)], input_shape=(6, 10, 1), **FAST)
    X = IMAGES.reshape(40, 6, 10)
    forms = [X, X[..., None], X.reshape(40, -1), X.tolist()]
    fits = [clone(clf).fit(form, y) for form in forms]
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.coefs_[0], fits[0].coefs_[0])
        assert fit.n_features_in_ == 60 and fit.input_shape_ == (6, 10, 1)
    probabilities = [fits[0].predict_proba(form) for form in forms]
    for other in probabilities[1:]:
        np.testing.assert_array_equal(other, probabilities[0])


def test_the_input_shape_comes_from_X():
    for X, shape in [(IMAGES, (6, 5, 2)), (IMAGES[:, 0], (5, 2)), (IMAGES[:, 0, 0], (2,))]:
        clf = NetworkClassifier([Dense(3)], **FAST).fit(X, y)
        assert clf.input_shape_ == shape and clf.n_features_in_ == np.prod(shape)


WRONG = {
    "one axis": (IMAGES[:, 0, 0, 0], "1D array"),
    "five axes": (IMAGES[None], "5 axes"),
    "another size": (IMAGES[:, 1:], r"\(5, 5, 2\).*fitted with \(6, 5, 2\)"),
    "another rank": (IMAGES[:, 0], r"\(5, 2\).*fitted with \(6, 5, 2\)"),
    "channels first": (np.moveaxis(IMAGES, -1, 1), r"moveaxis\(X, 1, -1\)"),
    "too few features": (IMAGES.reshape(40, -1)[:, 1:], "59 features"),
    "NaN": (np.where(IMAGES > 0.9, np.nan, IMAGES), "NaN"),
    "infinity": (np.where(IMAGES > 0.9, np.inf, IMAGES), "infinity"),
    "no pixels": (IMAGES[:, :0], "empty"),
    "no rows": (IMAGES[:0], "0 sample"),
    "complex": (IMAGES + 1j, "Complex"),
    "text": (np.full(IMAGES.shape, "a"), "could not convert"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_X(kind):
    X, message = WRONG[kind]
    clf = small().fit(IMAGES, y)
    for method in "predict", "transform":
        with pytest.raises(ValueError, match=message):
            getattr(clf, method)(X)
    if not kind.startswith(("another", "channels", "too few")):
        before = clf.predict_proba(IMAGES)
        with pytest.raises(ValueError):
            clf.fit(X, y)
        np.testing.assert_array_equal(clf.predict_proba(IMAGES), before)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((6, 5, 3), r"\(6, 5, 2\), but input_shape is \(6, 5, 3\)"),
        ((2, 6, 5), "input_shape is"),
        ((1, 6, 5, 2), "input_shape must be"),
        ((6, 5.0, 2), "input_shape must be"),
        ((-6, 5, -2), "input_shape must be"),
        ((), "input_shape must be"),
    ],
)
def test_wrong_input_shape(shape, message):
    with pytest.raises(ValueError, match=message):
        small(input_shape=shape).fit(IMAGES, y)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first(channels):
    X = rng.uniform(size=(10, channels, 12, 9))
    with pytest.raises(ValueError, match=r"channels came first.*gives \(12, 9, "):
        small().fit(X, y[:10])
    with pytest.raises(ValueError, match=r"moveaxis"):
        small(input_shape=(12, 9, channels)).fit(X, y[:10])
    flat = small(input_shape=(channels, 12, 9)).fit(X, y[:10])
    assert flat.input_shape_ == (channels, 12, 9)


def test_sparse_tables():
    X = IMAGES.reshape(40, -1) * (IMAGES.reshape(40, -1) > 0.6)
    dense, csr = (
        NetworkClassifier([Dense(5, "relu")], **FAST).fit(form, y)
        for form in (X, sparse.csr_array(X))
    )
    np.testing.assert_allclose(dense.predict_proba(X), csr.predict_proba(sparse.csc_array(X)))


@pytest.mark.parametrize("shape", [None, (60,), (6, 5, 2)])
def test_sparse_rows_of_any_input_shape(shape):
    X = IMAGES.reshape(40, -1) * (IMAGES.reshape(40, -1) > 0.6)
    dense, csr = (
        NetworkClassifier([Dense(5, "relu")], input_shape=shape, **FAST).fit(form, y)
        for form in (X, sparse.csr_array(X))
    )
    np.testing.assert_allclose(csr.predict_proba(sparse.csr_array(X)), dense.predict_proba(X))


def test_networks_that_read_no_sparse_X():
    X = sparse.csr_array(IMAGES.reshape(40, -1) * (IMAGES.reshape(40, -1) > 0.6))
    small_conv = ConvClassifier((2,), hidden_layer_sizes=3, input_shape=(6, 5, 2), **FAST)
    for clf in NetworkClassifier([BatchNorm()], **FAST), small(input_shape=(6, 5, 2)), small_conv:
        with pytest.raises(ValueError, match=r"Only dense layers read a sparse X.*X\.toarray"):
            clf.fit(X, y)
        clf.fit(X.toarray(), y)
        with pytest.raises(ValueError, match=r"Only dense layers read a sparse X.*X\.toarray"):
            clf.predict(X)


def test_sparse_predictions_do_not_follow_later_changes():
    X = sparse.csr_array(IMAGES.reshape(40, -1) * (IMAGES.reshape(40, -1) > 0.6))
    clf = NetworkClassifier([Dense(4)], **FAST).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(layers=[Conv(3)], input_shape=(6, 5, 2))
    np.testing.assert_array_equal(clf.predict_proba(X), before)


# Bytes


def as_bytes(X):
    return (255 * X).round().astype(np.uint8)


def test_bytes_are_scaled_wherever_they_come_from():
    X = as_bytes(IMAGES)
    clf = small().fit(X, y)
    assert clf.input_scale_ == 1 / 255 and clf.coefs_[0].dtype == np.float32
    scaled = small(dtype="float32").fit(X.astype(np.float32) * np.float32(1 / 255), y)
    np.testing.assert_allclose(clf.coefs_[0], scaled.coefs_[0], rtol=1e-5, atol=1e-6)
    expected = clf.predict_proba(X)
    assert expected.dtype == np.float32
    for form in X.astype(np.float32), X.astype(np.float64), X.astype(int), X.reshape(40, -1):
        np.testing.assert_allclose(clf.predict_proba(form), expected, rtol=1e-5)
    with_floats = small().fit(IMAGES, y)
    assert with_floats.input_scale_ == 1
    clf.partial_fit(X.astype(float), y)
    assert clf.input_scale_ == 1 / 255
    np.testing.assert_allclose(
        clf.transform(X), pickle.loads(pickle.dumps(clf)).transform(X.astype(float)), rtol=1e-4,
        atol=1e-6,
    )  # fmt: skip


def test_sparse_rows_of_a_network_of_bytes():
    X = as_bytes(IMAGES.reshape(40, -1) * (IMAGES.reshape(40, -1) > 0.6))
    clf = NetworkClassifier([Dense(5, "relu")], **FAST).fit(X, y)
    found = clf.predict_proba(sparse.csr_array(X))
    np.testing.assert_allclose(found, clf.predict_proba(X), rtol=1e-5)


def test_bytes_are_never_made_larger(monkeypatch):
    """Neither as an array nor by the executor, which gathers a minibatch."""
    import tracemalloc

    X = np.zeros((2_000, 32, 32, 3), np.uint8)
    labels = np.arange(2_000) % 2
    clf = NetworkClassifier([AveragePool(8)], batch_size=10, max_iter=1, n_threads=1)
    clf.fit(X[:20], labels[:20])
    tracemalloc.start()
    clf.fit(X, labels).predict(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arrays_of_any_layout(dtype, tmp_path):
    X = (200 * IMAGES).astype(dtype)
    np.save(tmp_path / "images.npy", X)
    read_only = X.copy()
    read_only.flags.writeable = False
    spaced = np.zeros((80, 6, 5, 4), dtype)
    spaced[::2, ..., ::2] = X
    forms = [
        np.load(tmp_path / "images.npy", mmap_mode="r"), read_only, np.asfortranarray(X),
        spaced[::2, ..., ::2], X[::-1][::-1],
    ]  # fmt: skip
    expected = small().fit(X, y)
    probabilities = expected.predict_proba(X)
    for form in forms:
        clf = small().fit(form, y)
        np.testing.assert_array_equal(clf.coefs_[0], expected.coefs_[0])
        np.testing.assert_array_equal(clf.predict_proba(form), probabilities)


def test_pipeline():
    X = IMAGES.reshape(40, -1)
    pipeline = make_pipeline(StandardScaler(), small(input_shape=(6, 5, 2))).fit(X, y)
    assert pipeline.predict_proba(X).shape == (40, 3)
    assert pipeline.set_params(networkclassifier__dense1__units=2).fit(X, y)


def test_every_layer_learns():
    """All kinds of layers in one network."""
    X, labels = load_digits(return_X_y=True)
    X = as_bytes(X.reshape(-1, 8, 8, 1) / 16)[:600]
    layers = [
        Conv(8), BatchNorm(), Activation("relu"), Residual([Conv(8, activation="relu"), Conv(8)]),
        MaxPool(2), Concatenate([Conv(6, 1, activation="tanh"), [AveragePool(1), Conv(4)]]),
        Dropout(0.1, spatial=True), LayerNorm(), Flatten(), Dense(30, "relu"), Dropout(0.1),
    ]  # fmt: skip
    clf = NetworkClassifier(layers, max_iter=15, learning_rate_init=0.005, batch_size=50,
                            random_state=0).fit(X, labels[:600])  # fmt: skip
    assert clf.score(X, labels[:600]) > 0.98
