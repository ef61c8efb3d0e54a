"""Features of a layer, and networks that start from another's layers."""

import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sknn import ConvClassifier, MLPClassifier, NetworkClassifier, NetworkRegressor
from sknn.layers import (
    Activation,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Residual,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1 or larger"),
]
rng = np.random.RandomState(0)
X = rng.uniform(size=(40, 6, 5, 2))
y = np.arange(40) % 3
LAYERS = [
    ("conv", Conv(3)), ("norm", BatchNorm()), ("relu", Activation("relu")), ("pool", MaxPool(2)),
    ("both", Residual([("inner", Conv(3, activation="tanh"))])), ("flat", Flatten()),
    ("dense", Dense(7, "relu")), ("drop", Dropout(0.5)),
]  # fmt: skip


def make(**params):
    return NetworkClassifier(LAYERS, **{"max_iter": 3, "random_state": 0, **params})


# Features


def test_features_of_each_layer():
    clf = make().fit(X, y)
    shapes = {row.name: row.output_shape for row in clf.summary().layers}
    features = {}
    for name, shape in shapes.items():
        if name != "output":
            features[name] = clf.set_params(transform_layer=name).transform(X)
            assert features[name].shape == (40, np.prod(shape))
            assert len(clf.get_feature_names_out()) == np.prod(shape)
    p = clf.parameters_
    normed = features["conv"].reshape(40, 6, 5, 3) - clf.statistics_["norm.means"]
    normed *= p["norm.scales"] / np.sqrt(clf.statistics_["norm.variances"] + 1e-5)
    normed += p["norm.shifts"]
    np.testing.assert_allclose(features["norm"].reshape(normed.shape), normed, rtol=1e-8)
    np.testing.assert_allclose(features["relu"], np.maximum(features["norm"], 0))
    maps = features["relu"].reshape(40, 6, 5, 3)[:, :, :4].reshape(40, 3, 2, 2, 2, 3)
    np.testing.assert_array_equal(features["pool"], maps.max(axis=(2, 4)).reshape(40, -1))
    total = features["pool"] + features["both.inner"]
    np.testing.assert_allclose(features["both"], total, rtol=1e-12)
    np.testing.assert_array_equal(features["flat"], features["both"])
    dense = np.maximum(features["flat"] @ p["dense.weights"] + p["dense.biases"], 0)
    np.testing.assert_allclose(features["dense"], dense, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(features["drop"], features["dense"])  # not in predictions
    scores = features["drop"] @ p["output.weights"] + p["output.biases"]
    np.testing.assert_array_equal(scores.argmax(axis=1), clf.predict(X))
    last = clf.set_params(transform_layer=None).transform(X)
    np.testing.assert_array_equal(last, features["drop"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).transform(X), last)


def test_output_is_a_layer_too():
    regressor = NetworkRegressor([Dense(4, "relu")], loss="poisson", transform_layer="output",
                                 max_iter=3).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(np.exp(regressor.transform(X))[:, 0], regressor.predict(X))


@pytest.mark.parametrize("name", ["norm2", "conv1", "", "conv.weights"])
def test_unknown_layer(name):
    message = f"There is no layer '{name}'; the layers are conv, norm"
    with pytest.raises(ValueError, match=message):
        make(transform_layer=name).fit(X, y)
    clf = make(warm_start=True).fit(X, y).set_params(transform_layer=name)
    for call in clf.fit, clf.partial_fit:
        with pytest.raises(ValueError, match=message):
            call(X, y)
    with pytest.raises(ValueError, match=message):
        clf.transform(X)
    with pytest.raises(ValueError, match=message):
        clf.get_feature_names_out()


def test_features_of_a_shortcut():
    clf = NetworkClassifier([Residual([Conv(3, strides=2)])], max_iter=1, random_state=0)
    clf.fit(X, y).set_params(transform_layer="residual1.shortcut")
    weights, biases = (clf.parameters_[f"residual1.shortcut.{n}"] for n in ("weights", "biases"))
    expected = X[:, ::2, ::2] @ weights[0, 0] + biases
    np.testing.assert_allclose(clf.transform(X).reshape(expected.shape), expected)
    kinds = {row.name: (row.kind, row.n_parameters) for row in clf.summary().layers}
    assert kinds["residual1.shortcut"] == ("Conv", 2 * 3 + 3)


@pytest.mark.parametrize(
    "name, layer",
    [
        ("flatten1", Flatten()),
        ("dropout1", Dropout(0.5)),
        ("concatenate1.branch1.dropout1", Concatenate([[Dropout(0.5)], Conv(2)])),
    ],
)
def test_a_layer_that_hands_X_on(name, layer):
    clf = NetworkClassifier([layer, Dense(3)], max_iter=1, warm_start=True).fit(X, y)
    clf.set_params(transform_layer=name)
    with pytest.raises(ValueError, match="hands X on"):
        clf.fit(X, y)
    for n_samples in 1, 40:
        with pytest.raises(ValueError, match="hands X on"):
            clf.transform(X[:n_samples])


def test_no_layer_has_features():
    clf = ConvClassifier((), hidden_layer_sizes=(), max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="no layer before its output layer"):
        clf.transform(X)
    with pytest.raises(ValueError, match="no layer before its output layer"):
        clf.get_feature_names_out()
    assert "coefs_" in dir(clf) and "coefs_" in clf._repr_html_()  # all the same
    assert clf.set_params(transform_layer="output").transform(X).shape == (40, 3)


@pytest.mark.parametrize("beside", [Activation("tanh"), BatchNorm()])
def test_features_of_a_branch(beside):
    """What stands beside it leaves the layer alone that both read."""
    branches = Concatenate([beside, [Dropout(0.5), Dropout(0)]])
    clf = NetworkClassifier([Conv(2), branches], max_iter=2, random_state=0).fit(X, y)
    expected = clf.set_params(transform_layer="conv1").transform(X)
    for name in "dropout1", "dropout2":
        clf.set_params(transform_layer=f"concatenate1.branch1.{name}")
        np.testing.assert_array_equal(clf.transform(X), expected)


def test_set_output():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.reshape(40, -1)).add_prefix("pixel")
    clf = ConvClassifier((2,), hidden_layer_sizes=4, max_iter=2, input_shape=(6, 5, 2))
    features = clf.set_output(transform="pandas").fit_transform(frame, y)
    assert list(features.columns) == [f"convclassifier{i}" for i in range(4)]
    assert list(features.index) == list(frame.index)


def test_feature_extractor_in_a_pipeline():
    clf = make().fit(X, y)
    pipeline = make_pipeline(FrozenEstimator(clf), LogisticRegression()).fit(X, y)
    direct = LogisticRegression().fit(clf.transform(X), y)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), direct.predict_proba(clf.transform(X))
    )


# Pretrained


def test_a_start_from_another_network():
    first = make().fit(X, y)
    other = make(pretrained=FrozenEstimator(first), learning_rate_init=1e-30, max_iter=1)
    for estimator in other, clone(other):
        estimator.fit(X, np.arange(40) % 4)
        for name, array in first.parameters_.items():
            if name.startswith("output"):
                assert not np.array_equal(estimator.parameters_[name], array)
            else:
                np.testing.assert_allclose(estimator.parameters_[name], array, rtol=1e-12)
        moved = 0.9 * first.statistics_["norm.means"]
        assert np.abs(estimator.statistics_["norm.means"] - moved).max() < 0.2
    assert first.n_iter_ == 3


def test_frozen_layers_stay():
    first = make().fit(X, y)
    given = {name: array.copy() for name, array in first.parameters_.items()}
    other = clone(make(pretrained=given, frozen_layers=["conv", "norm", "both"])).fit(X, y[::-1])
    for name, array in other.parameters_.items():
        stays = name.split(".")[0] in ("conv", "norm", "both")
        assert np.array_equal(array, given[name]) == stays, name
    alone = make(frozen_layers=["conv", "output"]).fit(X, y)
    start = make(learning_rate_init=1e-30, max_iter=1).fit(X, y)
    np.testing.assert_allclose(alone.coefs_[0], start.coefs_[0], rtol=1e-12)
    np.testing.assert_allclose(alone.coefs_[-1], start.coefs_[-1], rtol=1e-12)
    assert not np.allclose(alone.coefs_[1], start.coefs_[1])


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam"])
def test_no_penalty_moves_frozen_layers(solver):
    layers = [Conv(2), Dense(4, "tanh")]
    params = {"solver": solver, "alpha": 1.0, "max_iter": 5, "random_state": 0}
    first = NetworkClassifier(layers, **params).fit(X, y)
    given = FrozenEstimator(first)
    other = NetworkClassifier(layers, **params, pretrained=given, frozen_layers=["conv1"])
    other.fit(X, y)
    np.testing.assert_array_equal(other.coefs_[0], first.coefs_[0])
    assert not np.allclose(other.coefs_[1], first.coefs_[1])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_layers_are_frozen_at_first(method):
    """A network that goes on goes by what is frozen now."""
    clf = make(frozen_layers=["conv", "norm"], warm_start=True).fit(X, y)
    for frozen in (), ["dense"]:
        before = {name: array.copy() for name, array in clf.parameters_.items()}
        getattr(clf.set_params(frozen_layers=frozen), method)(X, y)
        for name, array in clf.parameters_.items():
            # the mean that a normalisation takes away leaves biases before it without gradient
            stays = name.split(".")[0] in frozen or name == "conv.biases"
            assert np.array_equal(array, before[name]) == stays, name


def test_statistics_are_taken_too():
    """One row uses the running statistics as they are."""
    first = make().fit(X, y)
    given = {**first.statistics_, **first.parameters_}
    other = make(pretrained=given).partial_fit(X[:1], y[:1], classes=[0, 1, 2])
    for name, array in first.statistics_.items():
        np.testing.assert_array_equal(other.statistics_[name], array)


def test_a_start_from_a_multilayer_perceptron():
    rows = X.reshape(40, -1)
    mlp = MLPClassifier((6, 5), max_iter=3, random_state=0).fit(rows, y)
    other = NetworkClassifier(
        [Dense(6), Dense(5), Dense(4)], max_iter=1, pretrained=FrozenEstimator(mlp),
        learning_rate_init=1e-30,
    )  # fmt: skip
    other.fit(rows, y)
    np.testing.assert_allclose(other.coefs_[1], mlp.coefs_[1])
    assert other.coefs_[2].shape == (5, 4)  # not the perceptron's output


def test_wrong_pretrained():
    first = make().fit(X, y)
    wrong = {
        "has \\['conv9.weights'\\]": {"conv9.weights": np.zeros(3)},
        r"of shape \(3,\).*needs \(3, 3, 2, 3\)": {"conv.weights": np.zeros(3)},
        "the arrays dense1.biases, dense1.weights besides .* output layer. This one takes what "
        "has the same name, and has both": FrozenEstimator(
            MLPClassifier(max_iter=1).fit(X[:, 0, 0], y)
        ),
        "has no arrays besides those of its output layer": FrozenEstimator(
            NetworkClassifier([Flatten()], max_iter=1).fit(X, y)
        ),
        "is not fitted": FrozenEstimator(MLPClassifier()),
        "LogisticRegression": FrozenEstimator(LogisticRegression().fit(X[:, 0, 0], y)),
        "'pretrained' parameter": first,
    }
    for message, pretrained in wrong.items():
        with pytest.raises(ValueError, match=message):
            make(pretrained=pretrained).fit(X, y)
    larger = clone(first).set_params(conv__filters=4, pretrained=FrozenEstimator(first))
    with pytest.raises(ValueError, match="make its size the same"):
        larger.fit(X, y)


def test_learning_goes_on_sooner_from_another_network():
    """Digits 5 to 9 after 0 to 4: the same 100 images, with and without."""
    digits, labels = load_digits(return_X_y=True)
    digits = digits.reshape(-1, 8, 8, 1) / 16
    network = ConvClassifier((16, 32), hidden_layer_sizes=64, batch_size=20, max_iter=10,
                             learning_rate_init=2e-3, dropout=0.5, random_state=0)  # fmt: skip
    first = network.fit(digits[labels < 5], labels[labels < 5])
    learned = {n: a for n, a in first.parameters_.items() if n.startswith("conv")}
    new, names = digits[labels >= 5], labels[labels >= 5]
    scores = []
    for seed in range(5):
        order = np.random.RandomState(seed).permutation(len(new))
        few, rest = order[:100], order[100:]
        starts = (
            clone(network).set_params(dropout=0.0, random_state=seed, pretrained=pretrained)
            for pretrained in (None, learned)
        )
        scores.append([s.fit(new[few], names[few]).score(new[rest], names[rest]) for s in starts])
    scratch, transferred = np.mean(scores, axis=0)
    assert transferred > scratch > 0.9


@pytest.mark.slow
def test_example(capsys):
    path = Path(__file__).parent.parent / "examples" / "transfer.py"
    runpy.run_path(str(path), run_name="__main__")
    assert "from scratch" in capsys.readouterr().out
