"""Times, memory and import times on a machine that is not quiet.

A sample is kept only if the core ran at full speed and was ours alone. A fixed matrix product (the
probe) is timed before and after it, and must take at most 10% longer than the best probe of the
whole run; and on one core the sample's processor time must be its wall time, within 5%.
"""

import functools
import itertools
import math
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

PROBE_TOLERANCE = 1.10
SHARE_TOLERANCE = 0.95  # of the wall time that must be processor time
MAX_ATTEMPTS = 4  # samples taken per sample wanted, at most,
PATIENCE = 60  # unless they took fewer seconds than this: a noisy spell may end


def pin(threads):
    """Tie this process to its `threads` quietest cores, so that nobody uses more. Return them."""
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows
        return []
    cores = sorted(os.sched_getaffinity(0))
    seconds = {}
    for core in cores[:8]:
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
    """A fixed amount of arithmetic that fits in the cache: how fast does the core run now?"""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.a, self.b = rng.standard_normal((2, 256, 256), dtype=np.float32)
        self.out = np.empty_like(self.a)
        self.best = math.inf
        for _ in range(50):
            self()

    def __call__(self):
        """Return the seconds that 30 products take, the caches being warm."""
        time.sleep(0.005)  # threads of the task before may still spin, waiting for more work
        self._multiply(3)
        start = time.perf_counter()
        self._multiply(30)
        seconds = time.perf_counter() - start
        self.best = min(self.best, seconds)
        return seconds

    def _multiply(self, times):
        for _ in range(times):
            np.matmul(self.a, self.b, out=self.out)


@functools.cache
def shared_probe():
    """Return the probe of this run: its best must not be forgotten between two comparisons."""
    return Probe()


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
        cpu, wall = time.process_time(), time.perf_counter()
        result = task()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        shared = _on_one_core() and cpu < SHARE_TOLERANCE * wall
        self.samples.append(wall)
        self.probes.append(math.inf if shared else max(before, probe()))
        return result

    def kept(self, best_probe):
        """Return the samples taken at full speed."""
        limit = PROBE_TOLERANCE * best_probe
        return [s for s, probe in zip(self.samples, self.probes, strict=True) if probe <= limit]

    def summary(self, best_probe, repeats):
        """Return the median and what it rests on: all samples where too few were kept."""
        kept = self.kept(best_probe)
        quiet = len(kept) >= min(repeats, 3)
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
    """Time callables, alternating, until each has `repeats` good samples or the limit is met.

    Returns {name: summary}, with the result of each task's last call under "result".
    """
    probe = shared_probe()
    if warm_up:
        for task in tasks.values():
            task()
    timings = {name: Timing() for name in tasks}
    results = {}
    start = time.monotonic()
    for attempt in itertools.count(1):
        for name in tasks:
            if len(timings[name].kept(probe.best)) < repeats:
                results[name] = timings[name].add(tasks[name], probe)
        complete = all(len(timing.kept(probe.best)) >= repeats for timing in timings.values())
        patient = attempt < MAX_ATTEMPTS * repeats or time.monotonic() - start < PATIENCE
        if complete or not patient:
            break
    return {
        name: timing.summary(probe.best, repeats) | {"result": results[name]}
        for name, timing in timings.items()
    }


def _on_one_core():
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1


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
    """Return what importing `module` takes where `after` is imported already."""
    code = IMPORT_TIME.format(module=module, after=after)
    seconds = sorted(float(_run(code)) for _ in range(repeats + 1))
    return {"seconds": statistics.median(seconds), "best": seconds[0], "worst": seconds[-1]}


def _run(code):
    command = [sys.executable, "-P", "-W", "ignore", "-c", code]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
