"""The networks that are trained, their data, and the goals that sknn is held to."""

import functools
import gzip
import itertools
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from report import ROOT

MNIST = Path(os.environ.get("SKNN_DATA", ROOT.parent / "shared" / "data")) / "mnist"


@dataclass(frozen=True)
class Network:
    """One network and its training; goals are by the number of threads."""

    sizes: tuple
    batch: int
    rows: int
    epochs: int
    goals: dict = field(default_factory=dict)  # times as fast as the best peer
    gemm_goals: dict = field(default_factory=dict)  # share of the product's rate

    def __str__(self):
        return "-".join(map(str, self.sizes)) + f", {self.batch}"

    @property
    def flops(self):
        """Arithmetic of the whole training: a product forward and two backward per weight.

        The first layer has no gradient of its input.
        """
        products = [a * b for a, b in itertools.pairwise(self.sizes)]
        return 2 * (3 * sum(products) - products[0]) * self.rows * self.epochs

    @property
    def n_parameters(self):
        return sum((a + 1) * b for a, b in itertools.pairwise(self.sizes))

    def trained_for(self, epochs):
        return replace(self, epochs=epochs)

    def fit(self, trainer, X, y):
        return trainer.fit(X, y, self.sizes[1:-1], self.batch, self.epochs)

    def data(self, dtype="float32"):
        return load_data(self.rows, self.sizes[0], self.sizes[-1], dtype)


@functools.lru_cache(maxsize=1)
def load_data(n_rows, n_features, n_classes, dtype):
    """Return X and labels y: MNIST where it is at hand and fits, or made up.

    The speed depends on the shape only.
    """
    if n_features == 784 and MNIST.is_dir():
        X, y = _mnist(n_rows)
    else:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((n_rows, n_features), dtype=np.float32)
        directions = rng.standard_normal((n_features, n_classes), dtype=np.float32)
        y = (X @ directions).argmax(axis=1)
    return X.astype(dtype), y


def _mnist(rows):
    X = _read_idx("train-images-idx3-ubyte.gz", header=16).reshape(-1, 784)[:rows]
    y = _read_idx("train-labels-idx1-ubyte.gz", header=8)[:rows]
    return X / np.float32(255), y.astype(np.int64)


@functools.cache
def _read_idx(name, header):
    content = gzip.decompress((MNIST / name).read_bytes())
    return np.frombuffer(content, dtype=np.uint8, offset=header)


SMALL, MIDDLE, LARGE = (20, 100, 10), (784, 256, 128, 10), (784, 1024, 1024, 1024, 10)
NETWORKS = [
    Network(SMALL, 200, 10_000, 10, {1: 2.8, 2: 4.5}, {1: 0.45, 2: 0.40}),
    Network(MIDDLE, 128, 10_000, 3, {1: 1.05, 2: 1.15}, {1: 0.75, 2: 0.65}),
    Network(LARGE, 512, 8_192, 1, {1: 1.0, 2: 1.05}, {1: 0.80, 2: 0.80}),
    Network(SMALL, 32, 10_000, 10, {1: 4, 2: 4}),
    Network(SMALL, 4096, 40_960, 3),
    Network(MIDDLE, 4096, 12_288, 2),
]
