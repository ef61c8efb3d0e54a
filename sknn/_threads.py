"""How many threads a run gets, and SciPy's BLAS held at one thread while any run goes on."""

import os
import threading
import weakref
from contextlib import contextmanager
from numbers import Integral

from sknn._compat import effective_n_threads, scipy_blas_libraries

# Floating-point operations that are worth a thread: in its share of a step, of which it spends
# some 8 us at barriers and on taking over what others wrote, and in its share of a call, which
# starts and joins it in some 50 us.
MIN_FLOPS_PER_STEP = 2e6
MIN_FLOPS_PER_CALL = 1e7


class _Executor:
    """One that runs."""


class _Running:
    """The executors now running in this process, and what BLAS had before the first.

    An interrupt may come between any two lines: one that is forgotten then is no longer counted
    when nobody holds it, and BLAS gets back what it had when the next one ends.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.executors = weakref.WeakSet()
        self.libraries = None
        self.previous = None  # where BLAS is held

    def enter(self, executor):
        with self.lock:
            if self.libraries is None:
                self.libraries = scipy_blas_libraries()
            if self.previous is None:
                self.previous = [library.get_num_threads() for library in self.libraries]
            self.executors.add(executor)
            for library in self.libraries:
                library.set_num_threads(1)

    def leave(self, executor):
        with self.lock:
            self.executors.discard(executor)
            if not self.executors:
                self.restore()

    def restore(self):
        """Give BLAS the threads that it had."""
        if self.previous is not None:
            for library, n_threads in zip(self.libraries, self.previous, strict=True):
                library.set_num_threads(n_threads)
            self.previous = None


_running = _Running()


def _forget_parent():
    """A forked child runs none of its parent's executors, and none will restore BLAS."""
    global _running
    _running.restore()
    libraries, _running = _running.libraries, _Running()
    _running.libraries = libraries


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


@contextmanager
def running():
    """Hold BLAS at one thread, since an executor's own threads call it side by side."""
    held, executor = _running, _Executor()
    try:
        held.enter(executor)
        yield
    finally:
        held.leave(executor)


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
        If the user asked for none, or for what is no number of threads: predictions do not
        check parameters.
    """
    if n_threads is not None:
        if not isinstance(n_threads, Integral) or n_threads < 1:
            raise ValueError(
                f"n_threads must be a positive integer or None, got {n_threads!r}. Set it with "
                "set_params."
            )
        return int(n_threads)
    flops = flops_per_step * n_steps
    worth = int(min(flops_per_step / MIN_FLOPS_PER_STEP, flops / MIN_FLOPS_PER_CALL))
    if worth <= 1:
        return 1
    if n_executors is None:
        n_executors = len(_running.executors) + 1
    return max(1, min(worth, effective_n_threads() // n_executors))
