"""Time of an epoch of Perceptron and of scikit-learn's, on one core.

    python benchmarks/bench_perceptron.py

Both run the same number of epochs (``tol=None``), in turns. A sample counts if a fixed loop
takes about its usual time right before and after it, so that other work on the machine does
not show; the table has the medians of the samples that count.
"""

# ruff: noqa: E402 (the number of threads is read when NumPy is imported)
import os
import statistics
import time
import warnings
from functools import partial

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import scipy.sparse as sp
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron as Reference

from sknn import Perceptron

SAMPLES = 7
EPOCHS = 20


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def fixed_loop():
    return seconds(lambda: sum(range(200_000)))


class Clock:
    """Times calls, and tells whether the machine was quiet."""

    def __init__(self):
        self.usual = min(fixed_loop() for _ in range(50))

    def sample(self, function):
        """Seconds of a call, with a flag for a quiet machine."""
        before = fixed_loop()
        duration = seconds(function)
        quiet = max(before, fixed_loop()) < 1.15 * self.usual
        return duration, quiet

    def alternate(self, functions):
        """Medians of `SAMPLES` quiet samples of each function, which take turns."""
        samples = [[] for _ in functions]
        noisy = [[] for _ in functions]
        for _ in range(5 * SAMPLES):
            for kept, dropped, function in zip(samples, noisy, functions, strict=True):
                duration, quiet = self.sample(function)
                (kept if quiet else dropped).append(duration)
            if min(map(len, samples)) >= SAMPLES:
                break
        return [
            statistics.median(kept[:SAMPLES] if len(kept) >= SAMPLES else kept + dropped)
            for kept, dropped in zip(samples, noisy, strict=True)
        ]


def dense(n_classes):
    return make_classification(
        10_000, 100, n_informative=30, n_classes=n_classes, n_clusters_per_class=1, random_state=0
    )


def sparse(n_features, density, n_classes):
    X = sp.random(10_000, n_features, density, "csr", random_state=0)
    return label(X, n_classes)


def text(n_classes):
    """Like TF-IDF: word frequencies follow Zipf's law, rows have length one."""
    rng = np.random.RandomState(0)
    n_samples, n_words, words_per_row = 10_000, 20_000, 120
    words = np.minimum(rng.zipf(1.3, size=(n_samples, words_per_row)) - 1, n_words - 1)
    rows = np.repeat(np.arange(n_samples), words_per_row)
    X = sp.csr_matrix((np.ones(words.size), (rows, words.ravel())), (n_samples, n_words))
    frequency = np.maximum(np.bincount(X.indices, minlength=n_words), 1)
    X = X @ sp.diags(np.log(n_samples / frequency) + 1.0)
    X = sp.diags(1.0 / np.sqrt(np.asarray(X.power(2).sum(axis=1)).ravel())) @ X
    return label(sp.csr_matrix(X), n_classes)


def label(X, n_classes):
    """Labels that a linear classifier can find, but for one in ten."""
    rng = np.random.RandomState(1)
    y = (X @ rng.standard_normal((X.shape[1], n_classes))).argmax(axis=1)
    return X, np.where(rng.random_sample(len(y)) < 0.1, rng.randint(n_classes, size=len(y)), y)


def cases():
    for dtype in (np.float64, np.float32):
        for n_classes in (10, 2):
            for name, (X, y) in {
                "dense 10,000 x 100": dense(n_classes),
                "sparse 10,000 x 2,000, 1.5%": sparse(2_000, 0.015, n_classes),
                "text 10,000 x 20,000": text(n_classes),
            }.items():
                yield f"{name}, {n_classes} classes", X.astype(dtype), y, {}
    X, y = dense(10)
    for penalty in ("l2", "l1", "elasticnet"):
        yield f"dense 10,000 x 100, 10 classes, {penalty}", X, y, {"penalty": penalty}
    X, y = text(10)
    for penalty in ("l2", "l1", "elasticnet"):
        yield f"text 10,000 x 20,000, 10 classes, {penalty}", X, y, {"penalty": penalty}


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    clock = Clock()
    print(f"{'':55s} {'type':8s} {'sklearn':>9s} {'sknn':>9s} {'ratio':>6s}")
    print(f"{'':55s} {'':8s} {'ms/epoch':>9s} {'ms/epoch':>9s}")
    for name, X, y, parameters in cases():
        models = [cls(tol=None, max_iter=EPOCHS, **parameters) for cls in (Reference, Perceptron)]
        times = clock.alternate([partial(model.fit, X, y) for model in models])
        theirs, ours = (1e3 * t / EPOCHS for t in times)
        print(f"{name:55s} {X.dtype!s:8s} {theirs:9.3f} {ours:9.3f} {theirs / ours:6.1f}")


if __name__ == "__main__":
    main()
