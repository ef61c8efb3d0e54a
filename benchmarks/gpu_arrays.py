"""The section of gpu_check.py about CuPy arrays: into every estimator, and out of it."""

import itertools
import warnings

import numpy as np
from gpu_images import LAYERS, made_up
from sklearn.base import clone

from sknn import (
    ConvClassifier,
    ConvRegressor,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
)

ELEMENT_TYPES = ("float32", "float64", "uint8")
METHODS = ("predict_proba", "transform")
# relative to the largest number of a prediction
TOLERANCE = 1e-3
# so many products of matrices of that size come before X on its stream
BUSY, BUSY_SIZE = 20, 4096


def estimators():
    """Estimators with X between 0 and 1, and targets."""
    images, y = made_up(600, (16, 16, 3), 5)
    table = images[:, ::4, ::4].reshape(len(images), -1)
    numbers = np.column_stack([images.mean(axis=(1, 2, 3)), images[:, 3].mean(axis=(1, 2))])
    options = {"max_iter": 3, "random_state": 0, "batch_size": 64}
    yield MLPClassifier((32,), **options), table, y
    yield MLPClassifier((32,), **options), table, y > 2
    yield MLPRegressor(hidden_layer_sizes=(32,), **options), table, numbers
    yield ConvClassifier((8,), hidden_layer_sizes=16, **options), images, y
    yield ConvRegressor((8,), normalization="batch", **options), images, numbers[:, 0]
    yield NetworkClassifier(list(LAYERS), **options), images, y
    yield NetworkRegressor(list(LAYERS), **options), images, numbers


def arrays(report):
    """CuPy arrays and NumPy arrays: fits of the same bits, and predictions of the same kind."""
    import cupy

    rows = []
    for (model, X, y), dtype in itertools.product(list(estimators()), ELEMENT_TYPES):
        X = (255 * X).astype(dtype) if dtype == "uint8" else X.astype(dtype)
        row = {"estimator": type(model).__name__, "y": y.dtype.name, "X": dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows.append(row | compare_arrays(cupy, model, X, y))
    return rows


def compare_arrays(cupy, model, X, y):
    """Fits and predictions of arrays that lie on the last GPU, which need not be the current one.

    What X is comes late, on a stream that is the current one while it is fitted and predicted.
    """
    device = cupy.cuda.Device(cupy.cuda.runtime.getDeviceCount() - 1)
    weights = np.linspace(0.5, 2, len(X))
    host = clone(model).set_params(device=f"cuda:{device.id}").fit(X, y, weights)
    with device:
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            busy = cupy.ones((BUSY_SIZE, BUSY_SIZE), np.float32)
            for _ in range(BUSY):
                busy = busy @ busy
            there = tuple(map(cupy.asarray, (X, y, weights)))
            own = clone(model).fit(*there)
            found = {name: getattr(own, name)(there[0]) for name in METHODS if hasattr(own, name)}
    found["predict"], score = own.predict(there[0]), own.score(*there)
    stayed = all(
        isinstance(array, cupy.ndarray) and array.device.id == device.id
        for array in found.values()
    )
    same = own.loss_curve_ == host.loss_curve_
    same &= np.array_equal(own._parameters, host._parameters)
    difference = max(
        largest_difference(array.get(), getattr(host, name)(X)) for name, array in found.items()
    )
    right = np.isclose(score, host.score(X, y, weights), rtol=TOLERANCE, atol=TOLERANCE)
    right &= isinstance(score, float)
    return {"same bits": same, "stay there": stayed, "difference": difference, "score": score,
            "ok": bool(same and stayed and difference < TOLERANCE and right)}  # fmt: skip


def largest_difference(found, expected):
    """Relative to the largest number."""
    found, expected = (np.asarray(a, dtype=float) for a in (found, expected))
    return float(np.abs(found - expected).max() / np.abs(expected).max())
