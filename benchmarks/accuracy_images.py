"""How well convolutional networks do on real images, and how long that takes.

MNIST after 4 and 15 epochs, a subset of CIFAR-10, and spoken digits as images of their log-mel
frames: mean and spread of the accuracy over seeds, and the time of a fit, beside PyTorch with the
same layers, epochs and optimizer where it is installed.

    python benchmarks/accuracy_images.py [--seeds 5] [--only mnist] [--threads 2]

Adam's learning rate is 0.001, or 0.003 with batch normalization, and a tenth of that in the last
quarter of the epochs: a second fit with ``warm_start``. For CIFAR-10 dense layers start as
PyTorch's do (``initializer="fan_in"``), which ends higher.

The data are found in SKNN_DATA, or in ../shared/data; what is not there is skipped.
"""

import argparse
import functools
import gzip
import os
import statistics
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from report import ROOT, Report
from sklearn.exceptions import ConvergenceWarning

from sknn import NetworkClassifier
from sknn.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Residual,
)

DATA = Path(os.environ.get("SKNN_DATA", ROOT.parent / "shared" / "data"))
BATCH_SIZE = 128
FRAMES = 48  # of a spoken digit; 99% of them are shorter


@dataclass
class Recipe:
    """A data set, the layers before the output, and how long they are trained."""

    name: str
    data: str
    layers: list
    epochs: int
    goal: float | None = None
    learning_rate: float = 1e-3
    initializer: str = "glorot"

    @property
    def phases(self):
        """Epochs and the learning rate of each part of the training; the last calms it down."""
        last = self.epochs // 4
        return (self.epochs - last, self.learning_rate), (last, self.learning_rate / 10)


def mnist():
    """Images (n, 28, 28, 1) of uint8 and labels, for training and for testing."""

    def read(name, header):
        content = gzip.decompress((DATA / "mnist" / name).read_bytes())
        return np.frombuffer(content, dtype=np.uint8, offset=header)

    parts = []
    for part in ("train", "t10k"):
        parts.append(read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1))
        parts.append(read(f"{part}-labels-idx1-ubyte.gz", 8).astype(int))
    return parts


def cifar():
    """Images (n, 32, 32, 3) of uint8: 4,500 to train and 1,000 to test."""
    with np.load(DATA / "cifar10_subset" / "cifar10_5500.npz") as file:
        return [file[name] for name in ("X_train", "y_train", "X_test", "y_test")]


def spoken():
    """Log-mel frames of spoken digits as images (n, FRAMES, 24, 1), silence at the end."""
    with np.load(DATA / "spoken_digits" / "fsdd_logmel24.npz") as file:
        frames, lengths, y, index = (file[k] for k in ("frames", "lengths", "y", "index"))
    silence = frames.min()
    X = np.full((len(lengths), FRAMES, 24, 1), silence, dtype=np.float32)
    ends = np.cumsum(lengths)
    for image, end, length in zip(X, ends, lengths, strict=True):
        n = min(length, FRAMES)
        image[:n, :, 0] = frames[end - length : end - length + n]
    test = index < 5  # the official split
    mean, deviation = X[~test].mean(), X[~test].std()
    X = (X - mean) / deviation
    return X[~test], y[~test], X[test], y[test]


LOADERS = {"mnist": mnist, "cifar10_subset": cifar, "spoken_digits": spoken}


def stage(filters):
    return [Conv(filters, activation="relu"), MaxPool()]


def normalized(filters):
    return [Conv(filters), BatchNorm(), Activation("relu")]


def block(filters):
    """Two convolutions around which a residual connection leads."""
    return [Residual([*normalized(filters), Conv(filters), BatchNorm()]), Activation("relu")]


SMALL = [*stage(32), *stage(64), Dense(128, "relu"), Dropout(0.4)]
WITH_DROPOUT = [*stage(32), *stage(64), Dropout(0.25), Dense(128, "relu"), Dropout(0.5)]
DEEPER = [*stage(32), *stage(64), *stage(128), Dense(128, "relu")]
NORMALIZED = [
    *normalized(32), MaxPool(), *normalized(64), MaxPool(), *normalized(128), MaxPool(),
    Dense(128, "relu"),
]  # fmt: skip
RESIDUAL = [
    *normalized(32), MaxPool(), *normalized(64), MaxPool(), *block(64), MaxPool(),
    Dense(128, "relu"),
]  # fmt: skip

RECIPES = [
    Recipe("MNIST, 4 epochs", "mnist", SMALL, 4, 0.990),
    Recipe("MNIST, 15 epochs", "mnist", SMALL, 15, 0.993),
    Recipe("CIFAR-10 subset", "cifar10_subset", DEEPER, 15, initializer="fan_in"),
    Recipe("CIFAR-10 subset, normalized", "cifar10_subset", NORMALIZED, 15, learning_rate=3e-3,
           initializer="fan_in"),
    Recipe("CIFAR-10 subset, residual", "cifar10_subset", RESIDUAL, 15, learning_rate=3e-3,
           initializer="fan_in"),
    Recipe("spoken digits", "spoken_digits", WITH_DROPOUT, 25, 0.97),
]  # fmt: skip


@functools.cache
def load(name):
    return LOADERS[name]()


def fit_sknn(recipe, seed, threads):
    """Accuracy on the test images, and seconds of the fit."""
    X, y, X_test, y_test = load(recipe.data)
    network = NetworkClassifier(
        recipe.layers, initializer=recipe.initializer, batch_size=BATCH_SIZE, tol=0.0,
        n_iter_no_change=recipe.epochs, dtype="float32", random_state=seed, n_threads=threads,
        warm_start=True,
    )  # fmt: skip
    start = time.perf_counter()
    for epochs, learning_rate in recipe.phases:
        network.set_params(max_iter=epochs, learning_rate_init=learning_rate).fit(X, y)
    return network.score(X_test, y_test), time.perf_counter() - start


def torch_layers(layers, channels):
    """PyTorch's modules for layers, and the channels that they end with."""
    from torch import nn

    modules = []
    for layer in layers:
        match layer:
            case Conv():
                size = layer.kernel_size
                modules.append(
                    nn.Conv2d(channels, layer.filters, size, layer.strides, padding=size // 2)
                )
                channels = layer.filters
            case MaxPool():
                modules.append(nn.MaxPool2d(layer.pool_size))
            case BatchNorm():
                modules.append(nn.BatchNorm2d(channels))
            case Activation():
                modules.append(nn.ReLU())
            case Dropout():
                modules.append(nn.Dropout(layer.rate))
            case Dense():
                modules += [nn.Flatten(), nn.LazyLinear(layer.units)]
        if getattr(layer, "activation", "identity") == "relu":
            modules.append(nn.ReLU())
    return modules, channels


def fit_torch(recipe, seed, threads):
    """The same by PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    X, y, X_test, y_test = load(recipe.data)
    as_images = functools.partial(_torch_images, scale=1 / 255 if X.dtype == np.uint8 else 1)
    modules, _ = torch_layers(recipe.layers, X.shape[-1])
    network = nn.Sequential(*modules, nn.LazyLinear(int(y.max()) + 1))
    network(as_images(X[:2]))
    network = network.to(memory_format=torch.channels_last)
    labels = torch.from_numpy(y.astype(np.int64))
    rates = [rate for epochs, rate in recipe.phases for _ in range(epochs)]
    start = time.perf_counter()
    for epoch, rate in enumerate(rates):
        if epoch == 0 or rate != rates[epoch - 1]:
            optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        order = torch.randperm(len(X))
        for begin in range(0, len(X), BATCH_SIZE):
            rows = order[begin : begin + BATCH_SIZE]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(as_images(X[rows.numpy()])), labels[rows])
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    network.eval()
    with torch.no_grad():
        found = [
            network(as_images(X_test[i : i + 500])).argmax(1) for i in range(0, len(X_test), 500)
        ]
    return float((torch.cat(found).numpy() == y_test).mean()), seconds


def _torch_images(X, scale):
    import torch

    images = torch.from_numpy(X.astype(np.float32) * np.float32(scale)).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def has_torch():
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def summary(runs):
    """Mean and spread of the accuracies in per cent, and the median time."""
    accuracies = [100 * accuracy for accuracy, _ in runs]
    spread = statistics.stdev(accuracies) if len(runs) > 1 else 0.0
    seconds = statistics.median(seconds for _, seconds in runs)
    return f"{statistics.mean(accuracies):.2f} ± {spread:.2f}", f"{seconds:.1f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer-seeds", type=int, default=2, help="fits of PyTorch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a data set's name")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    report = Report("Accuracy on images", seeds=args.seeds, threads=args.threads)
    for data in LOADERS:
        if args.only not in data:
            continue
        if not (DATA / data).is_dir():
            print(f"{data}: not in {DATA}, skipped")
            continue
        measure(report, data, args)
        print(f"Written: {report.write('accuracy')}.json and .md")


def measure(report, data, args):
    """A table of the recipes on one data set."""
    rows, raw = [], {}
    for recipe in (r for r in RECIPES if r.data == data):
        runs = [fit_sknn(recipe, seed, args.threads) for seed in range(args.seeds)]
        peers = []
        if has_torch() and not any(isinstance(layer, Residual) for layer in recipe.layers):
            peers = [fit_torch(recipe, seed, args.threads) for seed in range(args.peer_seeds)]
        goal = f"{100 * recipe.goal:.1f}" if recipe.goal else ""
        rows.append([recipe.name, *summary(runs), *(summary(peers) if peers else ("", "")), goal])
        raw[recipe.name] = {"sknn": runs, "PyTorch": peers, "epochs": recipe.epochs}
        print(*rows[-1], sep="  ", flush=True)
    columns = ["network", "accuracy, %", "fit", "PyTorch, %", "PyTorch, fit", "goal, %"]
    note = (
        f"Mean and standard deviation over {args.seeds} seeds, {args.peer_seeds} of PyTorch; the "
        f"median time of a fit on {args.threads} threads."
    )
    report.add(data, f"Accuracy on test images, {data}", columns, rows, raw, note)


if __name__ == "__main__":
    main()
