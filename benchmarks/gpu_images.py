"""Sections of gpu_check.py about networks of images: checks, and steps beside PyTorch's."""

import numpy as np
from gpu_sections import PRECISIONS, compare_curves, fit_step_seconds, graphs_and_launches

from sknn import ConvClassifier, ConvRegressor, NetworkClassifier, NetworkRegressor, losses
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
    sequential,
)

# filters of 3 x 3 convolutions over images of 32 x 32 x 3, each with a 2 x 2 maximum; a dense
# layer; classes
SHAPE, FILTERS, UNITS, N_CLASSES = (32, 32, 3), (32, 64, 128), 128, 10
N_IMAGES = 16_384
# every kind of layer, and dropout whose masks must be the CPU's
LAYERS = (
    Conv(8, strides=2), BatchNorm(), Activation("relu"),
    Residual([Conv(8, activation="relu"), Conv(8)]), MaxPool(3, strides=2, padding="same"),
    Concatenate([Conv(8, 1), Conv(8, 3, groups=8), [LayerNorm(), Activation("tanh")]]),
    Dropout(0.2, spatial=True), Conv(8, 3, groups=2, dilation=2), AveragePool(2),
    GlobalAveragePool(), Dense(9, "tanh"), Dropout(0.1),
)  # fmt: skip


def made_up(n, shape=SHAPE, n_classes=N_CLASSES):
    """Images of random numbers, whose classes have brighter parts."""
    rng = np.random.default_rng(0)
    X = rng.random((n, *shape), dtype=np.float32)
    y = rng.integers(n_classes, size=n)
    X[np.arange(n), y % shape[0]] += 0.5
    return X, y


def estimators():
    """Estimators with targets."""
    X, y = made_up(700, (16, 16, 3))
    numbers = np.column_stack([X.mean(axis=(1, 2, 3)), X[:, 3].mean(axis=(1, 2))])
    options = {"max_iter": 20, "random_state": 0, "batch_size": 64}
    yield ConvClassifier((8, 16), hidden_layer_sizes=32, **options), X, y
    yield ConvRegressor((8, 8), normalization="batch", residual=True, **options), X, numbers
    yield NetworkClassifier(list(LAYERS), solver="sgd", **options), X, y
    signals = [Conv(8, 5, strides=2, activation="relu"), MaxPool(2), BatchNorm()]
    yield NetworkRegressor(signals, solver="sgd", **options), X.reshape(len(X), -1, 3), numbers


def networks(report):
    """Loss curves of whole fits against the CPU's; graphs and single launches: the same bits."""
    rows = []
    for estimator, X, y in estimators():
        for dtype in ("float32", "float64"):
            estimator.set_params(dtype=dtype)
            rows.append(
                {"estimator": type(estimator).__name__, "dtype": dtype}
                | compare_curves(estimator, X, y)
            )
    X, y = made_up(1000, (16, 16, 3))
    program = sequential(X.shape[1:], (*LAYERS, Dense(N_CLASSES)), losses.SOFTMAX_LOG_LOSS)
    return rows + [
        {"estimator": "graphs and single launches", "dtype": precision}
        | graphs_and_launches(program, X.reshape(len(X), -1), y, 96, precision)
        for precision in PRECISIONS
    ]


def images(report):
    """Microseconds of a training step of a convolutional network, beside PyTorch's."""
    import gpu_peers

    X, y = made_up(N_IMAGES)
    rows = []
    for batch in (128, 1024):
        row = {"batch": batch, "precision": "tf32"}
        model = ConvClassifier(FILTERS, hidden_layer_sizes=UNITS)
        row["sknn fit"] = fit_step_seconds(model, X, y, batch, "tf32", 5) * 1e6
        row |= gpu_peers.image_step_seconds(X, y, batch, FILTERS, UNITS, N_CLASSES)
        for other in ("torch eager", "torch compiled", "torch graph"):
            if isinstance(row.get(other), float):
                row[f"{other} / sknn fit"] = row[other] / row["sknn fit"]
        rows.append(row)
        print(row, flush=True)
    return rows
