"""The order of each epoch."""

import threading

from sknn._kernels.cpu.executor import shuffle
from sknn._kernels.gpu.rows import DrawnOrder

# Rows above which a GPU does not wait for the draw.
AHEAD_ROWS = 200_000
# Seconds that the host takes to draw a row's place, and what no epoch of a GPU is shorter than:
# seconds of a step, and floating-point operations in a second.
DRAW_SECONDS, STEP_SECONDS, FLOPS = 1e-8, 3e-5, 1e14
LARGEST_SEED = 2**31 - 1


def takes_longer_than_epoch(n, batch_size, flops_per_row):
    """Whether a draw of n rows does, by figures that are the same everywhere."""
    epoch = max(-(-n // batch_size) * STEP_SECONDS, n * flops_per_row / FLOPS)
    return n * DRAW_SECONDS > epoch


class Orders:
    """Rows in the order of each epoch, which shuffles the last one's, as in scikit-learn.

    Parameters
    ----------
    rows : ndarray of int64
        Shuffled in place, unless drawn ahead.
    random_state : RandomState
    """

    def __init__(self, rows, random_state):
        self.rows, self.random_state = rows, random_state

    def next(self):
        """The rows of the epoch that begins."""
        shuffle(self.rows, self.random_state)
        return self.rows

    def close(self):
        """Wait for a draw under way."""


class OrdersAhead(Orders):
    """The same, each drawn in a thread while the epoch before runs.

    Nobody else may draw from ``random_state``, also after the fit.

    Parameters
    ----------
    rows, random_state
    empty : callable
        Makes arrays that a device reads while the host goes on.
    """

    def __init__(self, rows, random_state, empty):
        super().__init__(rows, random_state)
        self.spare = [empty(len(rows), rows.dtype) for _ in range(2)]
        self._start()

    def _start(self):
        """Draw the next order, in a thread that does not hold the GIL."""

        def draw(rows, following):
            following[:] = rows
            shuffle(following, self.random_state)

        self.following = self.spare.pop(0)
        self.thread = threading.Thread(target=draw, args=(self.rows, self.following))
        self.thread.start()

    def next(self):
        self.thread.join()
        if len(self.spare) == 0:  # the last epoch's, which has ended
            self.spare.append(self.rows)
        self.rows = self.following
        self._start()
        return self.rows

    def close(self):
        self.thread.join()


class DrawnOrders(Orders):
    """Orders that the device draws, each a permutation of ``rows`` by itself.

    ``random_state`` gives the seed.
    """

    def __init__(self, rows, random_state, n_samples):
        super().__init__(rows, random_state)
        self.seed, self.n_epochs = random_state.randint(LARGEST_SEED), 0
        self.is_all = len(rows) == n_samples

    def next(self):
        self.n_epochs += 1
        rows = None if self.is_all else self.rows
        return DrawnOrder(len(self.rows), rows, self.seed, self.n_epochs)


def make_orders(rows, random_state, *, n_samples, is_private, executor, batch_size, flops_per_row):
    """Who draws, and when.

    Parameters
    ----------
    rows : ndarray of int64
    random_state : RandomState
    n_samples : int
        Of X; all of them are rows, or some.
    is_private : bool
        Whether nobody else draws from ``random_state``, now or after the fit.
    executor : CpuExecutor or Executor
        Which draws what is bound to it, or has the next order drawn while an epoch runs.
    batch_size : int
    flops_per_row : float
        Of training.
    """
    if executor.pinned is None or not is_private or len(rows) <= AHEAD_ROWS:
        return Orders(rows, random_state)
    if takes_longer_than_epoch(len(rows), batch_size, flops_per_row):
        return DrawnOrders(rows, random_state, n_samples)
    return OrdersAhead(rows, random_state, executor.pinned)
