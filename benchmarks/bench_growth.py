"""How does the time of an epoch grow with the rows and with the parameters of the network?

python benchmarks/bench_growth.py               write_docs.py draws the picture from the results

An epoch is what a longer fit takes more than a shorter one, over the epochs that it has more: what
a fit does once does not count.
"""

import argparse

import numpy as np
from measure import CORES, compare, limit_threads, pin
from networks import SMALL, Network
from peers import TRAINERS, available, prepare, train
from report import Report
from workers import Worker

BATCH = 200
ROWS = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
WIDTHS = [19, 42, 85, 163, 301, 547, 984, 1_762, 3_146]  # 10³ to 10⁷ parameters
ROWS_OF_WIDTHS = 1_000
SECONDS = 0.1  # what the longer of two fits should take at least
MAX_EPOCHS = 100
TRAINED = ["sknn", "sknn-none", "scikit-learn", "jax"]
EXPONENT_GOAL = (0.95, 1.05)


def by_rows():
    return {rows: Network(SMALL, BATCH, rows, 1) for rows in ROWS}


def by_parameters():
    """Two hidden layers of the same width."""
    networks = [Network((20, w, w, 10), BATCH, ROWS_OF_WIDTHS, 1) for w in WIDTHS]
    return {network.n_parameters: network for network in networks}


def growth(workers, networks, repeats):
    """Return {size: {trainer: timing of an epoch}}."""
    return {size: measure_epoch(workers, network, repeats) for size, network in networks.items()}


def measure_epoch(workers, network, repeats):
    """Return {trainer: timing}, from pairs of a short fit and a long one."""
    tasks, epochs = {}, {}
    for name, worker in workers.items():
        threads = worker.threads
        worker.call(prepare, name, threads, network, "float32")
        seconds = worker.clock(train, name, threads, network, "float32")[1]
        more = int(np.clip(SECONDS / seconds, 1, MAX_EPOCHS))
        epochs[name] = more
        tasks[name, "short"] = worker.task(train, name, threads, network, "float32")
        long = network.trained_for(1 + more)
        tasks[name, "long"] = worker.task(train, name, threads, long, "float32")
    timings = compare(tasks, repeats, warm_up=False)
    return {
        name: {
            "seconds": (timings[name, "long"]["seconds"] - timings[name, "short"]["seconds"])
            / epochs[name],
            "quiet": timings[name, "long"]["quiet"] and timings[name, "short"]["quiet"],
        }
        for name in workers
    }


def exponent(data, name):
    """Return the slope of log(seconds) over log(size)."""
    seconds = [timings[name]["seconds"] for timings in data.values()]
    return float(np.polyfit(np.log(list(data)), np.log(seconds), 1)[0])


def add(report, key, title, data, note):
    """Add the table of an epoch's milliseconds, with the exponents in its last row."""
    names = list(next(iter(data.values())))
    rows = [
        [
            f"{size:,}",
            *(f"{'' if t['quiet'] else '~'}{t['seconds'] * 1e3:,.3g}" for t in timings.values()),
        ]
        for size, timings in data.items()
    ]
    exponents = {name: exponent(data, name) for name in names}
    rows.append(["exponent", *(f"{value:.3f}" for value in exponents.values())])
    columns = [key, *(TRAINERS[name].name for name in names)]
    report.add(key, title, columns, rows, {"epoch": data, "exponent": exponents}, note)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=["rows", "parameters"])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    only = args.only or ["rows", "parameters"]

    one = pin(1)
    cores = pin(max(1, len(CORES)))
    limit_threads(1)  # of this process
    report = Report("Growth of an epoch", repeats=args.repeats, **{"cores used": cores})
    workers = {
        name: Worker(len(cores), cores) if name == "sknn-none" else Worker(1, one)
        for name in available(TRAINED)
    }
    shape = "-".join(map(str, SMALL))
    try:
        if "rows" in only:
            title = f"Milliseconds of an epoch of {shape}, minibatches of {BATCH}"
            low, high = EXPONENT_GOAL
            note = f"One thread, but for n_threads=None; goal of the exponent: {low} to {high}."
            add(report, "rows", title, growth(workers, by_rows(), args.repeats), note)
            path = report.write("growth")
        if "parameters" in only:
            title = f"Milliseconds of an epoch of 20-w-w-10, {ROWS_OF_WIDTHS:,} rows"
            note = f"Minibatches of {BATCH}; one thread, but for n_threads=None."
            data = growth(workers, by_parameters(), args.repeats)
            add(report, "parameters", title, data, note)
            path = report.write("growth")
    finally:
        for worker in workers.values():
            worker.close()
    print(f"Written: {path}.json and .md")


if __name__ == "__main__":
    main()
