"""Kernels of images, in three orders of threads, against NumPy."""

import numpy as np
import pytest

from sknn._kernels.gpu import kernels
from sknn._kernels.gpu.images import WINDOWS_DTYPE
from sknn._kernels.gpu.source import kernel_name
from sknn._kernels.ops import OP_DTYPE, Opcode

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
