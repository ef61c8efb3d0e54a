"""A barrier that is missing shows: without it some order of threads gives a wrong result.

So does a shuffle in which not all threads of a warp take part.
"""

import ctypes
import re
from types import SimpleNamespace

import numpy as np
import pytest

from sknn._kernels.gpu import kernels, narrow
from sknn._kernels.gpu.epoch import PROGRESS_DTYPE
from sknn._kernels.gpu.source import PLAIN_SGD, formula, kernel_name
from sknn._kernels.ops import Activation, Opcode, Phase

from .. import reference
from .simulated import ORDERS, all_source, compiled
from .test_image_kernels import DIRECT, GROUPED, Convolution
from .test_kernels import Device, run_loss, run_update
from .test_narrow_kernels import Layer, run_with_loss, with_loss
from .test_norm_kernels import normalised
from .test_product import ROWS, run_gated
from .test_sparse_kernels import csr_gradient

pytestmark = pytest.mark.usefixtures("compiler")
BARRIER = re.compile(r"\n *__syncthreads\(\);")


def loss_sum(device):
    found, expected = run_loss(device, Opcode.SOFTMAX_LOG_LOSS, np.float64, (70, 33))
    return found[2][1].sum(), expected[2]


def gradient_sums(device, n=20, m=40):
    """By several groups of threads, for several strips of columns."""
    rng = np.random.default_rng(0)
    g, g_address = device.put(rng.uniform(size=(n, m)))
    parts, address = device.put(np.full((1, m), np.nan))
    device.driver.launch(
        kernel_name("activation_gradient", formula(Activation.IDENTITY), float), 2, g_address,
        g_address, address, n, m, m, 32, n,
    )  # fmt: skip
    return parts[0], g.sum(axis=0)


def sums_of_columns(device, n=50, m=40):
    rng = np.random.default_rng(0)
    parts, parts_address = device.put(rng.uniform(size=(n, m)))
    sums, address = device.put(np.full(m, np.nan))
    run = SimpleNamespace(driver=device.driver, dtype=float, accumulate=False)
    kernels.sum_columns(run, address, parts_address, n, m)
    return sums, parts.sum(axis=0)


def narrow_outputs(device):
    """Of weights in one chunk and in several."""
    results = []
    for shape in ((40, 33, 10), (9, 300, 16)):
        layer = Layer(device, np.float64, shape)
        narrow.dense_forward(layer.run, layer.op)
        results.append((layer.y.ravel(), (layer.x @ layer.W + layer.b).ravel()))
    return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]


def narrow_loss(device):
    layer = with_loss(device, np.float64, (70, 33, 10), Phase.TRAIN)
    z = layer.x @ layer.W + layer.b
    loss = reference.softmax_log_loss(z, layer.classes[layer.samples])[1]
    return run_with_loss(layer).sum(), 0.5 * (loss * layer.weights[layer.samples]).sum()


def narrow_gradients(device):
    layer = Layer(device, np.float64, (300, 33, 10), before=Activation.IDENTITY)
    narrow.dense_backward(layer.run, layer.op)
    narrow.dense_gradient(layer.run, layer.op)
    return layer.dW.ravel(), (layer.x.T @ layer.dy).ravel()


def updated(device):
    found, expected = run_update(device, np.float64, PLAIN_SGD, 512)
    return np.append(found[0], found[2]), np.append(expected[0], expected[2])


def finished(device, n_steps=15):
    progress, address = device.put(np.zeros(1, PROGRESS_DTYPE))
    ones = device.put(np.ones((n_steps, 40)))[1]
    step_losses = device.put(np.full(n_steps, np.nan))[1]
    device.driver.launch(
        kernel_name("finish_steps"), 1, address, step_losses, ones, 40, ones, 0, ones, n_steps, 1.0
    )
    return progress["loss"][0], n_steps * 40


def weight_gradients(device):
    """In one part, where several groups of threads share a block and take several columns."""
    results = []
    for kind in ("depthwise", "pointwise"):
        conv = Convolution(device, np.float64, GROUPED[kind])
        found = conv.weight_gradient(share_rows=1000).sum(axis=0)
        results.append((found.ravel(), conv.dw.ravel()))
    return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]


def without_columns(device):
    """Of shares that have several bands."""
    conv = Convolution(device, np.float64, DIRECT["3x3"])
    parts = conv.direct_gradient("aligned", 2).sum(axis=0)
    return [np.concatenate([a.ravel() for a in arrays])
            for arrays in ((conv.direct(lines=2), parts), (conv.y, conv.dw))]  # fmt: skip


def sparse_gradient(device):
    return csr_gradient(device, np.float64, (300, 17, 5, 0.2))


def gated_product(device):
    c, sums, expected = run_gated(device, (150, 132, 164))
    expected_sums = np.add.reduceat(expected, np.arange(0, len(c), ROWS))
    close = np.allclose(c, expected, atol=1e-3) and np.allclose(sums, expected_sums, atol=1e-3)
    return float(close), 1  # sums are float32


CHECKS = (
    loss_sum, gradient_sums, sums_of_columns, narrow_outputs, narrow_loss, narrow_gradients,
    updated, finished, normalised, weight_gradients, without_columns, sparse_gradient,
    gated_product,
)  # fmt: skip


def differs(device, check):
    try:
        found, expected = check(device)
    except AssertionError as error:
        assert "deadlock" in str(error)
        return True
    return not np.allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def names():
    """Of the kernels that the checks launch; as they are, they make no difference."""
    launched = {}
    for order in ORDERS:
        for check in CHECKS:
            device = Device(order)
            assert not differs(device, check)
            launched.update(device.driver.launched)
    return tuple(launched)


@pytest.mark.parametrize("place", range(len(BARRIER.findall(all_source()))))
def test_a_missing_barrier_is_caught(names, place):
    match = list(BARRIER.finditer(all_source()))[place]
    text = all_source()[: match.start()] + all_source()[match.end() :]
    devices = (Device(order, text=text, names=names) for order in ORDERS)
    assert any(differs(device, check) for device in devices for check in CHECKS)


EXCHANGE = """
__global__ void exchange(int64_t* v) {
    int64_t* own = v + threadIdx.x;
    BEFORE
    *own = __shfl_xor_sync(0xffffffffu, *own, 1);
}
"""


@pytest.mark.parametrize(
    "before",
    ["", "if (threadIdx.x == 40) return;",
     "if (threadIdx.x & 1) { *own = __shfl_xor_sync(0xffffffffu, *own, 1); return; }"],
    ids=["whole", "ended", "elsewhere"],
)  # fmt: skip
def test_a_warp_shuffles_as_a_whole(before):
    functions = compiled(EXCHANGE.replace("BEFORE", before), ("exchange",))[1]
    v = np.arange(64)
    address = ctypes.c_int64(v.ctypes.data)
    done = functions["exchange"](1, 64, (ctypes.c_void_p * 1)(ctypes.addressof(address)))
    assert done == (before == "")
    assert not done or (v == np.arange(64) ^ 1).all()
