"""How fast is a grid search over `sknn.MLPClassifier`, beside scikit-learn's?

24 candidates, 5 folds; one job, and two that are processes (loky) or threads.

python benchmarks/bench_search.py
python benchmarks/bench_search.py --only digits-float32,digits-float64 --repeats 3
"""

import argparse
import functools
import itertools
import timeit
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sklearn.neural_network
from joblib import parallel_config
from measure import compare, limit_threads, pin
from report import Report
from scipy.linalg.blas import dgemm, sgemm
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits

import sknn

N_FOLDS = 5
EPOCHS = 20  # of each fit; none stops early, so that both libraries do the same
GRID = {
    "hidden_layer_sizes": [(50,), (100,)],
    "alpha": [1e-4, 1e-3, 1e-2, 1e-1],
    "learning_rate_init": [1e-3, 3e-3, 1e-2],
}
CLASSES = {
    "sknn": sknn.MLPClassifier,
    "scikit-learn": sklearn.neural_network.MLPClassifier,
}
# jobs, backend; those of more cores first, since a process that is tied to one stays there
WORKERS = [(2, "loky"), (2, "threading"), (1, "sequential")]
NOTE = (
    "The arithmetic is what the matrix products of all fits would take at the rate of one of "
    "2048³ on as many cores; then the share of that rate which sknn reaches, and the ratio of one "
    "that reached all of it. ~ marks a noisy figure."
)


@dataclass(frozen=True)
class Task:
    """The data of a search, and how many times as fast sknn is to be, by the number of jobs."""

    make: Callable
    dtype: str
    goals: dict

    def load(self):
        X, y = self.make()
        return X.astype(self.dtype), y

    def flops(self, n_rows, n_features, n_classes):
        """Arithmetic of all fits of the search, and of the predictions that score them.

        A fit takes a product forward and two backward per weight, but no gradient of X.
        """
        fits, n_train = 0, n_rows * (N_FOLDS - 1) // N_FOLDS
        for (hidden,), *_ in itertools.product(*GRID.values()):
            first, last = n_features * hidden, hidden * n_classes
            fits += 2 * (2 * first + 3 * last) * n_train * EPOCHS
            fits += 2 * (first + last) * (n_rows - n_train)
        return fits * N_FOLDS


def make_normal(n_rows=10_000, n_features=20, n_classes=10):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_features))
    return X, (X @ rng.standard_normal((n_features, n_classes))).argmax(axis=1)


digits = functools.partial(load_digits, return_X_y=True)
TASKS = {
    "10000x20-float32": Task(make_normal, "float32", {1: 9, 2: 6}),
    "digits-float32": Task(digits, "float32", {1: 4, 2: 4}),
    "digits-float64": Task(digits, "float64", {1: 2.5, 2: 2.5}),
}


def make_search(network_class, n_jobs, epochs=EPOCHS, grid=GRID):
    network = network_class(max_iter=epochs, n_iter_no_change=epochs, random_state=0)
    return GridSearchCV(network, grid, cv=N_FOLDS, n_jobs=n_jobs, refit=False)


def search(network_class, n_jobs, backend, X, y, **options):
    with parallel_config(backend=backend):
        return make_search(network_class, n_jobs, **options).fit(X, y)


def compare_searches(task, n_jobs, backend, repeats):
    """Time the search of both libraries, alternating."""
    X, y = task.load()
    tasks = {
        library: functools.partial(search, network_class, n_jobs, backend, X, y)
        for library, network_class in CLASSES.items()
    }
    for start_workers in tasks.values():  # and import the library there
        start_workers(epochs=1, grid={"alpha": GRID["alpha"]})
    timings = compare(tasks, repeats, warm_up=False)
    scores = [t.pop("result").cv_results_["mean_test_score"] for t in timings.values()]
    return timings | {
        "flops": task.flops(*X.shape, len(np.unique(y))),
        "ratio": timings["scikit-learn"]["seconds"] / timings["sknn"]["seconds"],
        "largest_difference_of_scores": float(np.abs(np.subtract(*scores)).max()),
    }


def gemm_rate(dtype, n_threads, n=2048, repeats=8):
    """Return the floating-point operations per second of a large product, at its best.

    It is not for `compare`, whose probe must always run with as many threads.
    """
    rng = np.random.default_rng(0)
    a, b, c = (np.asfortranarray(m) for m in rng.random((3, n, n)).astype(dtype))
    gemm = sgemm if dtype == "float32" else dgemm
    with threadpool_limits(n_threads):
        seconds = min(
            timeit.repeat(lambda: gemm(1.0, a, b, c=c, overwrite_c=True), number=1, repeat=repeats)
        )
    return 2 * n**3 / seconds


def row_of(n_jobs, backend, goals, data):
    """Return the table's row of one kind of workers."""
    ours, theirs = (data[library] for library in CLASSES)
    limit = data["flops"] / data["gemm_rate"]
    noisy = "" if ours["quiet"] and theirs["quiet"] else "~"
    return [
        f"{n_jobs} {backend}",
        f"{ours['seconds']:.2f} s",
        f"{theirs['seconds']:.2f} s",
        f"{noisy}{data['ratio']:.2f} ({goals[n_jobs]:g})",
        f"{limit:.2f} s",
        f"{limit / ours['seconds']:.0%}",
        f"{theirs['seconds'] / limit:.1f}",
    ]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(TASKS), help="some of the default")
    parser.add_argument("--repeats", type=int, default=1, help="good samples of each search")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(TASKS):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(TASKS)}")
    return args


def main():
    args = parse_arguments()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # joblib's workers follow
    report = Report(
        "Grid search: 24 candidates, 5 folds", epochs=EPOCHS, batch_size=200, repeats=args.repeats
    )
    limit_threads(1)  # a job's share; joblib sees to its processes
    data = {}
    for n_jobs, backend in WORKERS:
        pin(n_jobs)
        for name in args.only:
            rate = gemm_rate(TASKS[name].dtype, n_jobs)
            timings = compare_searches(TASKS[name], n_jobs, backend, args.repeats)
            data[name, n_jobs, backend] = timings | {"gemm_rate": rate}
    for name in args.only:
        of_name = {key[1:]: timings for key, timings in data.items() if key[0] == name}
        report.add(
            name,
            f"{name}: seconds of a search",
            ["jobs", *CLASSES, "ratio (goal)", "arithmetic", "share", "ratio at most"],
            [row_of(*key, TASKS[name].goals, of_name[key]) for key in sorted(of_name)],
            {" ".join(map(str, key)): timings for key, timings in of_name.items()},
            NOTE,
        )
    print(f"Written: {report.write('search')}.json and .md")


if __name__ == "__main__":
    main()
