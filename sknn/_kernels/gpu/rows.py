"""Where the rows of X are while an executor runs: on the device, or on their way to it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from sknn._compat import effective_n_threads
from sknn._kernels.gpu.kernels import gather

# of the memory that is free, what X and what belongs to its rows may take
MOST_OF_FREE = 15 / 16
# Rows that are uploaded together, and for how many times as many there is room: some are in use
# while the next ones come.
CHUNK_BYTES = 64 << 20
N_CHUNKS = 2
# of the host, which together gather rows about as fast as they are uploaded
MOST_GATHERING = 8


@dataclass(frozen=True)
class DrawnOrder:
    """The order of an epoch that the device draws itself, from a seed and the epoch's number.

    Attributes
    ----------
    n : int
    rows : ndarray of int64 or None
        What is put in order; None: the numbers below n.
    seed, epoch : int
    """

    n: int
    rows: np.ndarray | None
    seed: int
    epoch: int

    def __len__(self):
        return self.n


def place_rows(driver, X, batch, n_bytes_beside):
    """X on the device if it fits there, else a stream of its rows.

    Parameters
    ----------
    driver : Driver
    X : array of the host or of the device, or CSR
    batch : int
        Rows of a minibatch, at most.
    n_bytes_beside : int
        What else the device will have to hold.

    Raises
    ------
    MemoryError
        If not even some minibatches fit; says how many bytes were asked for.
    """
    if hasattr(X, "indptr"):
        return SparseRows(driver, X)
    if not driver.is_on_host(X):
        return ResidentRows(driver, X)
    if X.nbytes + n_bytes_beside <= MOST_OF_FREE * driver.free_bytes():
        try:
            return ResidentRows(driver, X)
        except MemoryError:  # somebody else was faster, or no piece is large enough
            pass
    return StreamedRows(driver, X, batch)


class ResidentRows:
    """X as an array of the device, of which each step gathers its rows."""

    def __init__(self, driver, X):
        self.driver, self.array, self.shape = driver, driver.to_device(X), X.shape

    def gather(self, run, scale):
        """The minibatch's rows as the input of a run."""
        gather(run, self.array.dtype, self.driver.address(self.array), scale)

    def most_steps(self, batch):
        """Steps of which the rows are at hand together; None: any number."""
        return None

    def feed(self, order, batch, sizes):
        """Yield before each launch, when its rows are at hand or on their way.

        Parameters
        ----------
        order : ndarray of int64
            Rows in the order in which steps take them.
        batch : int
            Rows of a step.
        sizes : list of int
            Rows of each launch.
        """
        yield from sizes


class SparseRows(ResidentRows):
    """X in compressed sparse row format, which DENSE_CSR reads where it lies."""

    def __init__(self, driver, X):
        rows = sparse.csr_array((X.data, X.indices, X.indptr), shape=X.shape)
        if not rows.has_canonical_format:  # columns in order, each once
            rows = rows.copy()
            rows.sum_duplicates()
        self.driver, self.shape = driver, X.shape
        self.arrays = [
            driver.to_device(array.astype(dtype, copy=False))
            for array, dtype in (
                (rows.data, X.data.dtype), (rows.indices, np.int32), (rows.indptr, np.int64)
            )
        ]  # fmt: skip

    def gather(self, run, scale):
        """Nothing is gathered, and what is not zero has been scaled."""
        run.csr = [self.driver.address(array) for array in self.arrays]


class StreamedRows:
    """X on the host, of which the device has the rows that come next, in the order of an epoch.

    A thread gathers a chunk into memory from which the device copies by itself, while the chunk
    before is in use. Chunks take turns in one array of the device: row i of an epoch lies at i
    modulo the rows of all.
    """

    def __init__(self, driver, X, batch):
        self.driver, self.X, self.shape = driver, np.asarray(X), X.shape
        n, width = X.shape
        n_bytes = min(CHUNK_BYTES, driver.free_bytes() // (2 * N_CHUNKS))
        self.n_rows = max(batch, min(n, n_bytes // (width * X.itemsize)))
        self.array = driver.empty((N_CHUNKS * self.n_rows, width), X.dtype)
        self.pinned = [
            driver.pinned(self.n_rows * width, X.dtype).reshape(self.n_rows, width)
            for _ in range(N_CHUNKS)
        ]
        self.uploaded = [None] * N_CHUNKS  # events after the last upload of each

    def most_steps(self, batch):
        """A power of two, so that as many or any lower one make up a chunk."""
        return 1 << (self.n_rows // batch).bit_length() - 1

    def gather(self, run, scale):
        """The next rows as the input of a run."""
        batch = run.rows[-1]
        gather(
            run, self.array.dtype, self.driver.address(self.array), scale,
            N_CHUNKS * batch * self.most_steps(batch),
        )  # fmt: skip

    def feed(self, order, batch, sizes):
        """Yield before each launch, when its rows are at hand or on their way."""
        n_chunk = batch * self.most_steps(batch)
        chunks = [order[first : first + n_chunk] for first in range(0, sum(sizes), n_chunk)]
        n_threads = min(MOST_GATHERING, effective_n_threads())
        filler, pool = ThreadPoolExecutor(1), ThreadPoolExecutor(n_threads)
        fills = []

        def begin(i):
            """Have a chunk take the place of one that what was launched so far has read."""
            place, read = i % N_CHUNKS, self.driver.record()
            at = self.driver.address(self.array[place * n_chunk :])
            fills.append(filler.submit(self._fill, place, at, chunks[i], read, pool, n_threads))

        try:
            for i in range(min(N_CHUNKS, len(chunks))):
                begin(i)
            sizes = iter(sizes)
            for i, chunk in enumerate(chunks):
                if 0 < i <= len(chunks) - N_CHUNKS:
                    begin(i - 1 + N_CHUNKS)
                self.driver.wait_for(fills[i].result())
                n_left = len(chunk)
                while n_left > 0:
                    size = next(sizes)
                    yield size
                    n_left -= size
        finally:  # an interrupt ends it at a yield
            filler.shutdown(cancel_futures=True)
            pool.shutdown()
            for event in filter(None, self.uploaded):
                self.driver.wait(event)

    def _fill(self, place, at, rows, read, pool, n_threads):
        """Gather rows and upload them after an event; the event after that."""
        pinned = self.pinned[place][: len(rows)]
        if self.uploaded[place] is not None:
            self.driver.wait(self.uploaded[place])
        n_each = -(-len(rows) // n_threads)

        def take(first):
            part = slice(first, first + n_each)
            # an index that is out of bounds would be an error of ours; "raise" copies once more
            np.take(self.X, rows[part], axis=0, out=pinned[part], mode="clip")

        list(pool.map(take, range(0, len(rows), n_each)))
        self.uploaded[place] = event = self.driver.upload_beside(at, pinned, read)
        return event
