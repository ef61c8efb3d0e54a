"""How fast are convolutional networks, beside PyTorch and JAX, in training and prediction?

And how much memory does a fit take?

python benchmarks/bench_conv.py                             four networks, one and two threads
python benchmarks/bench_conv.py --networks A C --threads 1 --only speed

What a run measures replaces what the day's file has of it, and leaves the rest.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from conv_peers import NETWORKS, TRAINERS, Sknn, predict, prepare, train
from measure import CORES, compare, limit_threads, peak_memory, pin
from peers import installed
from report import Report, in_mebibytes
from workers import Failure, Worker

NETWORK = {network.name: network for network in NETWORKS}
TASKS = {"training": train, "prediction": predict}
PARTS = ["speed", "memory"]


def measure(report, stem, args, threads):
    """Time every trainer; add a table for training and one for prediction."""
    names = [name for name in ("sknn", *args.peers) if installed(TRAINERS[name].module)]
    workers = {name: Worker(threads, report.settings["cores used"]) for name in names}
    data = {task: report.written_today(stem, task) for task in TASKS}
    try:
        for key in args.networks:
            network, tasks = NETWORK[key], {task: {} for task in TASKS}
            for name, worker in workers.items():
                try:
                    worker.call(prepare, name, threads, network)
                except Failure as failure:
                    print(f"{name} is left out of {network}:\n{failure}")
                    continue
                for task, function in TASKS.items():
                    tasks[task][name] = worker.task(function, name, threads, network)
            for task, of_trainers in tasks.items():
                timings = compare(of_trainers, args.repeats, warm_up=False)
                for timing in timings.values():
                    del timing["result"]
                data[task][key] = data[task].get(key, {}) | timings
                steps = network.steps * (network.epochs if task == "training" else 1)
                for timing in timings.values():
                    timing["steps"] = steps
                times = (f"{n} {_milliseconds(t)}" for n, t in timings.items())
                print(f"{network}, {task}: {', '.join(times)} ms a minibatch", flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    for i, task in enumerate(TASKS):
        _add(report, task, data[task], threads, i)


def _add(report, task, data, threads, index):
    rows = []
    for key, network in NETWORK.items():
        if key not in data:
            continue
        timings = data[key]
        best = min(t["seconds"] for name, t in timings.items() if name != "sknn")
        times = [_milliseconds(timings[n]) if n in timings else "" for n in TRAINERS]
        ratio = f"{best / timings['sknn']['seconds']:.2f}"
        rows.append([str(network), *times, ratio, f"{network.goals[index]:g}"])
    report.add(
        task,
        f"Convolutional networks, {task}, milliseconds a minibatch, {_count(threads)}",
        ["network; batch", *(t.name for t in TRAINERS.values()), "ratio", "goal"],
        rows,
        data,
        "3 x 3 convolutions with ReLU, a 2 x 2 maximum after each; D is ResNet-20. The ratio says "
        "how many times as fast as the best peer sknn is; ~ marks a noisy figure.",
    )


START = """
import dataclasses, sys
sys.path.insert(0, {here!r})
from conv_peers import NETWORKS, TRAINERS
network = next(n for n in NETWORKS if n.name == {network!r})
trainer = TRAINERS[{trainer!r}](1)
trainer.start(dataclasses.replace(network, epochs=1))
"""
TRAIN = "trainer.train()\n"


def memory(args):
    """Measure what a fit takes at most, over a process that has only made the data."""
    report = Report("Memory of convolutional networks")
    names = [name for name in ("sknn", *args.peers) if installed(TRAINERS[name].module)]
    data, rows = report.written_today("conv", "memory"), []
    for key in args.networks:
        data[key] = {"values and gradients": values_and_gradients(NETWORK[key])}
        for name in names:
            code = START.format(here=str(Path(__file__).parent), trainer=name, network=key)
            data[key][name] = peak_memory(code + TRAIN, 1) - peak_memory(code, 1)
    columns = ["values and gradients", *TRAINERS]
    for key, network in NETWORK.items():
        if key in data:
            sizes = (data[key].get(column) for column in columns)
            rows.append([str(network), *("" if s is None else in_mebibytes(s) for s in sizes)])
    report.add(
        "memory",
        "Memory that the training of a convolutional network takes at most, over its data",
        ["network; batch", "of which values and gradients", *(t.name for t in TRAINERS.values())],
        rows,
        data,
        "One thread. The second column is reckoned: what sknn keeps of one minibatch.",
    )
    print(f"Written: {report.write('conv')}.json and .md")


def values_and_gradients(network):
    """Bytes that sknn keeps of one minibatch."""
    from sknn._lowering import lower_for_cpu

    trainer = Sknn(1)
    trainer.start(replace(network, epochs=1))
    trainer.train()
    program = lower_for_cpu(trainer.model._program())
    return 4 * network.batch * (program.value_size + program.gradient_size)


def _milliseconds(timing):
    noisy = "" if timing["quiet"] else "~"
    return f"{noisy}{timing['seconds'] / timing['steps'] * 1e3:,.2f}"


def _count(threads):
    return "1 thread" if threads == 1 else f"{threads} threads"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, default=PARTS)
    add("--networks", nargs="+", choices=list(NETWORK), default=list(NETWORK))
    peers = [name for name in TRAINERS if name != "sknn"]
    add("--peers", nargs="+", choices=peers, default=peers)
    threads = [n for n in (1, 2) if n <= max(1, len(CORES))]
    add("--threads", nargs="+", type=int, default=threads)
    add("--repeats", type=int, default=5, help="good samples of each")
    return parser.parse_args()


def main():
    args = parse_arguments()
    if "memory" in args.only:
        memory(args)
    for threads in args.threads if "speed" in args.only else ():
        stem = f"conv-{_count(threads).replace(' ', '-')}"
        cores = pin(threads)
        limit_threads(1)  # of this process; a worker has its own limit
        title = f"Convolutional networks, {_count(threads)}"
        report = Report(title, **{"cores used": cores, "repeats": args.repeats})
        measure(report, stem, args, threads)
        print(f"Written: {report.write(stem)}.json and .md")


if __name__ == "__main__":
    main()
