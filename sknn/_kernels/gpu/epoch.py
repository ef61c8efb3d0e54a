"""What changes between the replays of a graph, and so lies in device memory."""

import numpy as np

from sknn._kernels.gpu.kernels import draw_order, weight_sums
from sknn._kernels.gpu.rows import DrawnOrder

ALIGN_BYTES = 256
# `Progress` in device.h and `Range` in optimizer.cu
PROGRESS_DTYPE = np.dtype([("first_step", "i8"), ("loss", "f8"), ("n_seen", "i8"), ("seed", "u8")])
RANGE_DTYPE = np.dtype([("end", "i8"), ("decay", "f8"), ("frozen", "i8")])


class Layout:
    """Names places in one block of memory."""

    def __init__(self):
        self.n_bytes = 0
        self.offsets = {}

    def add(self, name, n_elements, itemsize):
        self.offsets[name] = self.n_bytes
        self.n_bytes += -(-int(n_elements) * itemsize // ALIGN_BYTES) * ALIGN_BYTES


class Epoch:
    """The order of the rows, what each step needs, and how far the device has come.

    Parameters
    ----------
    driver : Driver
    ranges : tuple of (end, is decayed, is frozen)
        Of parameters.
    """

    def __init__(self, driver, ranges):
        self.driver, self.ranges = driver, ranges
        self.room, self.uploaded = (0, 0), None  # rows and steps; how many rows lie as they are
        self.drawn_from = None, None  # rows that orders are drawn of, there and here

    def make_room(self, n_rows, n_steps):
        """For so many rows, and what each step needs; whether everything is elsewhere now."""
        if n_rows <= self.room[0] and n_steps <= self.room[1]:
            return False
        self.room = max(n_rows, self.room[0]), max(n_steps, self.room[1])
        self.uploaded = None
        self.layout = layout = Layout()
        layout.add("order", self.room[0], 8)
        layout.add("progress", 1, PROGRESS_DTYPE.itemsize)  # the rest is uploaded at once
        layout.add("ranges", len(self.ranges), RANGE_DTYPE.itemsize)
        layout.add("rates", self.room[1], 8)
        layout.add("scales", self.room[1], 8)
        start = layout.offsets["progress"]
        self.numbers = self.driver.pinned(layout.n_bytes - start, np.uint8)
        self.arena = self.driver.allocate(layout.n_bytes)
        return True

    def at(self, name):
        """Address of a part."""
        return self.driver.address(self.arena) + self.layout.offsets[name]

    def take_order(self, order, in_order=False):
        """The rows to the device, unless it draws them or has them.

        Parameters
        ----------
        order : ndarray of int64 or DrawnOrder
        in_order : bool, default=False
            Whether it is that of the rows themselves.
        """
        if isinstance(order, DrawnOrder):
            if self.drawn_from[0] is not order.rows:
                self.drawn_from = order.rows, self.driver.to_device(order.rows)
            rows = 0 if order.rows is None else self.driver.address(self.drawn_from[1])
            draw_order(self.driver, self.at("order"), rows, order)
        elif not (in_order and self.uploaded == len(order)):
            self.driver.upload(self.at("order"), np.ascontiguousarray(order, dtype=np.int64))
        self.uploaded = len(order) if in_order else None

    def on_host(self, order):
        """An order that was taken, as an array of the host."""
        if not isinstance(order, DrawnOrder):
            return order
        drawn = np.empty(len(order), np.int64)
        self.driver.download(drawn, self.at("order"))
        return drawn

    def scales(self, order, batch, weights=None, address=0):
        """One over the weight of each minibatch, and the rows before the first without any.

        Parameters
        ----------
        order : ndarray of int64 or DrawnOrder
            Which was taken.
        batch : int
            Rows of a minibatch.
        weights : ndarray of float64 or None
        address : int
            Of the weights on the device.
        """
        starts = np.arange(0, len(order), batch)
        if weights is None:
            return 1 / np.minimum(batch, len(order) - starts), len(order)
        if isinstance(order, DrawnOrder):
            sums = np.empty(len(starts))
            weight_sums(self.driver, self.at("scales"), address, self.at("order"), order, batch)
            self.driver.download(sums, self.at("scales"))
        else:
            sums = np.add.reduceat(weights[order], starts)
        zero = starts[sums == 0]
        with np.errstate(divide="ignore"):
            return 1 / sums, int(zero[0]) if len(zero) else len(order)

    def take_numbers(self, scales, rates, alpha, n_seen, seed):
        """What else the steps read."""
        ranges = [(end, alpha * decayed, frozen) for end, decayed, frozen in self.ranges]
        offsets = self.layout.offsets
        for name, array in (
            ("progress", np.array([(0, 0.0, n_seen, seed)], PROGRESS_DTYPE)),
            ("ranges", np.array(ranges, dtype=RANGE_DTYPE)),
            ("rates", np.asarray(rates, dtype=np.float64)),
            ("scales", np.asarray(scales, dtype=np.float64)),
        ):
            begin = offsets[name] - offsets["progress"]
            self.numbers[begin : begin + array.nbytes] = array.view(np.uint8)
        self.driver.upload(self.at("progress"), self.numbers)

    def progress(self):
        """How far the device has come, when all that was launched is done."""
        progress = np.zeros(1, PROGRESS_DTYPE)
        self.driver.download(progress, self.at("progress"))
        return progress[0]
