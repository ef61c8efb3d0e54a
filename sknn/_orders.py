"""The order of each epoch."""

import threading

from sknn._kernels.cpu.executor import shuffle

# of so many rows the draw takes as long as many a GPU's epoch
AHEAD_ROWS = 200_000


class Orders:
    """Rows in the order of each epoch, which shuffles the last one's, as in scikit-learn.

    Parameters
    ----------
    rows : ndarray of int64
        Shuffled in place, unless drawn ahead.
    random_state : RandomState
    is_private : bool
        Whether nobody else draws from ``random_state``, now or after the fit.
    empty : callable or None
        Makes arrays that a device reads while the host goes on: of many rows, the next order
        is drawn while an epoch runs.
    """

    def __init__(self, rows, random_state, is_private, empty):
        self.rows, self.random_state = rows, random_state
        self.thread = None
        self.ahead = is_private and empty is not None and len(rows) > AHEAD_ROWS
        if self.ahead:
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
        """The rows of the epoch that begins."""
        if not self.ahead:
            shuffle(self.rows, self.random_state)
            return self.rows
        self.thread.join()
        if len(self.spare) == 0:  # the last epoch's, which has ended
            self.spare.append(self.rows)
        self.rows = self.following
        self._start()
        return self.rows

    def close(self):
        """Wait for a draw under way."""
        if self.thread is not None:
            self.thread.join()
