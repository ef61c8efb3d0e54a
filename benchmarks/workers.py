"""A process for each library, with its own limit on threads and its own cores.

Libraries that share a process share their limits too, and the idle threads of one, which spin a
while before they sleep, slow down the next.
"""

import functools
import multiprocessing
import os
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass

from measure import CORES, HAS_AFFINITY, clock

THREAD_VARIABLES = [
    "OMP_NUM_THREADS",  # PyTorch, and BLAS libraries that have no name of their own
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
]


class Worker:
    """A fresh Python process that calls functions with at most `threads` threads.

    Parameters
    ----------
    threads : int
    cores : iterable of int
        Where it may run; XLA takes as many threads as there are cores.
    **environment : str
        Further variables of its environment.
    """

    def __init__(self, threads, cores, **environment):
        self.threads = threads
        limits = dict.fromkeys(THREAD_VARIABLES, str(threads))
        if threads == 1:
            limits["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _set_environment(limits | environment), _set_cores(cores):
            self.process.start()
        theirs.close()

    def call(self, function, *args):
        """Return what `function(*args)` returns there."""
        return self.clock(function, *args)[0]

    def clock(self, function, *args):
        """Return the same, with the seconds it took there, as `measure.clock` does."""
        self.connection.send((function, args))
        answer = self.connection.recv()
        if isinstance(answer, Failure):
            raise answer
        return answer

    def task(self, function, *args):
        """Return a callable for `measure.compare`."""
        return Task(self, function, args)

    def close(self):
        self.connection.close()  # which ends the process
        self.process.join()


@dataclass
class Task:
    worker: Worker
    function: object
    args: tuple

    def __call__(self):
        return self.worker.call(self.function, *self.args)

    def clock(self):
        return self.worker.clock(self.function, *self.args)


class Failure(Exception):
    """What went wrong in a worker; the message is its traceback."""


def _serve(connection):
    while True:
        try:
            function, args = connection.recv()
        except EOFError:
            return
        try:
            answer = clock(functools.partial(function, *args))
        except Exception:
            answer = Failure(traceback.format_exc())
        connection.send(answer)


@contextmanager
def _set_environment(variables):
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _set_cores(cores):
    """What is started here is tied to `cores`."""
    if not HAS_AFFINITY:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def count_threads(function, *args):
    """Call it; return how many threads it ran on, its caller included (None where unknown)."""
    tasks = "/proc/self/task"
    if not os.path.isdir(tasks):
        function(*args)
        return None
    before = most = len(os.listdir(tasks))
    done = threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, len(os.listdir(tasks)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function(*args)
    finally:
        done.set()
        watcher.join()
    return most - before  # the watcher is one more, the caller one of those before
