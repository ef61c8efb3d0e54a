"""Convolutional and other networks on a simulated GPU against the CPU's."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from sknn import ConvClassifier, ConvRegressor, NetworkClassifier, NetworkRegressor
from sknn._kernels.gpu import images as gpu_images
from sknn.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    GlobalAveragePool,
    LayerNorm,
    MaxPool,
    Residual,
)

from .simulated import Device, DeviceArray, SimulatedDriver

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
DIGITS, LABELS = load_digits(return_X_y=True)
N = 90
IMAGES, Y = DIGITS[:N].reshape(-1, 8, 8, 1) / 16, LABELS[:N]
SIGNALS = IMAGES.reshape(N, 32, 2)
NUMBERS = np.column_stack([IMAGES[:, 2:4].sum(axis=(1, 2, 3)), IMAGES[:, 5].sum(axis=(1, 2))])
OPTIONS = {"max_iter": 20, "random_state": 0, "batch_size": 32, "learning_rate_init": 0.01}
STEADY = OPTIONS | {"solver": "sgd"}  # where biases have no gradient; see test_estimators.py
RESIDUAL = [Conv(4, strides=2), BatchNorm(), Activation("relu"),
            Residual([Conv(4, activation="relu"), Conv(4)]), MaxPool(3, strides=2, padding="same"),
            Concatenate([Conv(4, 1), Conv(4, 3, groups=4), [LayerNorm(), Activation("tanh")]]),
            Dropout(0.2, spatial=True), GlobalAveragePool(), Dense(9, "tanh")]  # fmt: skip
DILATED = [Conv(6, 3, dilation=2, activation="relu"), AveragePool(3, strides=2), BatchNorm(),
           Conv(5, 5, strides=2, activation="logistic"), Dropout(0.1)]  # fmt: skip
POOLED = [Conv(4, activation="tanh"), MaxPool(3, strides=2, padding="same"),
          Conv(5, activation="relu"), MaxPool(), Dense(9, "tanh")]  # fmt: skip
NETWORKS = {
    "conv": (ConvClassifier((4, 6), hidden_layer_sizes=9, dropout=0.1, **OPTIONS), IMAGES, Y),
    "normalised": (
        ConvRegressor((4,), normalization="batch", residual=True, global_pooling=True, **STEADY),
        IMAGES, NUMBERS / 10,
    ),
    "signals": (ConvClassifier((4, 4), kernel_size=5, **OPTIONS), SIGNALS, Y % 2),
    "layers": (NetworkClassifier(RESIDUAL, **STEADY), IMAGES, Y),
    "pooled": (NetworkClassifier(POOLED, **STEADY), IMAGES, Y),
    "dilated": (NetworkRegressor(DILATED, **STEADY), SIGNALS, NUMBERS / 10),
}  # fmt: skip


def fitted(kind, device, dtype, **options):
    model, X, y = NETWORKS[kind]
    return clone(model).set_params(device=device, dtype=dtype, **options).fit(X, y), X


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fit_is_the_cpus(simulated, kind, dtype):
    """A last minibatch is shorter."""
    (cpu, X), (gpu, _) = (fitted(kind, device, dtype) for device in ("cpu", "cuda"))
    assert len(simulated[0]) == 1
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-4)
    close = {"rtol": 1e-2, "atol": 1e-3} if dtype == "float32" else {"rtol": 1e-6, "atol": 1e-8}
    for name, array in {**cpu.parameters_, **cpu.statistics_}.items():
        found = {**gpu.parameters_, **gpu.statistics_}[name]
        np.testing.assert_allclose(found, array, err_msg=name, **close)
    predict = "predict_proba" if hasattr(cpu, "predict_proba") else "predict"
    np.testing.assert_allclose(getattr(gpu, predict)(X), getattr(cpu, predict)(X), **close)
    np.testing.assert_allclose(gpu.transform(X), cpu.transform(X), **close)


@pytest.mark.parametrize("kind", ["conv", "layers"])
def test_columns_of_a_few_images(simulated, kind, monkeypatch):
    """Where the columns of a minibatch are too many, they are made of one part after the other."""
    whole, X = fitted(kind, "cuda", "float64", max_iter=2)
    monkeypatch.setattr(gpu_images, "COLUMN_ELEMENTS", 1)
    parts, _ = fitted(kind, "cuda", "float64", max_iter=2)
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(parts._parameters, whole._parameters, atol=1e-12)
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), atol=1e-12)


def test_an_activation_before_a_max_pool(simulated, monkeypatch):
    """Its derivative is taken of the maxima alone, which are fewer."""
    launch, rows = SimulatedDriver.launch, set()

    def noted(driver, name, blocks, *arguments):
        if "activation_gradient<sknn::Tanh" in name:
            rows.add(arguments[3])
        launch(driver, name, blocks, *arguments)

    monkeypatch.setattr(SimulatedDriver, "launch", noted)
    fitted("pooled", "cuda", "float32", batch_size=N, max_iter=1)
    assert rows == {N * 4 * 4}  # the dense layer's are taken by the narrow one behind it


def test_values_of_a_few_images(simulated, monkeypatch):
    """Large values, too, unless an op needs those of the whole minibatch."""
    whole, X = fitted("conv", "cuda", "float64", max_iter=2)
    monkeypatch.setattr("sknn._kernels.gpu.executor.CHUNK_BYTES", 50_000)
    parts, _ = fitted("conv", "cuda", "float64", max_iter=2)
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), atol=1e-12)
    fitted("normalised", "cuda", "float64", max_iter=1)


def test_bytes(simulated):
    """Images of bytes are scaled as they are read."""
    X = DIGITS[:N].reshape(-1, 8, 8, 1).astype(np.uint8)
    models = [
        ConvClassifier((3,), max_iter=2, random_state=0, device=device).fit(X, Y)
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(models[1].loss_curve_, models[0].loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(*(m.predict_proba(X) for m in models), atol=1e-5)


def test_images_of_the_device(simulated):
    """They train there without being asked; a pickle predicts on the host."""
    simulated[1]["array"] = DeviceArray
    model = ConvClassifier((3,), normalization="batch", max_iter=2, random_state=0)
    with Device(1):  # not in C order, and the device is not the current one later
        images = np.array(IMAGES, order="F").view(DeviceArray)
    gpu, cpu = (clone(model).fit(X, Y) for X in (images, IMAGES))
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_)
    for name in ("predict_proba", "transform"):
        found = getattr(gpu, name)(images)
        assert isinstance(found, DeviceArray) and found.device.id == 1
        np.testing.assert_allclose(found.get(), getattr(cpu, name)(IMAGES))
    other = pickle.loads(pickle.dumps(gpu))
    assert all(type(a) is np.ndarray for a in other.statistics_.values())
    np.testing.assert_allclose(other.predict_proba(IMAGES), cpu.predict_proba(IMAGES))


def test_frozen_layers_stay(simulated):
    """And a layer that nothing before trains makes no gradient of its input."""
    model = ConvClassifier((3, 4), hidden_layer_sizes=5, max_iter=3, random_state=0)
    first = clone(model).fit(IMAGES, Y)
    given = {name: array for name, array in first.parameters_.items() if "conv1" in name}
    options = {"pretrained": given, "frozen_layers": ["conv1"]}
    models = [
        clone(model).set_params(device=device, **options).fit(IMAGES, Y % 2)
        for device in ("cpu", "cuda")
    ]
    for name, array in models[0].parameters_.items():
        np.testing.assert_allclose(models[1].parameters_[name], array, atol=1e-9)
    for name, array in given.items():
        np.testing.assert_array_equal(models[1].parameters_[name], array)
