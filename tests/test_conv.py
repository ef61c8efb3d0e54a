"""ConvClassifier and ConvRegressor: which layers their parameters mean, images and signals."""

import inspect
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sknn import ConvClassifier, ConvRegressor, NetworkClassifier, NetworkRegressor
from sknn.architectures import alexnet, lenet5, resnet, vgg
from sknn.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAveragePool,
    MaxPool,
    Residual,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1 or larger"),
]
FAST = {"filters": (3, 4), "hidden_layer_sizes": 5, "max_iter": 3, "random_state": 0}
rng = np.random.RandomState(0)
IMAGES = rng.uniform(size=(30, 9, 7, 2))
y = np.arange(30) % 3


@parametrize_with_checks(
    [
        ConvClassifier(max_iter=100, learning_rate_init=0.01),
        ConvRegressor(max_iter=100, learning_rate_init=0.01),
        ConvClassifier((8,), normalization="batch", residual=True, max_iter=60,
                       global_pooling=True, learning_rate_init=0.02),
        ConvRegressor((16,), pooling="average", activation="tanh", max_iter=200,
                      learning_rate_init=0.02, dtype="float64"),
    ]
)  # fmt: skip
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "cls, like", [(ConvClassifier, NetworkClassifier), (ConvRegressor, NetworkRegressor)]
)
def test_training_parameters_are_those_of_networks(cls, like):
    """Same names and defaults, all keyword-only but the architecture's first."""
    ours, theirs = (inspect.signature(c).parameters for c in (cls, like))
    for name, parameter in theirs.items():
        if name != "layers":
            assert ours[name] == parameter
    assert [n for n, p in ours.items() if p.kind == p.POSITIONAL_OR_KEYWORD] == ["filters"]
    for estimator in cls, like:
        text = inspect.getdoc(estimator)
        assert not re.search(r"\{\w+\}", text)  # what is shared was filled in
        for name in inspect.signature(estimator).parameters:
            assert f"\n{name} : " in text, name


def layers_of(**params):
    clf = ConvClassifier(**{**FAST, **params}).fit(IMAGES, y)
    return list(clf._chain.layers[:-1])


def test_parameters_are_layers():
    assert layers_of() == [
        ("conv1", Conv(3, activation="relu")), ("pool1", MaxPool(2)),
        ("conv2", Conv(4, activation="relu")), ("pool2", MaxPool(2)),
        ("dense1", Dense(5, "relu")),
    ]  # fmt: skip
    assert layers_of(
        filters=6, kernel_size=(1, 3), strides=2, padding="valid", pooling="average", pool_size=3,
        activation="tanh", normalization="batch", hidden_layer_sizes=(4, 3), dropout=[0, 0.5],
        global_pooling=True,
    ) == [
        ("conv1", Conv(6, (1, 3), strides=2, padding="valid")),
        ("conv1_norm", BatchNorm()), ("conv1_activation", Activation("tanh")),
        ("pool1", AveragePool(3)), ("global_pool", GlobalAveragePool()),
        ("dense1", Dense(4)), ("dense1_norm", BatchNorm()),
        ("dense1_activation", Activation("tanh")),
        ("dense2", Dense(3)), ("dense2_norm", BatchNorm()),
        ("dense2_activation", Activation("tanh")), ("dense2_dropout", Dropout(0.5)),
    ]  # fmt: skip
    arrays = {"kernel_size": np.array([1, 3]), "strides": np.array([1, 2]), "pool_size": [2, 1]}
    assert layers_of(**arrays) == layers_of(kernel_size=(1, 3), strides=(1, 2), pool_size=(2, 1))
    assert layers_of(residual=True, filters=[4], pooling=None, hidden_layer_sizes=()) == [
        ("residual1", Residual([("conv1", Conv(4, activation="relu")), ("conv2", Conv(4))])),
        ("residual1_activation", Activation("relu")),
    ]


@pytest.mark.parametrize("cls", [ConvClassifier, ConvRegressor])
@pytest.mark.parametrize("shape", [(1,), (2,), (5, 1), (1, 3), (1, 1, 1), (2, 1, 3), (3, 17, 1)])
@pytest.mark.parametrize("pooling", ["max", "average", None])
def test_no_input_is_too_short(cls, shape, pooling):
    X = rng.uniform(size=(30, *shape))
    estimator = cls(**{**FAST, "filters": (2, 3, 2, 2)}, kernel_size=5, pooling=pooling)
    assert estimator.fit(X, y).predict(X).shape == (30,)


def test_a_row_is_a_signal():
    X = rng.uniform(size=(30, 12))
    clf = ConvClassifier(**FAST).fit(X, y)
    assert clf.input_shape_ == (12, 1) and clf.n_features_in_ == 12
    other = ConvClassifier(**FAST).fit(X[..., None], y)
    np.testing.assert_array_equal(clf.predict_proba(X), other.predict_proba(X[..., None]))


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_threads_differ_by_rounding(n_threads):
    params = {**FAST, "normalization": "batch", "dropout": 0.2, "batch_size": 10}
    clf = ConvClassifier(**params, n_threads=n_threads).fit(IMAGES, y)
    again = ConvClassifier(**params, n_threads=n_threads).fit(IMAGES, y)
    np.testing.assert_array_equal(clf.coefs_[0], again.coefs_[0])
    one = ConvClassifier(**params, n_threads=1).fit(IMAGES, y)
    np.testing.assert_allclose(clf.coefs_[0], one.coefs_[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"filters": (3, 0)}, "filters must be > 0"),
        ({"filters": 2.5}, "filters"),
        ({"filters": (2.5,)}, "filters must be integers"),
        ({"kernel_size": (3, 3, 3)}, "'conv1'.*kernel_size must be an integer or 2"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_size": 10, "padding": "valid"}, "'conv1'.*padding='same'"),
        ({"strides": -1}, "strides"),
        ({"padding": "full"}, "padding"),
        ({"pooling": "median"}, "pooling"),
        ({"pool_size": 0}, "pool_size"),
        ({"hidden_layer_sizes": -1}, "hidden_layer_sizes"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": (0.1, 0.2)}, "2 rates"),
        ({"normalization": "group"}, "normalization"),
        ({"residual": 2}, "residual"),
        ({"transform_layer": "conv9"}, "There is no layer 'conv9'; the layers are conv1"),
        ({"frozen_layers": ["conv9"]}, "frozen_layers"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        ConvClassifier(**{**FAST, **params}).fit(IMAGES, y)


def test_searches_and_pipelines():
    X = IMAGES.reshape(30, -1)
    clf = ConvClassifier(**FAST, input_shape=(9, 7, 2))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), clf),
        {"convclassifier__filters": [(2,), (3, 4)], "convclassifier__pooling": ["max", None]},
        cv=2,
    ).fit(X, y)
    best = search.best_estimator_[-1]
    assert best.coefs_[0].shape[-1] == search.best_params_["convclassifier__filters"][0]
    assert clone(best).get_params() == best.get_params()


def test_accuracy_on_digits():
    X, labels = load_digits(return_X_y=True)
    X = (X * 15).astype(np.uint8).reshape(-1, 8, 8, 1)
    clf = ConvClassifier((16, 32), hidden_layer_sizes=64, max_iter=15, batch_size=64,
                         learning_rate_init=0.003, random_state=0)  # fmt: skip
    assert cross_val_score(clf, X, labels, cv=3).mean() > 0.94


# Architectures


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize(
    "layers, output",
    [
        (lenet5(), "dense2"),
        (alexnet((4, 5, 6, 6, 4), (8, 7)), "dense2_dropout"),
        (vgg(((3, 3), (4,)), (9,)), "dense1_dropout"),
        (resnet(8, (2, 3, 4)), "pool"),
        (resnet(20, (2, 3, 4)), "pool"),
    ],
)
def test_architectures(layers, output, size):
    X = rng.randint(0, 255, (6, size, size, 3)).astype(np.uint8)
    clf = NetworkClassifier(layers, max_iter=1, random_state=0).fit(X, [0, 1, 2, 0, 1, 2])
    assert clf._feature_layer() == output
    assert np.isfinite(clf.predict_proba(X)).all()


def test_sizes_of_the_papers():
    grey, colour = (
        rng.randint(0, 255, (2, s, s, c)).astype(np.uint8) for s, c in [(28, 1), (32, 3)]
    )
    labels = np.arange(20) % 10
    for layers, X, expected in [
        (lenet5(), grey, 156 + 2416 + 48_120 + 10_164 + 850),
        (resnet(20), colour, 269_722 + (16 * 32 + 32) + (32 * 64 + 64)),
        (resnet(32), colour, 464_154 + (16 * 32 + 32) + (32 * 64 + 64)),
    ]:
        clf = NetworkClassifier(layers, max_iter=1, random_state=0)
        clf.fit(X[labels % 2], labels)
        weights = sum(v.size for n, v in clf.parameters_.items())
        assert weights - sum(_conv_biases(clf)) == expected


def _conv_biases(clf):
    """The papers' residual networks have none before a normalisation."""
    names = set(clf.parameters_)
    for name, view in clf.parameters_.items():
        layer = name.removesuffix(".biases")
        if layer != name and f"{layer}_norm.scales" in names:
            yield view.size


@pytest.mark.parametrize("depth", [2, 7, 19, 0])
def test_wrong_depth(depth):
    with pytest.raises(ValueError, match="8 or 20"):
        resnet(depth)


@pytest.mark.parametrize(
    "make, args, message",
    [
        (vgg, {"normalization": "x"}, r"normalization must be one of \['batch', 'layer'\].* 'x'"),
        (vgg, {"normalization": ["batch"]}, r"normalization must be .* got \['batch'\]"),
        (vgg, {"filters": (32, 64)}, r"filters must be a tuple .* each stage.*\(32, 64\)\.$"),
        (vgg, {"filters": ((32,), ())}, "filters must be a tuple"),
        (vgg, {"filters": ((32, 0),)}, "filters must be a tuple"),
        (vgg, {"filters": 32}, "filters must be a tuple"),
        (vgg, {"filters": ()}, "filters must be a tuple"),
        (vgg, {"units": 256}, r"units must be positive integers.*\(\) for none, got 256"),
        (vgg, {"units": (2.5,)}, "units must be positive integers"),
        (alexnet, {"filters": ()}, r"filters must be 5 positive integers.* got \(\)"),
        (alexnet, {"filters": (1, 2, 3, 4, 5.0)}, "filters must be 5 positive integers"),
        (alexnet, {"filters": 32}, "filters must be 5 positive integers.* got 32"),
        (alexnet, {"units": "many"}, "units must be positive integers.* got 'many'"),
        (resnet, {"depth": "a"}, "depth must be 2 more than a multiple of 6.* got 'a'"),
        (resnet, {"depth": 20.0}, "depth must be 2 more than a multiple of 6.* got 20.0"),
        (resnet, {"filters": 16}, "filters must be positive integers, .* got 16"),
        (resnet, {"filters": ()}, r"filters must be positive integers, .* got \(\)"),
        (resnet, {"filters": (16, True)}, "filters must be positive integers"),
    ],
    ids=str,
)
def test_wrong_parameters_of_architectures(make, args, message):
    with pytest.raises(ValueError, match=message):
        make(**args)


def test_numbers_of_architectures_may_be_arrays():
    assert vgg(np.array([[3, 3], [4, 4]]), [9]) == vgg(((3, 3), (4, 4)), (9,))
    assert resnet(np.int64(8), np.array([2, 3, 4])) == resnet(8, (2, 3, 4))
    assert alexnet(np.arange(4, 9), np.array([], int)) == alexnet((4, 5, 6, 7, 8), ())
