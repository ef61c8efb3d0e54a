"""How many threads a run gets, and SciPy's BLAS held at one thread while any run goes on."""

import os
import threading
from contextlib import contextmanager

from sknn._compat import effective_n_threads, scipy_blas_libraries

# Floating-point operations that are worth a thread: in its share of a step, of which it spends
# some 8 us at barriers and on taking over what others wrote, and in its share of a call, which
# starts and joins it in some 50 us.
MIN_FLOPS_PER_STEP = 2e6
MIN_FLOPS_PER_CALL = 1e7


class _Running:
    """The executors now running in this process, and what BLAS had before the first."""

    def __init__(self):
        self.lock = threading.Lock()
        self.n_executors = 0
        self.libraries = None
        self.previous = []

    def enter(self):
        with self.lock:
            if self.n_executors == 0:
                if self.libraries is None:
                    self.libraries = scipy_blas_libraries()
                self.previous = [library.get_num_threads() for library in self.libraries]
                for library in self.libraries:
                    library.set_num_threads(1)
            self.n_executors += 1

    def leave(self):
        with self.lock:
            self.n_executors -= 1
            if self.n_executors == 0:
                for library, n_threads in zip(self.libraries, self.previous, strict=True):
                    library.set_num_threads(n_threads)


_running = _Running()


def _forget_parent():
    """A forked child runs none of its parent's executors, and none will restore BLAS."""
    global _running
    libraries, previous = _running.libraries, _running.previous
    if _running.n_executors:
        for library, n_threads in zip(libraries, previous, strict=True):
            library.set_num_threads(n_threads)
    _running = _Running()
    _running.libraries = libraries


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


@contextmanager
def running():
    """Hold BLAS at one thread, since an executor's own threads call it side by side."""
    held = _running
    held.enter()
    try:
        yield
    finally:
        held.leave()


def choose_n_threads(n_threads, flops_per_step, n_steps=1, n_executors=None):
    """The number of threads for a run.

    Parameters
    ----------
    n_threads : int or None
        What the user asked for. None takes what a step is worth, at most the cores this
        process may use divided by the executors now running.
    flops_per_step : float
        Floating-point operations of one minibatch, after which threads wait for each other.
    n_steps : float
        Minibatches of a call, for which the threads are started.
    n_executors : int, default=None
        Executors that share the cores; None is those now running and one more.

    Raises
    ------
    ValueError
        If the user asked for none. Predictions and ``partial_fit`` of a fitted estimator do not
        go through the checks of parameters.
    """
    if n_threads is not None:
        if n_threads < 1:
            raise ValueError(f"n_threads must be a positive number or None, got {n_threads}.")
        return n_threads
    flops = flops_per_step * n_steps
    worth = int(min(flops_per_step / MIN_FLOPS_PER_STEP, flops / MIN_FLOPS_PER_CALL))
    if worth <= 1:
        return 1
    if n_executors is None:
        n_executors = _running.n_executors + 1
    return max(1, min(worth, effective_n_threads() // n_executors))
