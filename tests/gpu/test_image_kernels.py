"""Kernels of images, in three orders of threads, against NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest

from sknn._kernels.gpu import images, kernels
from sknn._kernels.gpu.source import THREADS, formula, kernel_name, pack_size, packed_name
from sknn._kernels.ops import OP_DTYPE, Activation, Opcode

from .. import reference
from .test_kernels import TOLERANCE, Device, each_dtype, each_order, numbers

pytestmark = pytest.mark.usefixtures("compiler")


def windows_of(shape, filters, kernel, stride=(1, 1), dilation=(1, 1), pad=(0, 0), groups=1):
    """A record as kernels take it, where each side of an image has as many windows as fit."""
    out = [
        (n + 2 * p - (k - 1) * d - 1) // s + 1
        for n, k, s, d, p in zip(shape, kernel, stride, dilation, pad, strict=False)
    ]
    return images.windows_of(*shape, *out, filters, *kernel, *stride, *dilation, *pad, groups)


def op_of(opcode, windows):
    """The row that the reference takes."""
    w, op = windows[()], np.zeros((), OP_DTYPE)
    op["opcode"] = opcode
    places = {"inputs": ("height", "width", "channels"),
              "outputs": ("out_height", "out_width", "filters")}  # fmt: skip
    for place, names in places.items():
        for field, name in zip(("height", "width", "channels"), names, strict=True):
            op[place][0][field] = w[name]
    sides = [w[f"{name}_{side}"] for name in ("kernel", "stride") for side in "hw"]
    pad = [w["pad_top"], w["pad_left"]]
    if opcode == Opcode.CONV:
        dilation = [w["dilation_h"], w["dilation_w"]]
        sides += [*dilation, *pad, w["groups"], w["out_height"], w["out_width"], 1]
    else:
        sides += pad
    op["dims"][: len(sides)] = sides
    return op


def sizes(windows):
    """Of x and y: height, width, channels."""
    w = windows[()]
    return (
        tuple(int(w[k]) for k in ("height", "width", "channels")),
        tuple(int(w[k]) for k in ("out_height", "out_width", "filters")),
    )


def runs_on(device, dtype):
    """What launches ask of a `Run`."""
    return SimpleNamespace(driver=device.driver, dtype=np.dtype(dtype))


# elements between rows: odd ones, and such that several channels are taken at a time
GAPS = {"odd": (1, 2, 3), "aligned": (4, 8, 0)}
each_gaps = pytest.mark.parametrize("gaps", GAPS)
POOLINGS = {
    "2x2": windows_of((6, 4, 3), 3, (2, 2), (2, 2)),
    "2x2 left over": windows_of((5, 7, 32), 32, (2, 2), (2, 2)),
    "one pixel": windows_of((1, 1, 5), 5, (1, 1)),
    "one column": windows_of((9, 1, 4), 4, (3, 1), (2, 1), pad=(1, 0)),
    "overlapping": windows_of((7, 5, 2), 2, (3, 2), (2, 1), pad=(1, 0)),
    "gaps": windows_of((5, 8, 1), 1, (1, 2), (2, 3)),
    "global": windows_of((4, 3, 33), 33, (4, 3), (4, 3)),
    "padded": windows_of((3, 3, 300), 300, (3, 3), pad=(1, 1)),
}


def check_pack(device, kernel, dtype, channels, gaps):
    """A kernel took as many channels at a time as could be."""
    aligned = gaps == "aligned" and channels % pack_size(dtype) == 0
    name = packed_name(kernel, dtype, pack_size(dtype) if aligned else 1)
    assert name in device.driver.launched


@each_order
@each_dtype
@each_gaps
@pytest.mark.parametrize("opcode", [Opcode.MAX_POOL, Opcode.AVERAGE_POOL], ids=lambda o: o.name)
@pytest.mark.parametrize("kind", POOLINGS)
def test_pool(order, dtype, gaps, opcode, kind, n=3):
    windows, rng = POOLINGS[kind], np.random.default_rng(0)
    device, (shape, out) = Device(order), sizes(windows)
    run, (y_more, x_more, dx_more) = runs_on(device, dtype), GAPS[gaps]
    op, c = op_of(opcode, windows), shape[2]
    x, dy = numbers(rng, (n, *shape), dtype), numbers(rng, (n, *out), dtype)
    x_address = device.padded(x.reshape(-1, c), c + x_more)[1]
    empty = np.full((dy.size // c, c), np.nan, dtype)
    y, y_address, y_gap = device.padded(empty, c + y_more)
    maximum, name = opcode == Opcode.MAX_POOL, opcode.name.lower()
    positions, *_ = [device.put(np.full(dy.shape, 255, np.uint8))[1]] * maximum or [None]
    for place in (0, positions) if maximum else (None,):  # in predictions nobody asks where
        images.on_windows(run, name, n, out, windows,
                          (y_address, *[place] * maximum, x_address),
                          (c + y_more, c + x_more))  # fmt: skip
        expected = getattr(reference, name)(op, x.astype(float))
        np.testing.assert_allclose(y, expected.reshape(y.shape), atol=TOLERANCE[dtype])
    for accumulate in (0, 1):
        start = numbers(rng, (x.size // c, c), dtype) if accumulate else np.nan
        empty = np.full((x.size // c, c), start, dtype)
        dx, address, gap = device.padded(empty, c + dx_more)
        dy_address = device.padded(dy.reshape(-1, c), c + y_more)[1]
        images.on_windows(run, f"{name}_gradient", n, shape, windows,
                          (address, dy_address, *[positions] * maximum),
                          (c + dx_more, c + y_more), accumulate)  # fmt: skip
        slope = reference.pool_gradient(op, x.astype(float), dy.astype(float))
        expected = slope.reshape(dx.shape) + (start if accumulate else 0)
        np.testing.assert_allclose(dx, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        device.check(y_gap, gap)
    for kernel in (name, f"{name}_gradient"):
        check_pack(device, kernel, dtype, c, gaps)


@pytest.mark.parametrize(
    "n", [1, 2, 3, 5, 7, 9, 31, 32, 33, 224, 641, 46341, 2**30 + 1, 2**31 - 1]
)
def test_divisors(n):
    """Kernels divide numbers below 2^31 by a multiplication, an addition and a shift."""
    number, multiplier, shift = images.divisor(n)
    assert number == n and 0 < multiplier < 1 << 32
    rng = np.random.default_rng(0)
    values = [0, 1, n - 1, n, 2 * n - 1, 2 * n, 2**31 - 1, *rng.integers(0, 2**31, 1000)]
    for v in (int(v) for v in values if v < 2**31):
        assert (v * multiplier >> 32) + v >> shift == v // n


CONVOLUTIONS = {
    "3x3": windows_of((5, 4, 3), 4, (3, 3), pad=(1, 1)),
    "strided": windows_of((7, 6, 2), 5, (3, 2), (2, 3), pad=(1, 0)),
    "dilated": windows_of((9, 8, 1), 2, (2, 3), dilation=(3, 2), pad=(2, 2)),
    "both": windows_of((9, 9, 2), 3, (3, 3), (2, 2), (2, 2), (2, 2)),
    "signal": windows_of((1, 11, 17), 33, (1, 5), (1, 2), pad=(0, 2)),
    "one pixel": windows_of((1, 1, 300), 3, (1, 1)),
    "4 channels": windows_of((6, 5, 4), 5, (3, 3), (2, 1), pad=(1, 1)),
    "32 channels": windows_of((4, 1, 32), 3, (3, 1), pad=(1, 0)),
}
GROUPED = {
    "depthwise": windows_of((5, 6, 20), 20, (3, 3), pad=(1, 1), groups=20),
    "two each": windows_of((6, 5, 4), 8, (3, 2), (2, 1), (1, 2), (1, 1), groups=4),
    "two groups": windows_of((4, 4, 6), 4, (2, 2), (2, 2), groups=2),
    "pointwise": windows_of((2, 3, 6), 300, (1, 1), groups=3),
}


class Convolution:
    """Random data, on a device in rows that lie apart, and what the reference makes of them."""

    def __init__(self, device, dtype, windows, n=3, activation=Activation.IDENTITY):
        self.device, self.windows, self.dtype, self.n = device, windows, dtype, n
        rng, ((*_, self.c), out) = np.random.default_rng(0), sizes(windows)
        w = windows[()]
        shape = int(w["kernel_h"]), int(w["kernel_w"]), self.c // int(w["groups"]), out[2]
        self.op = op_of(Opcode.CONV, windows)
        self.op["activation"] = activation
        self.x = numbers(rng, (n, *sizes(windows)[0]), dtype)
        self.weights, self.biases = numbers(rng, shape, dtype), numbers(rng, out[2], dtype)
        self.dy, self.before = numbers(rng, (n, *out), dtype), numbers(rng, self.x.shape, dtype)
        exact = [a.astype(float) for a in (self.x, self.weights, self.biases)]
        self.y = reference.conv(self.op, *exact)
        plain = self.op.copy()
        plain["activation"] = Activation.IDENTITY
        self.dx, self.dw, _ = reference.conv_gradients(plain, *exact, self.dy.astype(float))

    def rows(self, array, gap):
        """A row for each pixel; the array on the device, its address, and what is between."""
        array = array.reshape(-1, array.shape[-1])
        return self.device.padded(array, array.shape[1] + gap)

    def empty(self, array, gap):
        return self.rows(np.full_like(array, np.nan, dtype=self.dtype), gap)

    def launch(self, name, shape, *arguments):
        """A kernel over what has this shape."""
        run = runs_on(self.device, self.dtype)
        if not name.startswith("grouped"):
            images.on_windows(run, name, self.n, shape, self.windows, *arguments)
            return
        formulas = (formula(Activation(self.op["activation"])),) if name == "grouped_conv" else ()
        images.launch_dealt(run, kernel_name(name, *formulas, self.dtype), self.n, shape, 1,
                            self.windows, *arguments)  # fmt: skip

    def weight_gradient(self, share_rows=7):
        """Of the kernels in groups: its parts."""
        w, filters = self.windows[()], self.dy.shape[-1]
        rows = self.weights.size // filters
        shares = -(-(self.dy.size // filters) // share_rows)
        parts, address = self.device.put(np.full((shares, rows, filters), np.nan, self.dtype))
        self.device.driver.launch(
            kernel_name("grouped_weight_gradient", self.dtype), shares * rows, address,
            self.rows(self.x, 1)[1], self.rows(self.dy, 2)[1], self.windows, self.n,
            int(w["channels"]) + 1, filters + 2, min(kernels.grid(1, filters).lanes, 64),
            share_rows,
        )  # fmt: skip
        self.device.check()
        return parts

    def pack(self, gaps):
        """Filters that a thread takes at a time."""
        n = pack_size(self.dtype)
        return n if gaps == "aligned" and self.dy.shape[-1] % n == 0 else 1

    def direct(self, gaps="odd", lines=1):
        """y without columns."""
        y, address, gap = self.empty(self.y, GAPS[gaps][1])
        bands, (x_more, y_more, _) = images.bands(self.windows, lines), GAPS[gaps]
        x, bias = self.rows(self.x, x_more)[1], self.device.put(self.biases)[1]
        activation = Activation(self.op["activation"])
        self.device.driver.launch(
            packed_name("direct_conv", self.dtype, self.pack(gaps), activation),
            self.n * int(bands["of_image"]), address, x, self.device.put(self.weights)[1], bias,
            self.windows, y.shape[1] + y_more, self.c + x_more, bands,
        )  # fmt: skip
        self.device.check(gap)
        return y

    def direct_gradient(self, gaps, lines, share_bands=2):
        """Of the weights, without columns: its parts."""
        filters, (x_more, y_more, _) = self.dy.shape[-1], GAPS[gaps]
        bands, rows = images.bands(self.windows, lines), self.weights.size // filters
        shares = -(-self.n * int(bands["of_image"]) // share_bands)
        tiles = -(-rows // images.TILE) * filters // self.pack(gaps)
        parts, address = self.device.put(np.full((shares, rows, filters), np.nan, self.dtype))
        self.device.driver.launch(
            packed_name("direct_weight_gradient", self.dtype, self.pack(gaps)),
            shares * -(-tiles // THREADS), address, self.rows(self.x, x_more)[1],
            self.rows(self.dy, y_more)[1], self.windows, self.n, self.c + x_more,
            filters + y_more, bands, share_bands,
        )  # fmt: skip
        self.device.check()
        return parts

    def check_dx(self, name, factors, gap, strides):
        """The gradient of x by a kernel, alone and added to what is there."""
        for accumulate in (0, 1):
            start = self.before if accumulate else np.full_like(self.before, np.nan)
            dx, address, between = self.rows(start, gap)
            self.launch(name, self.x.shape[1:], (address, *factors), (self.c + gap, *strides),
                        accumulate)  # fmt: skip
            self.close(dx, self.dx + (self.before if accumulate else 0))
            self.device.check(between)

    def close(self, found, expected):
        tolerance = 10 * TOLERANCE[self.dtype] * (1 + np.abs(expected).max())
        np.testing.assert_allclose(found, expected.reshape(found.shape), atol=tolerance)


@each_order
@each_dtype
@each_gaps
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_columns(order, dtype, gaps, kind):
    """Products with them are the convolution and its gradients."""
    conv = Convolution(Device(order), dtype, CONVOLUTIONS[kind])
    x_more, more, dx_more = GAPS[gaps]
    pixels, filters = conv.dy.size // conv.dy.shape[-1], conv.dy.shape[-1]
    size = conv.weights.size // filters
    stride = size + more + (-size % 4 if gaps == "aligned" else 0)
    columns, address, gap = conv.empty(np.zeros((pixels, size)), stride - size)
    conv.launch("im2col", (*conv.dy.shape[1:3], conv.c), (address, conv.rows(conv.x, x_more)[1]),
                (stride, conv.c + x_more))  # fmt: skip
    weights, dy = conv.weights.reshape(size, filters), conv.dy.reshape(pixels, filters)
    conv.close(columns @ weights + conv.biases, conv.y)
    conv.close(columns.T @ dy, conv.dw)
    slopes = conv.rows(dy @ weights.T, stride - size)[1]
    conv.check_dx("col2im", (slopes,), dx_more, (stride,))
    conv.device.check(gap)
    for kernel in ("im2col", "col2im"):
        check_pack(conv.device, kernel, dtype, conv.c, gaps)


@each_order
@each_dtype
@pytest.mark.parametrize("kind", GROUPED)
def test_convolutions_in_groups(order, dtype, kind):
    conv = Convolution(Device(order), dtype, GROUPED[kind], activation=Activation.TANH)
    y, address, gap = conv.empty(conv.y, 1)
    weights, filters = conv.device.put(conv.weights)[1], y.shape[1]
    conv.launch("grouped_conv", conv.y.shape[1:],
                (address, conv.rows(conv.x, 2)[1], weights, conv.device.put(conv.biases)[1]),
                (filters + 1, conv.c + 2))  # fmt: skip
    conv.close(y, conv.y)
    conv.close(conv.weight_gradient().sum(axis=0), conv.dw)
    conv.check_dx("grouped_conv_gradient", (conv.rows(conv.dy, 2)[1], weights), 3,
                  (filters + 2,))  # fmt: skip
    conv.device.check(gap)


# without columns: width, windows, filters and channels that are no multiples of anything
DIRECT = {
    "3x3": windows_of((9, 10, 3), 32, (3, 3), pad=(1, 1)),
    "strided": windows_of((11, 12, 5), 8, (3, 2), (2, 3), pad=(1, 0)),
    "dilated": windows_of((9, 8, 1), 6, (2, 3), dilation=(3, 2), pad=(2, 2)),
    "signal": windows_of((1, 40, 2), 33, (1, 5), (1, 2), pad=(0, 2)),
    "one column": windows_of((12, 1, 1), 1, (3, 1), pad=(1, 0)),
    "more tiles than threads": windows_of((6, 3, 15), 60, (3, 3), pad=(1, 1)),
}


@each_order
@each_dtype
@each_gaps
@pytest.mark.parametrize("kind", DIRECT)
@pytest.mark.parametrize("lines", [1, 4])
def test_convolutions_without_columns(order, dtype, gaps, kind, lines):
    """In bands of some lines, of which the last one has fewer."""
    conv = Convolution(Device(order), dtype, DIRECT[kind], activation=Activation.TANH)
    conv.close(conv.direct(gaps, lines), conv.y)
    conv.close(conv.direct_gradient(gaps, lines).sum(axis=0), conv.dw)


@each_dtype
def test_the_maximum_of_what_is_not_a_number(dtype):
    """NaN is larger than all, and the first of several is taken; so it is with infinities."""
    device, windows = Device("up"), windows_of((1, 6, 1), 1, (1, 3), (1, 3))
    nan, inf = np.nan, np.inf
    x = np.array([1, nan, nan, -inf, -inf, -inf], dtype)
    y, address = device.put(np.zeros(2, dtype))
    positions, place = device.put(np.full(2, 255, np.uint8))
    images.on_windows(runs_on(device, dtype), "max_pool", 1, (1, 2, 1), windows,
                      (address, place, device.put(x)[1]), (1, 1))  # fmt: skip
    np.testing.assert_array_equal(y, np.array([nan, -inf], dtype))
    np.testing.assert_array_equal(positions, [1, 0])
