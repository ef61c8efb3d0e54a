"""Convolutions against NumPy: outputs, and the gradients of inputs, weights and biases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sknn._kernels.ops import Activation, Algorithm, Opcode, Phase

from .. import reference
from .images import Images, kernels

DTYPES = (np.float32, np.float64)
# of an error, relative to the largest output or gradient; Winograd's algorithm is float32's only
BOUND = {np.float32: 3e-6, np.float64: 1e-14}
BOUND_WINOGRAD = 1e-5


def convolution(shape, filters, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), padding="same",
                groups=1, pool=1, **arguments):  # fmt: skip
    """A CONV row; ``padding`` is 'same', 'valid' or (top, left, bottom, right)."""
    height, width, channels = shape
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "same":
        out = [-(-n // s) for n, s in zip((height, width), stride, strict=True)]
        sides = zip(out, stride, span, (height, width), strict=True)
        total = [max(0, (o - 1) * s + k - n) for o, s, k, n in sides]
        before = [t // 2 for t in total]
    else:
        before, after = (padding[:2], padding[2:]) if padding != "valid" else ((0, 0), (0, 0))
        sides = zip((height, width), before, after, span, stride, strict=True)
        out = [(n + p + q - k) // s + 1 for n, p, q, k, s in sides]
    dims = (*kernel, *stride, *dilation, *before, groups, *out, pool)
    y = (*(n // pool for n in out), filters)
    images = Images(
        Opcode.CONV, shape, y, dims, weights=(kernel[0] * kernel[1] * channels // groups, filters),
        positions=pool == 2, **arguments,
    )  # fmt: skip
    images.allocate_workspace(kernels.conv_workspace(images.op.tobytes()))
    return images


def close(actual, expected, bound):
    # at least 1: what is added up may cancel
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound * scale)


def check(images):
    """All that the kernels of one row make."""
    exact = [v.astype(float) for v in (images.x, images.w, images.b, images.dy)]
    x, w, b, dy = exact
    expected = reference.conv(images.op, x, w, b)
    dx, dw, db = reference.conv_gradients(images.op, x, w, b, dy)
    bound = BOUND_WINOGRAD if images.algorithm == Algorithm.WINOGRAD else BOUND[images.dtype]
    images.run("forward", phase=Phase.PREDICT)
    close(images.y, expected, bound)
    if images.positions:
        assert (images.bytes == 255).all()
    images.y[...] = np.nan
    images.run("forward", phase=Phase.TRAIN)
    close(images.y, expected, bound)
    images.run("backward")
    if not images.from_input:
        before = 0 if images.before is None else images.before
        close(images.dx, before + dx, bound)
    for segment, gradient in enumerate((dw, db)):
        for accumulate in (False, True):
            close(images.gradient(segment, accumulate), gradient, bound)


CASES = {
    "3x3": dict(shape=(8, 8, 16), filters=32),
    "odd": dict(shape=(7, 5, 3), filters=5),
    "one pixel": dict(shape=(1, 1, 4), filters=6),
    "valid": dict(shape=(9, 10, 4), filters=33, padding="valid"),
    "one output": dict(shape=(3, 3, 8), filters=17, padding="valid"),
    "1x1": dict(shape=(6, 5, 20), filters=40, kernel=(1, 1)),
    "5x5": dict(shape=(9, 11, 5), filters=18, kernel=(5, 5)),
    "7x7": dict(shape=(14, 13, 3), filters=20, kernel=(7, 7), stride=(2, 2)),
    "stride": dict(shape=(9, 8, 16), filters=16, stride=(2, 2)),
    "stride beyond the kernel": dict(shape=(9, 8, 6), filters=8, kernel=(1, 1), stride=(3, 2)),
    "stride and dilation that share a factor": dict(
        shape=(9, 11, 4), filters=8, kernel=(3, 2), stride=(2, 4), dilation=(2, 2)
    ),
    "stride, a vector of channels": dict(shape=(13, 20, 16), filters=32, stride=(2, 2)),
    "dilation": dict(shape=(10, 9, 8), filters=16, dilation=(2, 3)),
    "stride and dilation": dict(shape=(11, 12, 4), filters=8, stride=(2, 3), dilation=(3, 2)),
    "groups": dict(shape=(6, 7, 8), filters=12, groups=4),
    "depthwise": dict(shape=(8, 7, 24), filters=24, groups=24),
    "depthwise, stride": dict(shape=(8, 7, 24), filters=24, groups=24, stride=(2, 2)),
    "depthwise, more filters": dict(shape=(8, 7, 5), filters=15, groups=5),
    "signal": dict(shape=(1, 50, 6), filters=16, kernel=(1, 5), stride=(1, 2)),
    "short signal": dict(shape=(1, 1, 2), filters=3, kernel=(1, 3)),
    "one channel": dict(shape=(28, 28, 1), filters=32, n=2),
    "wide": dict(shape=(3, 70, 2), filters=16),
    "padding": dict(shape=(4, 5, 3), filters=7, padding=(2, 0, 1, 3)),
    "padding beyond the kernel": dict(shape=(2, 2, 3), filters=4, padding=(4, 5, 5, 4)),
    "many filters": dict(shape=(4, 4, 16), filters=70),
    "many images": dict(shape=(3, 3, 5), filters=9, n=40),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("activation", [Activation.IDENTITY, Activation.RELU, Activation.TANH])
def test_against_numpy(name, activation, dtype):
    check(convolution(**CASES[name], activation=activation, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["3x3", "stride", "stride beyond the kernel", "groups", "1x1"])
def test_gradients_are_added(name, dtype):
    check(convolution(**CASES[name], accumulate=True, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["odd", "one channel", "1x1", "signal"])
def test_from_unaligned_rows_of_x(name, dtype):
    check(convolution(**CASES[name], from_input=True, dtype=dtype))


POOLED = {
    "even": dict(shape=(8, 8, 16), filters=32),
    "odd": dict(shape=(7, 9, 3), filters=5),
    "one channel": dict(shape=(28, 28, 1), filters=32, n=2),
    "two pixels": dict(shape=(2, 2, 4), filters=20),
    "groups": dict(shape=(6, 6, 4), filters=6, groups=2),
    "stride": dict(shape=(12, 13, 4), filters=16, stride=(2, 2)),
    "5x5": dict(shape=(28, 28, 3), filters=6, kernel=(5, 5), padding="valid"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", POOLED)
@pytest.mark.parametrize("activation", [Activation.IDENTITY, Activation.RELU])
def test_pooled(name, activation, dtype):
    check(convolution(**POOLED[name], activation=activation, pool=2, dtype=dtype))


WINOGRAD = {
    "one tile": dict(shape=(4, 4, 16), filters=16),
    "tiles": dict(shape=(8, 12, 16), filters=32),
    "odd": dict(shape=(7, 9, 32), filters=16),
    "one pixel": dict(shape=(1, 1, 16), filters=48),
    "valid": dict(shape=(9, 6, 16), filters=16, padding="valid"),
    "wide padding": dict(shape=(5, 5, 16), filters=16, padding=(2, 1, 2, 0)),
    "more than at once": dict(shape=(30, 30, 48), filters=80, n=3),
    "many images": dict(shape=(6, 6, 16), filters=16, n=70),
}


@pytest.mark.parametrize("name", WINOGRAD)
@pytest.mark.parametrize("activation", [Activation.RELU, Activation.TANH])
@pytest.mark.parametrize("accumulate", [False, True])
def test_winograd(name, activation, accumulate):
    check(convolution(**WINOGRAD[name], activation=activation, accumulate=accumulate,
                      dtype=np.float32, algorithm=Algorithm.WINOGRAD))  # fmt: skip


@pytest.mark.parametrize("name", [name for name in WINOGRAD if name != "one pixel"])
@pytest.mark.parametrize("activation", [Activation.IDENTITY, Activation.RELU])
def test_winograd_pooled(name, activation):
    check(convolution(**WINOGRAD[name], activation=activation, pool=2, dtype=np.float32,
                      algorithm=Algorithm.WINOGRAD))  # fmt: skip


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 17), st.integers(1, 5)),
    filters=st.integers(1, 6),
    groups=st.sampled_from([1, 1, 2, 3]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pool=st.sampled_from([1, 2]),
    activation=st.sampled_from([Activation.IDENTITY, Activation.RELU]),
    n=st.integers(1, 4),
    accumulate=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 3),
)
def test_any_shape(shape, filters, groups, stride, pool, **arguments):
    if pool == 2:
        shape = tuple(max(n, s + 1) for n, s in zip(shape, stride, strict=False)) + shape[2:]
    check(convolution((*shape[:2], shape[2] * groups), filters * groups, groups=groups, exact=True,
                      stride=stride, pool=pool, **arguments))  # fmt: skip


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_seen(value, pool):
    images = convolution((8, 8, 16), 32, pool=pool, activation=Activation.RELU, dtype=np.float32)
    images.x[1, 4, 4, 3] = value
    images.run("forward")
    near = slice(1, 3) if pool == 2 else slice(3, 6)
    if np.isnan(value):
        assert np.isnan(images.y[1, near, near]).all()
    else:
        assert not np.isfinite(images.y[1, near, near]).all()
    assert np.isfinite(images.y[[0, 2]]).all()


def test_bias_gradient_of_many_pixels():
    """What float sums round away goes the same way each time, where all slopes are equal."""
    images = convolution((400, 300, 1), 3, kernel=(1, 1), dtype=np.float32)
    images.dy[...] = 0.1
    np.testing.assert_allclose(images.gradient(1), 0.1 * images.dy[..., 0].size, rtol=2e-6)
