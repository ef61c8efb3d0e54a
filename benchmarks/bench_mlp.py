"""How fast and how small is `sknn.MLPClassifier`, beside scikit-learn, PyTorch and JAX?

python benchmarks/bench_mlp.py                         everything, one thread
python benchmarks/bench_mlp.py --only speed --threads 2
python benchmarks/bench_mlp.py --peers scikit-learn,jax-inside
"""

import argparse
import functools
import gzip
import importlib.util
import itertools
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import compare, import_seconds, limit_threads, peak_memory, pin
from peers import TRAINERS, make_trainers, mean_loss
from report import ROOT, Report
from scipy.linalg.blas import sgemm

PARTS = ["speed", "float64", "memory", "search", "import"]
PEERS = ["scikit-learn", "pytorch", "jax", "jax-inside"]


@dataclass(frozen=True)
class Network:
    """One network, the data it is trained on, and the goals it is held to on one thread."""

    sizes: tuple
    batch: int
    rows: int
    epochs: int
    goals: dict  # times as fast as each peer
    gemm_goal: float  # share of the rate of a large matrix product

    def __str__(self):
        return "-".join(map(str, self.sizes)) + f", {self.batch}"

    @property
    def flops(self):
        """Arithmetic of the whole training: a product forward and two backward per weight.

        The first layer has no gradient of its input.
        """
        products = [a * b for a, b in itertools.pairwise(self.sizes)]
        return 2 * (3 * sum(products) - products[0]) * self.rows * self.epochs

    def fit(self, trainer, X, y):
        return trainer.fit(X, y, self.sizes[1:-1], self.batch, self.epochs)


NETWORKS = [
    Network((20, 100, 10), 200, 10_000, 10, {"scikit-learn": 7, "PyTorch": 7, "JAX": 2.5}, 0.45),
    Network(
        (784, 256, 128, 10),
        128,
        10_000,
        3,
        {"scikit-learn": 1.9, "PyTorch": 1.35, "JAX": 0.97},
        0.75,
    ),
    Network(
        (784, 1024, 1024, 1024, 10),
        512,
        8_192,
        1,
        {"scikit-learn": 1.15, "PyTorch": 1.0, "JAX": 0.93},
        0.80,
    ),
]
SEARCH_GOALS = {"float32": 3.5, "float64": 2.0}
IMPORT_GOAL = 0.060


def load_data(network):
    """Return float32 X and labels y: MNIST where it is at hand and fits, or made up.

    The speed depends on the shape only.
    """
    folder = Path(os.environ.get("SKNN_DATA", ROOT.parent / "shared" / "data")) / "mnist"
    if network.sizes[0] == 784 and folder.is_dir():
        X = _read_idx(folder / "train-images-idx3-ubyte.gz", header=16).reshape(-1, 784)
        y = _read_idx(folder / "train-labels-idx1-ubyte.gz", header=8)
        return X[: network.rows] / np.float32(255), y[: network.rows].astype(np.int64)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((network.rows, network.sizes[0]), dtype=np.float32)
    y = (X @ rng.standard_normal((network.sizes[0], network.sizes[-1]))).argmax(axis=1)
    return X, y


def _read_idx(path, header):
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)


# The parts: each measures, and adds its table to the report.


def speed(report, args):
    """Time every trainer on every network in float32, and compare with the rate of the BLAS."""
    trainers = make_trainers(["sknn", *args.peers], args.threads)
    limit_threads(args.threads)  # again, for the libraries that came with the trainers
    data = _time_networks(trainers, np.float32, args.repeats)
    gemm = _gemm_rate()
    note = "The ratio says how many times as fast sknn is; ~ marks a noisy figure."
    _add_speed(report, "speed", "Training in float32, milliseconds", trainers, data, args, note)

    rows = []
    for network in NETWORKS:
        measured = data[str(network)]
        for timing in measured.values():
            timing["share_of_gemm"] = network.flops / timing["seconds"] / gemm
        shares = [f"{_noisy(t)}{t['share_of_gemm']:.0%}" for t in measured.values()]
        goal = f"{network.gemm_goal:.0%}" if args.threads == 1 else ""
        rows.append([str(network), *shares, goal])
    report.add(
        "gemm",
        "Share of the rate of a 2048³ float32 matrix product",
        ["network, batch", *(t.name for t in trainers), "goal for sknn"],
        rows,
        {"gflops": gemm / 1e9},
        f"SciPy's sgemm: {gemm / 1e9:.0f} GFLOP/s.",
    )


def float64(report, args):
    """Time sknn and scikit-learn with float64 data, where both compute in float64."""
    trainers = make_trainers(["sknn", "scikit-learn"], args.threads)
    data = _time_networks(trainers, np.float64, args.repeats)
    _add_speed(report, "float64", "Training in float64, milliseconds", trainers, data, args)


def _time_networks(trainers, dtype, repeats):
    """Return {network: {trainer: timing}}, each with the training loss it reached."""
    data = {}
    for network in NETWORKS:
        X, y = load_data(network)
        X = X.astype(dtype)
        tasks = {t.name: functools.partial(network.fit, t, X, y) for t in trainers}
        timings = compare(tasks, repeats)
        for timing in timings.values():
            timing["loss"] = mean_loss(timing.pop("result"), X, y)
        data[str(network)] = timings
    return data


def _add_speed(report, key, title, trainers, data, args, note=""):
    """Add the table of times, and the ratios to the first trainer where that is sknn."""
    with_sknn = bool(trainers) and trainers[0].name == "sknn"
    columns = ["network, batch"]
    for trainer in trainers:
        ratio = with_sknn and trainer is not trainers[0]
        columns += [trainer.name, "ratio (goal)"] if ratio else [trainer.name]
    rows = []
    for network in NETWORKS:
        row = [str(network)]
        for name, timing in data[str(network)].items():
            row.append(_noisy(timing) + f"{timing['seconds'] * 1e3:,.1f}")
            if with_sknn and name != "sknn":
                ratio = timing["seconds"] / data[str(network)]["sknn"]["seconds"]
                held_to = key == "speed" and args.threads == 1
                goal = network.goals.get(name.split(",")[0]) if held_to else None
                row.append(f"{ratio:.2f}" + (f" ({goal:g})" if goal else ""))
        rows.append(row)
    losses = "; ".join(
        ", ".join(f"{t['loss']:.3f}" for t in timings.values()) for timings in data.values()
    )
    note = f"{note} Training loss reached, in the same order: {losses}."
    report.add(key, title, columns, rows, data, note.strip())


def _noisy(timing):
    return "" if timing["quiet"] else "~"


def _gemm_rate(n=2048):
    """Return the floating-point operations per second of SciPy's sgemm, at its best."""
    rng = np.random.default_rng(0)
    a, b, c = (np.asfortranarray(m) for m in rng.random((3, n, n), dtype=np.float32))
    task = functools.partial(sgemm, 1.0, a, b, c=c, overwrite_c=True)
    return 2 * n**3 / compare({"sgemm": task}, repeats=8)["sgemm"]["best"]


MAKE_DATA = """
import warnings
import numpy as np
from {library} import MLPClassifier
from threadpoolctl import threadpool_limits
warnings.simplefilter("ignore")
threadpool_limits({threads})
rng = np.random.default_rng(0)
X = rng.random(({rows}, {sizes[0]}), dtype=np.{dtype})
y = rng.integers(0, {sizes[2]}, {rows})
network = MLPClassifier({hidden}, batch_size={batch}, max_iter=1, random_state=0)
"""
MEMORY_ROWS = 60_000


def memory(report, args):
    """Measure how much memory `fit` takes at most, over a process that only makes the data."""
    libraries = {"sknn": "sknn", "scikit-learn": "sklearn.neural_network"}
    libraries = {name: module for name, module in libraries.items() if _exists(module)}
    data, rows = {}, []
    for network in NETWORKS[:2]:
        for dtype in ("float32", "float64"):
            key = f"{network}, {dtype}"
            data[key] = {}
            for name, module in libraries.items():
                code = MAKE_DATA.format(
                    library=module,
                    threads=args.threads,
                    rows=MEMORY_ROWS,
                    sizes=(network.sizes[0], None, network.sizes[-1]),
                    dtype=dtype,
                    hidden=network.sizes[1:-1],
                    batch=network.batch,
                )
                data[key][name] = peak_memory(code + "network.fit(X, y)\n") - peak_memory(code)
            size = MEMORY_ROWS * network.sizes[0] * np.dtype(dtype).itemsize
            rows.append([key, _mib(size), *map(_mib, data[key].values())])
    report.add(
        "memory",
        f"Memory that a fit takes at most, over the data ({MEMORY_ROWS:,} rows)",
        ["network, batch, type", "X", *libraries],
        rows,
        data,
    )


def _mib(n_bytes):
    return f"{n_bytes / 2**20:.1f} MiB"


def search(report, args):
    """Time the grid search of examples/quickstart.py with one job."""
    if not _exists("sknn"):
        print("The grid search is left out: sknn is not installed.")
        return
    sys.path.insert(0, str(ROOT / "examples"))
    import quickstart
    import sklearn.neural_network

    import sknn

    X, _, y, _ = quickstart.split_digits()
    classes = {
        "sknn": lambda: quickstart.make_search(sknn.MLPClassifier, 1, n_threads=args.threads),
        "scikit-learn": lambda: quickstart.make_search(sklearn.neural_network.MLPClassifier, 1),
    }
    data, rows = {}, []
    for dtype, goal in SEARCH_GOALS.items():
        X = X.astype(dtype)
        tasks = {name: lambda make=make, X=X: make().fit(X, y) for name, make in classes.items()}
        with warnings.catch_warnings():
            quickstart.silence_convergence_warnings()
            timings = compare(tasks, args.search_repeats, warm_up=False)
        for timing in timings.values():
            timing["best_score"] = timing.pop("result").best_score_
        data[dtype] = timings
        times = [_noisy(timing) + f"{timing['seconds']:.1f} s" for timing in timings.values()]
        ratio = timings["scikit-learn"]["seconds"] / timings["sknn"]["seconds"]
        rows.append([dtype, *times, f"{ratio:.2f}", f"{goal:g}" if args.threads == 1 else ""])
    title = "The grid search of examples/quickstart.py, one job"
    report.add("search", title, ["data", *classes, "ratio", "goal"], rows, data)


def import_time(report, args):
    """Measure what importing sknn adds for someone who has imported scikit-learn's networks."""
    if not _exists("sknn"):
        print("The import time is left out: sknn is not installed.")
        return
    data = import_seconds("sknn", after="sklearn.neural_network")
    row = ["import sknn", f"{data['seconds'] * 1e3:.0f} ms", f"under {IMPORT_GOAL * 1e3:.0f} ms"]
    title = "What it adds to importing sklearn.neural_network"
    report.add("import", title, ["", "median", "goal"], [row], data)


def _exists(module):
    return importlib.util.find_spec(module.split(".")[0]) is not None


RUN_PART = {
    "speed": speed,
    "float64": float64,
    "memory": memory,
    "search": search,
    "import": import_time,
}


def parse_arguments():
    def choice(known):
        def parse(text):
            names = [name.strip() for name in text.split(",") if name.strip()]
            if unknown := set(names) - set(known):
                raise argparse.ArgumentTypeError(
                    f"{', '.join(sorted(unknown))}: choose from {', '.join(known)}"
                )
            return names

        return parse

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peers = [name for name in TRAINERS if name != "sknn"]
    parser.add_argument("--only", type=choice(PARTS), default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--peers", type=choice(peers), default=PEERS, help=", ".join(peers))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7, help="good samples of each training")
    parser.add_argument("--search-repeats", type=int, default=1, help="and of each grid search")
    return parser.parse_args()


def main():
    args = parse_arguments()
    cores = pin(args.threads)
    limit_threads(args.threads)
    title = f"MLPClassifier on {args.threads} thread{'s' if args.threads > 1 else ''}"
    report = Report(title, threads=args.threads, pinned_to=cores, repeats=args.repeats)
    parts = "" if args.only == PARTS else "-" + "-".join(args.only)
    threads = "" if args.threads == 1 else f"-{args.threads}threads"
    for part in args.only:
        RUN_PART[part](report, args)
        path = report.write(f"mlp{parts}{threads}")  # each time: the next part may be interrupted
    print(f"Written: {path}.json and .md")


if __name__ == "__main__":
    main()
