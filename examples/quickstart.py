"""A grid search over neural networks: sknn beside scikit-learn, on the same digits.

Twelve candidates, five folds, a pipeline, a progress bar, a pickle that is read back by a fresh
Python process, and a picture of the loss. Run it with `make demo`, or

    python examples/quickstart.py
"""

import json
import pickle
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn.neural_network
from joblib import Parallel, delayed
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import sknn

EPOCHS = 150
N_FOLDS = 5
N_JOBS = 2  # the same for both libraries; each job then computes in its share of the cores
GRID = {
    "mlp__hidden_layer_sizes": [(50,), (100,), (100, 50)],
    "mlp__alpha": [1e-4, 1e-1],
    "mlp__learning_rate_init": [1e-3, 3e-3],
}
# The two round differently, so an image between two digits may change sides: one of a fold's 269.
ONE_IMAGE = 1.01 / 269
PICKLE = Path("quickstart.pkl")
PICTURE = Path("quickstart.png")

console = Console()


@dataclass
class Run:
    """One finished search."""

    name: str
    search: GridSearchCV
    seconds: float
    test_accuracy: float

    @property
    def network(self):
        """The winner, fitted again on the whole training set."""
        return self.search.best_estimator_["mlp"]


def make_search(network_class, n_jobs, **parameters):
    """Return the search: it is the same for both libraries, only the class differs."""
    # No candidate stops early, so that both libraries train for the same number of epochs.
    network = network_class(
        batch_size=64,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        random_state=0,
        **parameters,
    )
    pipeline = Pipeline([("scaler", StandardScaler()), ("mlp", network)])
    return GridSearchCV(pipeline, GRID, cv=N_FOLDS, n_jobs=n_jobs)


def silence_convergence_warnings():
    """Ignore the warning that every fixed number of epochs brings; joblib's workers follow."""
    warnings.filterwarnings("ignore", category=ConvergenceWarning)


def split_digits():
    """Return X_train, X_test, y_train, y_test: 1,347 and 450 images of 8 × 8 pixels."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X, y, stratify=y, random_state=0)


def start_workers():
    """Start joblib's processes and import both libraries there, outside of the timed searches."""
    network = sknn.MLPClassifier(max_iter=1, batch_size=5)
    tiny = np.eye(10), np.arange(10) % 2
    Parallel(n_jobs=N_JOBS)(delayed(_fit_both)(network, *tiny) for _ in range(4 * N_JOBS))


def _fit_both(network, X, y):
    """Fit `network` and scikit-learn's counterpart."""
    silence_convergence_warnings()
    network.fit(X, y)
    sklearn.neural_network.MLPClassifier(max_iter=1, batch_size=5).fit(X, y)


def run(name, search, X_train, X_test, y_train, y_test):
    """Fit `search` under a progress bar and score its winner on the held-out images."""
    console.print(f"\n[bold]{name}[/bold]")
    search.set_callbacks(ProgressBar(max_propagation_depth=0))
    start = time.perf_counter()
    search.fit(X_train, y_train)
    seconds = time.perf_counter() - start
    return Run(name, search, seconds, search.score(X_test, y_test))


def print_comparison(runs):
    """Print the table: time, accuracy and ratio; the first run is what the others are held to."""
    n_fits = runs[0].search.n_splits_ * len(runs[0].search.cv_results_["params"])
    table = Table(
        title=f"\nThe same search in both libraries: {n_fits} fits of {EPOCHS} epochs",
        box=box.SIMPLE_HEAVY,
    )
    table.add_column("library", style="bold")
    for column in ("search time", "times as fast", "CV accuracy", "test accuracy"):
        table.add_column(column, justify="right")
    for r in runs:
        table.add_row(
            r.name,
            f"{r.seconds:.1f} s",
            f"{runs[0].seconds / r.seconds:.1f}",
            f"{r.search.best_score_:.2%}",
            f"{r.test_accuracy:.2%}",
        )
    console.print(table)


def check_same_numbers(ours, theirs):
    """Fail unless every candidate scored as in scikit-learn, in every fold."""
    names = [f"split{i}_test_score" for i in range(N_FOLDS)]
    mine, reference = (
        np.array([r.search.cv_results_[name] for name in names]) for r in (ours, theirs)
    )
    np.testing.assert_allclose(mine, reference, rtol=0, atol=ONE_IMAGE)
    n_equal = np.count_nonzero(np.isclose(mine, reference))
    console.print(
        f"[green]✓[/green] In float64 the scores are scikit-learn's: {n_equal} of {mine.size} "
        "equal, none further apart than one image."
    )


READ_IN_FRESH_PROCESS = """
import json, pickle, sys
from sklearn.datasets import load_digits

with open(sys.argv[1], "rb") as file:
    pipeline = pickle.load(file)
X = load_digits().data
print(json.dumps([pipeline.predict(X).tolist(), pipeline.predict_proba(X).tolist()]))
"""


def check_pickle(pipeline):
    """Pickle `pipeline`; fail unless a fresh Python process predicts the same with it."""
    PICKLE.write_bytes(pickle.dumps(pipeline))
    command = [sys.executable, "-c", READ_IN_FRESH_PROCESS, str(PICKLE)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    labels, probabilities = map(np.array, json.loads(output))
    X = load_digits().data
    np.testing.assert_array_equal(labels, pipeline.predict(X))
    np.testing.assert_allclose(probabilities, pipeline.predict_proba(X), rtol=1e-6, atol=1e-7)
    console.print(
        f"[green]✓[/green] {PICKLE} ({PICKLE.stat().st_size / 1024:.0f} KiB): a fresh process "
        f"predicts the same for all {len(X):,} images."
    )


def draw(runs):
    """Write the picture: loss curves of the winners, and what each search took."""
    import matplotlib

    matplotlib.use("Agg")  # no window: this must also run where there is no display
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    # The first two curves lie on each other: a wide pale line, and a thin one within it.
    styles = [("#F7931E", 6, "-"), ("#29ABE2", 1.8, "-"), ("#333333", 1.5, ":")]
    for r, (color, width, line) in zip(runs, styles, strict=True):
        left.plot(r.network.loss_curve_, line, label=r.name, color=color, linewidth=width)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    left.set_title("The winning network of each search")
    left.legend(frameon=False)
    names, seconds = [r.name for r in runs], [r.seconds for r in runs]
    bars = right.barh(names, seconds, color=[color for color, _, _ in styles])
    right.bar_label(bars, fmt="%.1f s", padding=4)
    right.invert_yaxis()
    right.margins(x=0.15)
    right.set(xlabel="seconds", title="The whole search")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=150)
    console.print(f"[green]✓[/green] {PICTURE.resolve()}: loss curves and times.")


def main():
    """Run the three searches and compare them."""
    silence_convergence_warnings()
    data = split_digits()
    console.rule("[bold]sknn quickstart: handwritten digits[/bold]")
    console.print(
        f"{len(data[0]):,} images to train on, {len(data[1])} held out; 12 candidates, "
        f"{N_FOLDS} folds, {N_JOBS} jobs. scikit-learn's turn takes longest."
    )
    start_workers()
    reference = sklearn.neural_network.MLPClassifier
    searches = {
        "scikit-learn": make_search(reference, N_JOBS),
        "sknn": make_search(sknn.MLPClassifier, N_JOBS),
        "sknn, float32": make_search(sknn.MLPClassifier, N_JOBS, dtype="float32"),
    }
    runs = [run(name, search, *data) for name, search in searches.items()]
    theirs, ours, float32 = runs

    print_comparison(runs)
    best = {key.removeprefix("mlp__"): value for key, value in ours.search.best_params_.items()}
    console.print(f"The best of the 12 candidates: {best}")
    check_same_numbers(ours, theirs)
    check_pickle(float32.search.best_estimator_)
    draw(runs)


if __name__ == "__main__":
    main()
