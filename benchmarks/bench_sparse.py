"""An epoch over sparse text: `sknn.MLPClassifier` beside scikit-learn's.

python benchmarks/bench_sparse.py

20,000 rows of TF-IDF, 50,000 columns, 60 nonzeros a row, 100 hidden units, minibatches of 200.
"""

import argparse
import os
import warnings
from functools import partial

import numpy as np
import scipy.sparse as sp
import sklearn.neural_network as reference
from measure import compare, limit_threads, peak_memory, pin
from report import Report
from sklearn.exceptions import ConvergenceWarning

import sknn

N_ROWS, N_WORDS, WORDS_PER_ROW, UNITS = 20_000, 50_000, 60, 100
REPEATS = 3
LIBRARIES = {"sknn": sknn, "scikit-learn": reference}
SOLVERS = {
    "adam": {"solver": "adam"},
    "sgd, momentum 0.9": {"solver": "sgd"},
    "sgd, momentum 0": {"solver": "sgd", "momentum": 0},
}
GOALS = {"adam": 6, "sgd, momentum 0.9": 6, "sgd, momentum 0": 10}


def text(n_classes=20):
    """Words by Zipf's law in no order of frequency, rows of length one, and topics to learn."""
    rng = np.random.default_rng(0)
    frequency = rng.permutation(1 / (np.arange(N_WORDS) + 2.7))
    cumulated = np.cumsum(frequency / frequency.sum())
    indices = np.empty((N_ROWS, WORDS_PER_ROW), np.int32)
    for row in indices:
        drawn = np.searchsorted(cumulated, rng.random(6 * WORDS_PER_ROW))
        words, first = np.unique(np.minimum(drawn, N_WORDS - 1), return_index=True)
        row[:] = np.sort(words[np.argsort(first)[:WORDS_PER_ROW]])
    values = rng.uniform(0.5, 1.5, indices.shape)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    indptr = np.arange(0, indices.size + 1, WORDS_PER_ROW)
    X = sp.csr_matrix((values.ravel(), indices.ravel(), indptr), (N_ROWS, N_WORDS))
    y = (X @ rng.standard_normal((N_WORDS, n_classes))).argmax(axis=1)
    return X, y


def network(library, solver, n_threads=1, **parameters):
    if library == "sknn":
        parameters["n_threads"] = n_threads
    return LIBRARIES[library].MLPClassifier(
        (UNITS,), batch_size=200, random_state=0, **SOLVERS[solver], **parameters
    )


def epochs(X, y, libraries, n_threads):
    """Time one epoch of each library: a call of `partial_fit`, its validation included."""
    tasks = {}
    for name in libraries:
        for solver in SOLVERS:
            model = network(name, solver, n_threads)
            tasks[solver, name] = partial(model.partial_fit, X, y, classes=np.unique(y))
    timings = {}
    for solver in SOLVERS:
        timings |= compare({key: task for key, task in tasks.items() if key[0] == solver}, REPEATS)
    for timing in timings.values():
        del timing["result"]
    return timings


def speed(report, X, y):
    """The table of times: two threads first, since a pinned process stays on its core."""
    types = (np.float32, np.float64)
    on_two = {}
    if os.cpu_count() > 1:
        pin(2)
        limit_threads(1)  # threads of BLAS; ours are asked for
        on_two = {dtype: epochs(X.astype(dtype), y, ["sknn"], 2) for dtype in types}
    report.settings["pinned_to"] = pin(1)
    rows, data = [], {}
    for dtype in types:
        timings = epochs(X.astype(dtype), y, LIBRARIES, 1)
        for solver in SOLVERS:
            ours, theirs = (timings[solver, name] for name in LIBRARIES)
            two = on_two[dtype][solver, "sknn"] if on_two else None
            noisy = "" if ours["quiet"] and theirs["quiet"] else "~"
            rows.append([
                solver, np.dtype(dtype).name,
                f"{ours['seconds'] * 1e3:.0f}", f"{theirs['seconds'] * 1e3:,.0f}",
                f"{noisy}{theirs['seconds'] / ours['seconds']:.1f} ({GOALS[solver]})",
                f"{two['seconds'] * 1e3:.0f}" if two else "",
            ])  # fmt: skip
            data[f"{solver}, {np.dtype(dtype).name}"] = {
                "sknn": ours, "scikit-learn": theirs, "sknn, 2 threads": two,
            }  # fmt: skip
    report.add(
        "epoch",
        "Milliseconds of an epoch",
        ["solver", "type", *LIBRARIES, "ratio (goal)", "sknn, 2 threads"],
        rows,
        data,
        "One thread but for the last column; ~ marks a noisy figure.",
    )


def numbers(report, X, y):
    """The table of differences after the same epoch in float64."""
    rows, data = [], {}
    for solver in SOLVERS:
        for alpha in (0.0, 1e-4):
            ours, theirs = (
                network(name, solver, alpha=alpha, max_iter=1).fit(X, y) for name in LIBRARIES
            )
            pairs = zip(ours.coefs_, theirs.coefs_, strict=True)
            coefs = max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs)
            loss = abs(ours.loss_ / theirs.loss_ - 1)
            rows.append([solver, f"{alpha:g}", f"{coefs:.1e}", f"{loss:.1e}"])
            data[f"{solver}, {alpha:g}"] = {"coefs": float(coefs), "loss": float(loss)}
    report.add(
        "numbers",
        "Relative difference to scikit-learn after an epoch in float64",
        ["solver", "alpha", "coefs_", "loss_"],
        rows,
        data,
    )


MAKE_DATA = """
import warnings
import numpy as np
import scipy.sparse as sp
from {module} import MLPClassifier
warnings.simplefilter("ignore")
words = np.random.default_rng(0).integers({words}, size={rows} * {nonzeros}, dtype=np.int32)
indptr = np.arange(0, len(words) + 1, {nonzeros})
X = sp.csr_matrix((np.ones(len(words), np.{dtype}), words, indptr), ({rows}, {words}))
y = np.arange({rows}) % 20
network = MLPClassifier(({units},), batch_size=200, max_iter=1, **{parameters})
"""


def memory(report):
    """The table of what a fit takes at most, over the data: a few minibatches tell."""
    rows, data = [], {}
    for dtype in ("float32", "float64"):
        weights = N_WORDS * UNITS * np.dtype(dtype).itemsize
        code = {
            (name, solver): MAKE_DATA.format(
                module=module.__name__, rows=1000, words=N_WORDS, dtype=dtype, units=UNITS,
                nonzeros=WORDS_PER_ROW, parameters=parameters,
            )
            for name, module in LIBRARIES.items()
            for solver, parameters in SOLVERS.items()
        }  # fmt: skip
        before = {name: peak_memory(code[name, "adam"], 1) for name in LIBRARIES}
        for solver in SOLVERS:
            taken = {
                name: peak_memory(code[name, solver] + "network.fit(X, y)\n", 1) - before[name]
                for name in LIBRARIES
            }
            shown = (f"{n / 2**20:.0f} MiB ({n / weights:.1f})" for n in taken.values())
            rows.append([solver, dtype, f"{weights / 2**20:.0f} MiB", *shown])
            data[f"{solver}, {dtype}"] = taken
    report.add(
        "memory",
        "Memory that a fit takes at most, over the data (and in sizes of the weights)",
        ["solver", "type", "weights", *LIBRARIES],
        rows,
        data,
        "Drawing the weights, as scikit-learn does in float64, takes them once or twice more.",
    )


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    report = Report("Sparse text", repeats=REPEATS)
    X, y = text()
    speed(report, X, y)
    numbers(report, X, y)
    memory(report)
    print(f"Written: {report.write('sparse')}.json and .md")


if __name__ == "__main__":
    main()
