"""Kernels of batch normalisation, in three orders of threads, against NumPy."""

import numpy as np
import pytest

from sknn._kernels.gpu import kernels
from sknn._kernels.gpu.norm import FINISHED
from sknn._kernels.gpu.source import kernel_name, pack_size, packed_name
from sknn._kernels.ops import Activation

from .. import reference
from .test_kernels import TOLERANCE, Device, each_dtype, each_order, numbers

pytestmark = pytest.mark.usefixtures("compiler")
EPSILON, MOMENTUM = 1e-3, 0.25
# samples, pixels of each, channels
SHAPES = [(1, 1, 1), (4, 1, 5), (3, 6, 33), (2, 3, 300), (70, 9, 2), (40, 8, 20), (90, 7, 4),
          (3, 2, 1100)]  # fmt: skip
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))


class BatchNorm:
    """One normalisation with its data on a device; ``expected`` is the same in NumPy.

    Of aligned rows a thread takes several channels at a time, if there are as many.
    """

    def __init__(self, device, dtype, shape, activation, weighted, aligned=False):
        (samples, pixels, c), rng = shape, np.random.default_rng(0)
        self.device, self.dtype, self.c, self.pixels = device, dtype, c, pixels
        self.n, self.activation = samples * pixels, activation
        self.gaps = (4, 8, 12) if aligned else (1, 2, 3)
        self.pack = pack_size(dtype) if aligned and c % pack_size(dtype) == 0 else 1
        self.place, rows = device.rows(samples, 50, rng)
        weights = rng.uniform(0.5, 2, 50)
        self.weights = device.put(weights)[1] if weighted else 0
        self.x = numbers(rng, (self.n, c), dtype) + 100  # a mean much larger than the deviation
        self.gamma, self.beta = numbers(rng, (2, c), dtype)
        self.dy, self.before = numbers(rng, (2, self.n, c), dtype)
        self.state = np.abs(numbers(rng, (2, c + 3), dtype)) + 1  # variances lie 3 further on
        self.share = (weights[rows] if weighted else np.ones(samples)).repeat(pixels)[:, None]
        self.share = self.share / self.share.sum()

    def launch(self, name, blocks, *arguments):
        self.device.driver.launch(kernel_name(name, self.dtype), blocks, *arguments)

    def launch_packed(self, name, blocks, *arguments):
        name, _, activated = name.partition(" ")
        activation = self.activation if activated else None
        name = packed_name(name, self.dtype, self.pack, activation)
        self.device.driver.launch(name, blocks, *arguments)

    def run(self, uses_running=False, accumulate=0):
        """Forward and backward; what they write, by name."""
        put, c, n, found, gaps = self.device.put, self.c, self.n, {}, []

        def put_rows(name, array, stride):
            found[name], address, gap = self.device.padded(array, stride)
            gaps.append(gap)
            return address

        lanes = kernels.grid(n, c // self.pack).lanes
        y_stride, x_stride, dx_stride = (c + gap for gap in self.gaps)
        block_rows = 9 * 256 // lanes // 2 + 1  # of several reads of each thread, some not full
        n_parts = -(-n // block_rows)
        parts = put(np.full(3 * n_parts * c, np.nan))[1]
        statistics = put(np.full(5 * c, np.nan, self.dtype))[1]
        found["state"], state = put(self.state.copy())
        x = put_rows("x", self.x, x_stride)
        gamma, beta = put(self.gamma)[1], put(self.beta)[1]
        if not uses_running:
            self.launch_packed("batch_moments", n_parts, parts, x, self.weights, *self.place, n,
                               c, x_stride, self.pixels, lanes, block_rows)  # fmt: skip
        tops = -(-c // FINISHED)
        self.launch("finish_moments", tops, statistics, state, parts, x,
                    0 if uses_running else n_parts, c, c + 3, EPSILON, MOMENTUM, 1)  # fmt: skip
        y = put_rows("y", np.full((n, c), np.nan, self.dtype), y_stride)
        self.launch_packed("batch_norm F", n_parts, y, x, gamma, beta, statistics, n, c,
                           y_stride, x_stride, lanes, block_rows)  # fmt: skip
        dy = put_rows("dy", self.dy, y_stride)
        self.launch_packed("batch_norm_sums F", n_parts, parts, dy, y, x, statistics, n, c,
                           y_stride, x_stride, lanes, block_rows)  # fmt: skip
        start = self.before[:2, :c] if accumulate else np.full((2, c), np.nan, self.dtype)
        start = np.resize(start, (2, c)).astype(self.dtype)
        (found["dgamma"], dgamma), (found["dbeta"], dbeta) = put(start[0]), put(start[1])
        self.launch("finish_sums", tops, statistics, dgamma, dbeta, parts, n_parts, c, accumulate)
        dx = put_rows("dx", self.before if accumulate else self.before * np.nan, dx_stride)
        self.launch_packed("batch_norm_gradient", n_parts, dx, dy, x, gamma, statistics,
                           self.weights, *self.place, n, c, dx_stride, y_stride, x_stride,
                           self.pixels, lanes, block_rows, accumulate)  # fmt: skip
        self.device.check(*gaps)
        del found["x"]
        return found, self.expected(uses_running, start if accumulate else None)

    def expected(self, uses_running, start):
        of = getattr(reference, self.activation.name.lower())
        x, state = self.x.astype(float), self.state.astype(float)
        mean, variance, share = state[0, : self.c], state[1, : self.c], self.share
        if not uses_running:
            mean = (share * x).sum(axis=0)
            variance = (share * (x - mean) ** 2).sum(axis=0)
            for kept, new in zip(state, (mean, variance), strict=True):
                kept[: self.c] += MOMENTUM * (new - kept[: self.c])
        else:
            share = 0
        inverse = 1 / np.sqrt(variance + EPSILON)
        z = (x - mean) * inverse
        y, slope = of(self.gamma * z + self.beta)
        dy = self.dy * slope
        sums, products = dy.sum(axis=0), (dy * z).sum(axis=0)
        dx = self.gamma * inverse * (dy - share * (sums + z * products))
        first = (0, 0, 0) if start is None else (start[0], start[1], self.before)
        return {"y": y, "dy": dy, "dx": dx + first[2], "dgamma": products + first[0],
                "dbeta": sums + first[1], "state": state}  # fmt: skip


def check(found, expected, dtype):
    for name, array in expected.items():
        scale = np.abs(array).max() + 1
        tolerance = (50 if dtype == np.float32 else 1e3) * TOLERANCE[dtype]
        np.testing.assert_allclose(found[name], array, atol=tolerance * scale, err_msg=name)


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("uses_running", [False, True])
@pytest.mark.parametrize("aligned", [False, True])
def test_batch_norm(order, dtype, shape, weighted, uses_running, aligned):
    norm = BatchNorm(Device(order), dtype, shape, Activation.TANH, weighted, aligned)
    check(*norm.run(uses_running), dtype)
    check(*norm.run(uses_running, accumulate=1), dtype)


@each_dtype
@pytest.mark.parametrize("activation", Activation, ids=lambda a: a.name.lower())
def test_batch_norm_with_each_activation(dtype, activation):
    for channels in (5, 8):
        norm = BatchNorm(Device("up"), dtype, (9, 2, channels), activation, True, True)
        check(*norm.run(), dtype)


def normalised(device):
    """Found and expected of two shapes: many groups of rows, and more columns than threads."""
    results = []
    for shape in ((40, 8, 20), (3, 2, 1100)):
        norm = BatchNorm(device, np.float64, shape, Activation.TANH, True, True)
        found, expected = norm.run()
        results.append([np.concatenate([d[name].ravel() for name in expected])
                        for d in (found, expected)])  # fmt: skip
    return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]
