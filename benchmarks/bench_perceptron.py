"""Time of an epoch of Perceptron and of scikit-learn's, on one core.

python benchmarks/bench_perceptron.py

Both run the same number of epochs (``tol=None``), in turns; README.md says how noise is handled.
"""

import argparse
import warnings
from functools import partial

import numpy as np
import scipy.sparse as sp
from measure import compare, limit_threads, pin
from report import Report
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron as Reference

from sknn import Perceptron

SAMPLES = 7
EPOCHS = 20
CLASSES = {"sknn": Perceptron, "scikit-learn": Reference}


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
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    cores = pin(1)
    limit_threads(1)
    report = Report("Perceptron on 1 thread", pinned_to=cores, repeats=SAMPLES, epochs=EPOCHS)
    rows, data = [], {}
    for name, X, y, parameters in cases():
        classes = {"sknn": Perceptron, "scikit-learn": Reference}
        models = {
            key: cls(tol=None, max_iter=EPOCHS, **parameters) for key, cls in classes.items()
        }
        tasks = {key: partial(model.fit, X, y) for key, model in models.items()}
        timings = compare(tasks, SAMPLES)
        for timing in timings.values():
            del timing["result"]
        data[f"{name}, {X.dtype}"] = timings
        ours, theirs = (timings[key]["seconds"] * 1e3 / EPOCHS for key in CLASSES)
        noisy = "" if all(timing["quiet"] for timing in timings.values()) else "~"
        rows.append(
            [name, str(X.dtype), f"{ours:.2f}", f"{theirs:.2f}", f"{noisy}{theirs / ours:.1f}"]
        )
    report.add(
        "epoch",
        "Milliseconds of an epoch",
        ["data", "type", *CLASSES, "ratio"],
        rows,
        data,
        "Goal: 6 on dense data with 10 classes, 1 on sparse data; ~ marks a noisy figure.",
    )
    print(f"Written: {report.write('perceptron')}.json and .md")


if __name__ == "__main__":
    main()
