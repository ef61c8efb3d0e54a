"""Kernels of images, in three orders of threads, against NumPy."""

import numpy as np
import pytest

from sknn._kernels.gpu import kernels
from sknn._kernels.gpu.images import WINDOWS_DTYPE
from sknn._kernels.gpu.source import formula, kernel_name
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
    return np.array((*shape, *out, filters, *kernel, *stride, *dilation, *pad, groups),
                    WINDOWS_DTYPE)  # fmt: skip


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


POOLINGS = {
    "2x2": windows_of((6, 4, 3), 3, (2, 2), (2, 2)),
    "one pixel": windows_of((1, 1, 5), 5, (1, 1)),
    "overlapping": windows_of((7, 5, 2), 2, (3, 2), (2, 1), pad=(1, 0)),
    "gaps": windows_of((5, 8, 1), 1, (1, 2), (2, 3)),
    "global": windows_of((4, 3, 33), 33, (4, 3), (4, 3)),
    "padded": windows_of((3, 3, 300), 300, (3, 3), pad=(1, 1)),
}


@each_order
@each_dtype
@pytest.mark.parametrize("opcode", [Opcode.MAX_POOL, Opcode.AVERAGE_POOL], ids=lambda o: o.name)
@pytest.mark.parametrize("kind", POOLINGS)
def test_pool(order, dtype, opcode, kind, n=3):
    windows, rng = POOLINGS[kind], np.random.default_rng(0)
    device, (shape, out) = Device(order), sizes(windows)
    op, c = op_of(opcode, windows), shape[2]
    x, dy = numbers(rng, (n, *shape), dtype), numbers(rng, (n, *out), dtype)
    x_address = device.padded(x.reshape(-1, c), c + 2)[1]
    y, y_address, y_gap = device.padded(np.full((dy.size // c, c), np.nan, dtype), c + 1)
    maximum, name = opcode == Opcode.MAX_POOL, opcode.name.lower()
    positions, *_ = [device.put(np.full(dy.shape, 255, np.uint8))[1]] * maximum or [None]
    grid = kernels.grid(len(y), c)
    for place in (0, positions) if maximum else (None,):  # in predictions nobody asks where
        device.driver.launch(
            kernel_name(name, dtype), grid.blocks, y_address, *[place] * maximum, x_address,
            windows, n, c + 1, c + 2, grid.lanes,
        )  # fmt: skip
        expected = getattr(reference, name)(op, x.astype(float))
        np.testing.assert_allclose(y, expected.reshape(y.shape), atol=TOLERANCE[dtype])
    grid = kernels.grid(x.size // c, c)
    for accumulate in (0, 1):
        start = numbers(rng, (x.size // c, c), dtype) if accumulate else np.nan
        dx, address, gap = device.padded(np.full((x.size // c, c), start, dtype), c + 3)
        device.driver.launch(
            kernel_name(f"{name}_gradient", dtype), grid.blocks, address,
            device.padded(dy.reshape(-1, c), c + 1)[1], *[positions] * maximum, windows, n,
            c + 3, c + 1, grid.lanes, accumulate,
        )  # fmt: skip
        slope = reference.pool_gradient(op, x.astype(float), dy.astype(float))
        expected = slope.reshape(dx.shape) + (start if accumulate else 0)
        np.testing.assert_allclose(dx, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        device.check(y_gap, gap)


CONVOLUTIONS = {
    "3x3": windows_of((5, 4, 3), 4, (3, 3), pad=(1, 1)),
    "strided": windows_of((7, 6, 2), 5, (3, 2), (2, 3), pad=(1, 0)),
    "dilated": windows_of((9, 8, 1), 2, (2, 3), dilation=(3, 2), pad=(2, 2)),
    "both": windows_of((9, 9, 2), 3, (3, 3), (2, 2), (2, 2), (2, 2)),
    "signal": windows_of((1, 11, 17), 33, (1, 5), (1, 2), pad=(0, 2)),
    "one pixel": windows_of((1, 1, 300), 3, (1, 1)),
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

    def launch(self, name, pixels, *arguments):
        """A kernel with a thread for each element of some rows; the last ones are options."""
        *arguments, options = arguments
        grid = kernels.grid(*pixels)
        formulas = (formula(Activation(self.op["activation"])),) if name == "grouped_conv" else ()
        self.device.driver.launch(kernel_name(name, *formulas, self.dtype), grid.blocks,
                                  *arguments, grid.lanes, *options)  # fmt: skip

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

    def check_dx(self, name, factors, strides):
        """The gradient of x by a kernel, alone and added to what is there."""
        for accumulate in (0, 1):
            start = self.before if accumulate else np.full_like(self.before, np.nan)
            dx, address, gap = self.rows(start, 3)
            self.launch(name, dx.shape, address, *factors, self.windows, self.n,
                        self.c + 3, *strides, (accumulate,))  # fmt: skip
            self.close(dx, self.dx + (self.before if accumulate else 0))
            self.device.check(gap)

    def close(self, found, expected):
        tolerance = 10 * TOLERANCE[self.dtype] * (1 + np.abs(expected).max())
        np.testing.assert_allclose(found, expected.reshape(found.shape), atol=tolerance)


@each_order
@each_dtype
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_columns(order, dtype, kind):
    """Products with them are the convolution and its gradients."""
    conv = Convolution(Device(order), dtype, CONVOLUTIONS[kind])
    pixels, filters = conv.dy.size // conv.dy.shape[-1], conv.dy.shape[-1]
    size = conv.weights.size // filters
    columns, address, gap = conv.empty(np.zeros((pixels, size)), 3)
    conv.launch("im2col", (pixels, conv.c), address, conv.rows(conv.x, 1)[1], conv.windows,
                conv.n, size + 3, conv.c + 1, ())  # fmt: skip
    weights, dy = conv.weights.reshape(size, filters), conv.dy.reshape(pixels, filters)
    conv.close(columns @ weights + conv.biases, conv.y)
    conv.close(columns.T @ dy, conv.dw)
    slopes = conv.rows(dy @ weights.T, 2)[1]
    conv.check_dx("col2im", (slopes,), (size + 2,))
    conv.device.check(gap)


@each_order
@each_dtype
@pytest.mark.parametrize("kind", GROUPED)
def test_convolutions_in_groups(order, dtype, kind):
    conv = Convolution(Device(order), dtype, GROUPED[kind], activation=Activation.TANH)
    y, address, gap = conv.empty(conv.y, 1)
    weights, filters = conv.device.put(conv.weights)[1], y.shape[1]
    conv.launch("grouped_conv", y.shape, address, conv.rows(conv.x, 2)[1], weights,
                conv.device.put(conv.biases)[1], conv.windows, conv.n, filters + 1, conv.c + 2,
                ())  # fmt: skip
    conv.close(y, conv.y)
    conv.close(conv.weight_gradient().sum(axis=0), conv.dw)
    conv.check_dx("grouped_conv_gradient", (conv.rows(conv.dy, 2)[1], weights), (filters + 2,))
    conv.device.check(gap)


@each_dtype
def test_the_maximum_of_what_is_not_a_number(dtype):
    """NaN is larger than all, and the first of several is taken; so it is with infinities."""
    device, windows = Device("up"), windows_of((1, 6, 1), 1, (1, 3), (1, 3))
    nan, inf = np.nan, np.inf
    x = np.array([1, nan, nan, -inf, -inf, -inf], dtype)
    y, address = device.put(np.zeros(2, dtype))
    positions, place = device.put(np.full(2, 255, np.uint8))
    device.driver.launch(
        kernel_name("max_pool", dtype), 1, address, place, device.put(x)[1], windows, 1, 1, 1, 1
    )
    np.testing.assert_array_equal(y, np.array([nan, -inf], dtype))
    np.testing.assert_array_equal(positions, [1, 0])
