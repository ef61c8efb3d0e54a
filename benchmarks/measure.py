"""Times, memory and import times on a machine that is not quiet.

A sample is kept only if the cores ran at full speed and were ours alone. A fixed matrix product
(the probe) is timed before and after it on each core that is used, and must take at most 10%
longer than the fastest tenth of the probes of the whole run; and on one core the processor time of
the sample must be its wall time, within 5%. A probe that took longer is tried again for a while:
idle threads of a library spin before they sleep, and what comes next shares its core with them.
"""

import functools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

PROBE_TOLERANCE = 1.10
SHARE_TOLERANCE = 0.95  # of the wall time that must be processor time
ENOUGH = 3  # good samples that a median needs
PATIENCE = 45  # seconds, after which that many will do; a noisy spell may last as long again
SPIN = 0.2  # seconds that idle threads may spin; OpenBLAS's do so longest
HAS_AFFINITY = hasattr(os, "sched_setaffinity")  # not on macOS and Windows
CORES = os.sched_getaffinity(0) if HAS_AFFINITY else set()


def pin(threads):
    """Tie this process to its `threads` quietest cores, so that nobody uses more. Return them."""
    if not HAS_AFFINITY:
        return []
    seconds = {}
    for core in sorted(CORES)[: max(8, threads)]:
        os.sched_setaffinity(0, {core})
        seconds[core] = min(_python_loop() for _ in range(5))
    chosen = sorted(seconds, key=seconds.get)[:threads]
    os.sched_setaffinity(0, set(chosen))
    return chosen


def _python_loop():
    start = time.perf_counter()
    sum(range(200_000))
    return time.perf_counter() - start


def limit_threads(threads):
    """Limit every BLAS loaded so far, and XLA, which reads its flags when JAX is imported."""
    if threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    threadpool_limits(threads)


class Probe:
    """A fixed amount of arithmetic that fits in the cache: how fast do the cores run now?"""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.a, self.b = rng.standard_normal((2, 256, 256), dtype=np.float32)
        self.out = np.empty_like(self.a)
        self.all = []
        for _ in range(50):
            self._slowest()

    @property
    def best(self):
        """Return what the fastest tenth took; a single probe may have been lucky."""
        return float(np.quantile(self.all, 0.1))

    def __call__(self):
        """Return the seconds that 30 products take on the slowest core, the caches being warm."""
        start = time.monotonic()
        while (seconds := self._slowest()) > PROBE_TOLERANCE * self.best:
            if time.monotonic() - start > SPIN:
                break
        return seconds

    def _slowest(self):
        time.sleep(0.005)
        if not HAS_AFFINITY:
            return self._seconds()
        cores = os.sched_getaffinity(0)
        slowest = 0.0
        for core in cores:
            os.sched_setaffinity(0, {core})
            slowest = max(slowest, self._seconds())
        os.sched_setaffinity(0, cores)
        return slowest

    def _seconds(self):
        self._multiply(3)
        start = time.perf_counter()
        self._multiply(30)
        seconds = time.perf_counter() - start
        self.all.append(seconds)
        return seconds

    def _multiply(self, times):
        for _ in range(times):
            np.matmul(self.a, self.b, out=self.out)


@functools.cache
def shared_probe():
    """Return the probe of this run: its best must not be forgotten between two comparisons."""
    return Probe()


def clock(task):
    """Run `task`; return its result, the seconds, and whether others had part of its one core."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = task()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    alone = HAS_AFFINITY and len(os.sched_getaffinity(0)) == 1
    return result, wall, alone and cpu < SHARE_TOLERANCE * wall


@dataclass
class Timing:
    """The samples of one task: seconds, and the slower of the two probes around each.

    A sample during which others used the core has infinity as its probe.
    """

    samples: list = field(default_factory=list)
    probes: list = field(default_factory=list)

    def add(self, task, probe):
        """Run `task` once, between two probes, and return its result."""
        before = probe()
        # a task of another process is timed there
        result, seconds, shared = task.clock() if hasattr(task, "clock") else clock(task)
        self.samples.append(seconds)
        self.probes.append(math.inf if shared else max(before, probe()))
        return result

    def kept(self, best_probe):
        """Return the samples taken at full speed."""
        limit = PROBE_TOLERANCE * best_probe
        return [s for s, probe in zip(self.samples, self.probes, strict=True) if probe <= limit]

    def summary(self, best_probe, repeats):
        """Return the median and what it rests on: all samples where too few were kept."""
        kept = self.kept(best_probe)
        quiet = len(kept) >= min(repeats, ENOUGH)
        used = kept if quiet else self.samples
        return {
            "seconds": statistics.median(used),
            "best": min(used),
            "worst": max(used),
            "kept": len(kept),
            "taken": len(self.samples),
            "quiet": quiet,
        }


def compare(tasks, repeats, warm_up=True):
    """Time callables, alternating, until each has `repeats` good samples or patience ends.

    Returns {name: summary}, with the result of each task's last call under "result".
    """
    probe = shared_probe()
    if warm_up:
        for task in tasks.values():
            task()
    timings = {name: Timing() for name in tasks}
    results = {}
    start = time.monotonic()
    while True:
        for name in tasks:
            if len(timings[name].kept(probe.best)) < repeats:
                results[name] = timings[name].add(tasks[name], probe)
        fewest = min(len(timing.kept(probe.best)) for timing in timings.values())
        elapsed = time.monotonic() - start
        if fewest >= repeats or elapsed > 2 * PATIENCE:
            break
        if elapsed > PATIENCE and fewest >= ENOUGH:
            break
    return {
        name: timing.summary(probe.best, repeats) | {"result": results[name]}
        for name, timing in timings.items()
    }


def compare_latencies(bursts, repeats):
    """Compare callables that return the seconds of each of many calls, as `compare` does.

    Returns {name: {"p50": seconds, "p99": seconds, ...}}, over the calls of the good bursts.
    """
    probe = shared_probe()
    timings = {name: Timing() for name in bursts}
    calls = {name: [] for name in bursts}
    start = time.monotonic()
    while True:
        for name, burst in bursts.items():
            if len(timings[name].kept(probe.best)) < repeats:
                calls[name].append(timings[name].add(burst, probe))
        fewest = min(len(timing.kept(probe.best)) for timing in timings.values())
        elapsed = time.monotonic() - start
        if fewest >= repeats or elapsed > PATIENCE:
            break
    summaries = {}
    for name, timing in timings.items():
        quiet = len(timing.kept(probe.best)) >= min(repeats, ENOUGH)
        limit = PROBE_TOLERANCE * probe.best if quiet else math.inf
        pairs = zip(calls[name], timing.probes, strict=True)
        used = np.concatenate([seconds for seconds, slowest in pairs if slowest <= limit])
        p50, p99 = map(float, np.percentile(used, [50, 99]))
        summaries[name] = {"p50": p50, "p99": p99, "taken": len(used), "quiet": quiet}
    return summaries


PEAK_MEMORY = """
def peak_memory():
    import resource, sys
    try:  # a process inherits the maximum that `resource` knows from the one that started it
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if "VmHWM" in line)
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(peak_memory())
"""


def peak_memory(code, repeats=3):
    """Return the bytes that a fresh Python process takes at most while it runs `code`."""
    return statistics.median(int(_run(code + PEAK_MEMORY)) for _ in range(repeats))


IMPORT_TIME = """
import time
import {after}
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


def import_seconds(module, after, repeats=15):
    """Return what importing `module` takes where `after` is imported already.

    Bytecode is at hand, as where pip has installed a package: a first import leaves it.
    """
    code = IMPORT_TIME.format(module=module, after=after)
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _run(code, environment)
        seconds = sorted(float(_run(code, environment)) for _ in range(repeats))
    return {"seconds": statistics.median(seconds), "best": seconds[0], "worst": seconds[-1]}


def _run(code, environment=None):
    command = [sys.executable, "-P", "-W", "ignore", "-c", code]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
