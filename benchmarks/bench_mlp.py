"""How fast and how small is `sknn.MLPClassifier`, beside scikit-learn, PyTorch and JAX?

python benchmarks/bench_mlp.py                              everything, on one and two threads
python benchmarks/bench_mlp.py --only speed --threads 2 --networks "20-100-10, 200"
python benchmarks/bench_mlp.py --peers scikit-learn jax-inside

What a run measures replaces what the day's file has of it, and leaves the rest.
"""

import argparse

import numpy as np
from measure import CORES, compare, import_seconds, limit_threads, peak_memory, pin
from networks import NETWORKS
from peers import TRAINERS, available, count_training_threads, prepare, train
from products import product_rates
from report import Report, in_mebibytes
from workers import Failure, Worker

PEERS = ["scikit-learn", "pytorch", "pytorch-compiled", "jax", "jax-inside"]
FLOAT64_PEERS = ["scikit-learn", "jax", "jax-inside"]
NETWORK = {str(network): network for network in NETWORKS}
IMPORT_GOAL = 0.060


# The parts: each measures, and adds its tables to the report.


def speed(report, args, threads):
    """Time every trainer in float32, and compare with the rate of a large matrix product."""
    names = ["sknn", "sknn-none", *args.peers] if threads > 1 else ["sknn", *args.peers]
    data = _measure(report, "speed", names, "float32", args, threads)
    _add_times(report, "speed", "float32", data, threads)
    rates = product_rates(threads, report.settings["cores used"])
    _add_shares(report, data, rates, threads)


def float64(report, args, threads):
    """Time sknn, scikit-learn and JAX with float64 data, where all compute in float64."""
    names = ["sknn", *(name for name in args.peers if name in FLOAT64_PEERS)]
    data = _measure(report, "float64", names, "float64", args, threads, JAX_ENABLE_X64="1")
    _add_times(report, "float64", "float64", data, threads)


def _measure(report, key, names, dtype, args, threads, **environment):
    """Return {network: {trainer: timing}}, with what the day's file has of other networks."""
    cores = report.settings["cores used"]
    workers = {name: Worker(threads, cores, **environment) for name in available(names)}
    data = report.written_today(_stem(threads), key)
    try:
        for name in args.networks:
            data[name] = _compare_trainers(workers, NETWORK[name], dtype, args.repeats, threads)
            times = [f"{n} {_milliseconds(timing)}" for n, timing in data[name].items()]
            print(f"{name}, {dtype}: {', '.join(times)} ms", flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    return {name: data[name] for name in NETWORK if name in data}


def _compare_trainers(workers, network, dtype, repeats, threads):
    """Return {trainer: timing}, each with the training loss it reached."""
    tasks, found = {}, {}
    for name, worker in workers.items():
        arguments = name, threads, network, dtype
        try:
            found[name] = {"loss": worker.call(prepare, *arguments)}
        except Failure as failure:
            print(f"{name} is left out of {network}:\n{failure}")
            continue
        tasks[name] = worker.task(train, *arguments)
        if name == "sknn-none":
            found[name]["n_threads"] = worker.call(count_training_threads, *arguments)
    timings = compare(tasks, repeats, warm_up=False)
    for name, timing in timings.items():
        del timing["result"]
        timing |= found[name]
    return timings


def _add_times(report, key, dtype, data, threads):
    """Add the table of times with the ratio to the best peer."""
    names = _trainers(data)
    rows = []
    for network, timings in data.items():
        best, ratio = _best_peer(timings)
        goal = NETWORK[network].goals.get(threads) if key == "speed" else None
        times = [_milliseconds(timings[name]) if name in timings else "" for name in names]
        rows.append([network, *times, best, ratio, f"{goal:g}" if goal else ""])
    losses = "; ".join(
        ", ".join(f"{timings[name]['loss']:.3f}" for name in names if name in timings)
        for timings in data.values()
    )
    report.add(
        key,
        f"Training in {dtype}, milliseconds, {_count(threads)}",
        ["network, batch", *(TRAINERS[n].name for n in names), "best peer", "ratio", "goal"],
        rows,
        data,
        "The ratio says how many times as fast as the best peer sknn is on as many threads; "
        f"~ marks a noisy figure. Training loss reached, in the same order: {losses}.",
    )


def _add_shares(report, data, rates, threads):
    """Add what share of the rate of a large product each training reached."""
    names = _trainers(data)
    rows = []
    for network, timings in data.items():
        flops = {n: NETWORK[network].flops / timings[n]["seconds"] for n in names if n in timings}
        shares = [f"{flops[n] / rates['SciPy']:.0%}" if n in flops else "" for n in names]
        goal = NETWORK[network].gemm_goals.get(threads)
        of_pytorch = f"{flops['sknn'] / rates['PyTorch']:.0%}" if "PyTorch" in rates else ""
        rows.append([network, *shares, f"{goal:.0%}" if goal else "", of_pytorch])
    products = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    names = [TRAINERS[name].name for name in names]
    report.add(
        "gemm",
        f"Share of the rate of SciPy's 2048³ float32 matrix product, {_count(threads)}",
        ["network, batch", *names, "goal for sknn", "sknn, of PyTorch's product"],
        rows,
        {"rate": rates},
        f"GFLOP/s of the product: {products}.",
    )


def _trainers(data):
    return [name for name in TRAINERS if any(name in timings for timings in data.values())]


def _best_peer(timings):
    """Return the name of the fastest peer and how many times as fast sknn is, as text."""
    peers = [name for name in timings if not name.startswith("sknn")]
    if not peers:
        return "", ""
    best = min(peers, key=lambda name: timings[name]["seconds"])
    return TRAINERS[best].name, f"{timings[best]['seconds'] / timings['sknn']['seconds']:.2f}"


def _milliseconds(timing):
    chosen = f" ({timing['n_threads']})" if timing.get("n_threads") else ""
    return f"{_noisy(timing)}{timing['seconds'] * 1e3:,.1f}{chosen}"


def _noisy(timing):
    return "" if timing["quiet"] else "~"


def _count(threads):
    return "1 thread" if threads == 1 else f"{threads} threads"


def _stem(threads):
    return f"mlp-{_count(threads).replace(' ', '-')}"


MAKE_DATA = """
import warnings
import numpy as np
from {library} import MLPClassifier
from threadpoolctl import threadpool_limits
warnings.simplefilter("ignore")
threadpool_limits(1)
rng = np.random.default_rng(0)
X = rng.random(({rows}, {sizes[0]}), dtype=np.{dtype})
y = rng.integers(0, {sizes[2]}, {rows})
network = MLPClassifier({hidden}, batch_size={batch}, max_iter=1, random_state=0)
"""
FIT = "network.fit(X, y)\n"
MEMORY_ROWS = 60_000


def memory(report, args):
    """Measure how much memory `fit` takes at most, over a process that only makes the data."""
    libraries = {"sknn": "sknn", "scikit-learn": "sklearn.neural_network"}
    data, rows = {}, []
    for network in NETWORKS[:2]:
        for dtype in ("float32", "float64"):
            key = f"{network}, {dtype}"
            data[key] = {}
            for name, module in libraries.items():
                code = MAKE_DATA.format(
                    library=module,
                    rows=MEMORY_ROWS,
                    sizes=(network.sizes[0], None, network.sizes[-1]),
                    dtype=dtype,
                    hidden=network.sizes[1:-1],
                    batch=network.batch,
                )
                data[key][name] = peak_memory(code + FIT, 1) - peak_memory(code, 1)
            size = MEMORY_ROWS * network.sizes[0] * np.dtype(dtype).itemsize
            rows.append([key, in_mebibytes(size), *map(in_mebibytes, data[key].values())])
    report.add(
        "memory",
        f"Memory that a fit takes at most, over the data ({MEMORY_ROWS:,} rows)",
        ["network, batch, type", "X", *libraries],
        rows,
        data,
    )


def import_time(report, args):
    """Measure what importing sknn adds for someone who has imported scikit-learn's networks."""
    data = import_seconds("sknn", after="sklearn.neural_network")
    row = ["import sknn", f"{data['seconds'] * 1e3:.0f} ms", f"under {IMPORT_GOAL * 1e3:.0f} ms"]
    title = "What it adds to importing sklearn.neural_network"
    report.add("import", title, ["", "median", "goal"], [row], data)


ON_THREADS = {"speed": speed, "float64": float64}
ON_ONE = {"memory": memory, "import": import_time}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peers = [name for name in TRAINERS if not name.startswith("sknn")]
    parts = [*ON_THREADS, *ON_ONE]
    threads = [n for n in (1, 2) if n <= max(1, len(CORES))]
    add = parser.add_argument
    add("--only", nargs="+", choices=parts, default=parts)
    add("--peers", nargs="+", choices=peers, default=PEERS)
    add("--networks", nargs="+", choices=list(NETWORK), default=list(NETWORK))
    add("--threads", nargs="+", type=int, default=threads)
    add("--repeats", type=int, default=5, help="good samples of each training")
    return parser.parse_args()


def main():
    args = parse_arguments()
    for threads in args.threads if set(args.only) & set(ON_THREADS) else []:
        run(f"MLPClassifier, {_count(threads)}", _stem(threads), ON_THREADS, args, threads)
    if set(args.only) & set(ON_ONE):
        run("MLPClassifier, memory and import", "mlp", ON_ONE, args)


def run(title, stem, parts, args, threads=1):
    cores = pin(threads)
    limit_threads(1)  # of this process; a worker has its own limit
    report = Report(title, **{"cores used": cores, "repeats": args.repeats})
    for key, part in parts.items():
        if key in args.only:
            part(report, args, *([threads] if parts is ON_THREADS else []))
            path = report.write(stem)  # each time: the next part may be interrupted
    print(f"Written: {path}.json and .md")


if __name__ == "__main__":
    main()
