"""Displays of filters and maps."""

import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from sknn import ConvClassifier, MLPClassifier, NetworkRegressor
from sknn.layers import Conv, Dense, Residual
from sknn.plotting import FeatureMapDisplay, FilterDisplay

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.RandomState(0)
X = rng.uniform(size=(20, 7, 6, 3))
y = np.arange(20) % 2


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture
def clf():
    return ConvClassifier((5, 4), max_iter=1, random_state=0).fit(X, y)


def test_filters(plt, clf):
    display = FilterDisplay.from_estimator(clf)
    np.testing.assert_array_equal(display.filters, clf.parameters_["conv1.weights"])
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_title() == "Filters of conv1"
    picture = display.ax_.get_images()[0].get_array()
    assert picture.shape == (2 * 4 - 1, 3 * 4 - 1, 3)  # five filters in three columns
    first = 0.5 + 0.5 * display.filters[..., 0] / np.abs(display.filters).max()
    np.testing.assert_allclose(picture[:3, :3], first)
    display.figure_.canvas.draw()


def test_filters_of_several_channels(plt, clf):
    _, ax = plt.subplots()
    display = FilterDisplay.from_estimator(clf, layer="conv2", ax=ax, cmap="gray", max_columns=10)
    assert display.ax_ is ax and display.figure_ is ax.figure
    image = ax.get_images()[0]
    picture = image.get_array()
    assert picture.shape == (4 * 4 - 1, 5 * 4 - 1)  # 4 filters of 5 channels each
    np.testing.assert_array_equal(picture[:3, 4:7], display.filters[:, :, 1, 0])
    assert image.get_cmap().name == "gray" and image.norm.vmin == -image.norm.vmax
    display.figure_.canvas.draw()


@pytest.mark.parametrize(
    "layer, shape",
    [(None, (7, 6, 5)), ("pool1", (3, 3, 5)), ("conv2", (3, 3, 4)), ("dense1", (1, 1, 128))],
)
def test_maps(plt, clf, layer, shape):
    display = FeatureMapDisplay.from_estimator(clf, X[3], layer=layer)
    assert display.maps.shape == shape
    features = clf.set_params(transform_layer=layer or "conv1").transform(X[3:4])
    np.testing.assert_array_equal(display.maps.ravel(), features.ravel())
    picture = display.ax_.get_images()[0].get_array()
    np.testing.assert_array_equal(picture[: shape[0], : shape[1]], display.maps[..., 0])
    display.figure_.canvas.draw()


def test_inner_convolutions_and_signals(plt):
    regressor = NetworkRegressor([Residual([Conv(2)]), Dense(3)], max_iter=1).fit(X[:, 0], y)
    assert FilterDisplay.from_estimator(regressor).filters.shape == (1, 3, 3, 2)
    display = FeatureMapDisplay.from_estimator(regressor, X[0, 0], layer="residual1.conv1")
    assert display.maps.shape == (1, 6, 2)


def test_a_shortcut_is_a_layer_for_both(plt):
    regressor = NetworkRegressor([Residual([Conv(2, strides=2)])], max_iter=1).fit(X, y)
    filters = FilterDisplay.from_estimator(regressor, layer="residual1.shortcut").filters
    maps = FeatureMapDisplay.from_estimator(regressor, X[0], layer="residual1.shortcut").maps
    assert filters.shape == (1, 1, 3, 2) and maps.shape == (4, 3, 2)


@pytest.mark.parametrize(
    "estimator", [LinearRegression(), make_pipeline(LinearRegression())], ids=str
)
def test_displays_say_what_they_show(estimator):
    estimator.fit(X[:, 0, 0], y)
    for layer in None, "conv1":
        with pytest.raises(
            ValueError, match=r"fitted networks of sknn.* not \w+\. .*pipeline\[-1\]"
        ):
            FeatureMapDisplay.from_estimator(estimator, X[0], layer=layer)
        with pytest.raises(ValueError, match="fitted networks of sknn"):
            FilterDisplay.from_estimator(estimator, layer=layer)


def test_refused(plt, clf):
    with pytest.raises(ValueError, match="the convolutions are conv1, conv2"):
        FilterDisplay.from_estimator(clf, layer="dense1")
    with pytest.raises(ValueError, match="There is no layer 'conv7'; the layers are conv1"):
        FeatureMapDisplay.from_estimator(clf, X[0], layer="conv7")
    with pytest.raises(ValueError, match="has no convolution"):
        FilterDisplay.from_estimator(MLPClassifier(max_iter=1).fit(X[:, 0, 0], y))
    with pytest.raises(NotFittedError):
        FilterDisplay.from_estimator(ConvClassifier())
    with pytest.raises(NotFittedError):
        FeatureMapDisplay.from_estimator(ConvClassifier(), X[0])
    with pytest.raises(ValueError, match=r"one image or signal.*Give one"):
        FeatureMapDisplay.from_estimator(clf, X)


def test_without_matplotlib(clf, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'sknn\[demo\]'"):
        FilterDisplay.from_estimator(clf)
