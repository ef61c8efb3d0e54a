"""Pooling against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sknn._kernels.ops import Opcode, Phase

from .. import reference
from .images import Images

DTYPES = (np.float32, np.float64)


def pooling(opcode, shape, window=(2, 2), stride=(2, 2), pad=(0, 0), **arguments):
    """Every window has an element of the image."""
    sides = zip(shape, window, stride, pad, strict=False)
    out = [max(1, -(-(n + p - max(0, k - s)) // s)) for n, k, s, p in sides]
    return Images(
        opcode, shape, (*out, shape[2]), (*window, *stride, *pad),
        positions=opcode == Opcode.MAX_POOL, **arguments,
    )  # fmt: skip


def check(images):
    name = Opcode(images.opcode).name.lower()
    expected = getattr(reference, name)(images.op, images.x.astype(float))
    bound = 1e-6 if images.dtype is np.float32 else 1e-14
    images.run("forward", phase=Phase.PREDICT)
    np.testing.assert_allclose(images.y, expected, atol=bound)
    assert (images.bytes == 255).all()
    images.y[...] = np.nan
    images.run("forward")
    np.testing.assert_allclose(images.y, expected, atol=bound)
    images.run("backward")
    dx = reference.pool_gradient(images.op, images.x.astype(float), images.dy.astype(float))
    before = 0 if images.before is None else images.before
    np.testing.assert_allclose(images.dx, before + dx, atol=10 * bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("opcode", [Opcode.MAX_POOL, Opcode.AVERAGE_POOL])
@pytest.mark.parametrize("accumulate", [False, True])
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20)),
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padded=st.booleans(),
    seed=st.integers(0, 3),
)
def test_any_shape(opcode, shape, window, stride, padded, accumulate, dtype, seed):
    pad = tuple((k - 1) // 2 for k in window) if padded else (0, 0)
    check(pooling(opcode, shape, window, stride, pad, accumulate=accumulate, dtype=dtype,
                  seed=seed))  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("opcode", [Opcode.MAX_POOL, Opcode.AVERAGE_POOL])
def test_of_whole_images(opcode, dtype):
    check(pooling(opcode, (15, 17, 33), (15, 17), (15, 17), dtype=dtype))


@pytest.mark.parametrize("channels", [1, 20])
def test_means_of_many_pixels(channels):
    """What float sums round away goes the same way each time, where all pixels are equal."""
    images = pooling(Opcode.AVERAGE_POOL, (400, 300, channels), (400, 300), (400, 300))
    images.x[...] = 0.1
    images.run("forward")
    np.testing.assert_allclose(images.y, 0.1, rtol=1e-6)


@pytest.mark.parametrize("opcode", [Opcode.MAX_POOL, Opcode.AVERAGE_POOL])
@pytest.mark.parametrize("position", [(0, 0), (1, 1), (0, 1)])
def test_nan_passes_through(opcode, position):
    images = pooling(opcode, (4, 4, 5))
    images.x[1, position[0], position[1], 2] = np.nan
    images.run("forward")
    assert np.isnan(images.y[1, 0, 0, 2])
    assert np.isnan(images.y).sum() == 1


def test_padding_never_wins():
    images = pooling(Opcode.MAX_POOL, (3, 3, 4), (3, 3), (1, 1), (1, 1))
    images.x[...] = -5
    images.run("forward")
    assert (images.y == -5).all()
