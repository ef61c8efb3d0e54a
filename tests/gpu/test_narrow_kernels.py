"""Dense layers of few units on the CPU, in three orders of threads, against NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest

from sknn._kernels.gpu import kernels, narrow
from sknn._kernels.gpu.kernels import Matrix
from sknn._kernels.ops import Activation, Opcode, Phase

from .. import reference
from .test_kernels import TOLERANCE, Device, check_strips, each_dtype, each_order, numbers

pytestmark = pytest.mark.usefixtures("compiler")
# rows, inputs, units
SHAPES = [(1, 1, 1), (3, 5, 2), (40, 33, 10), (17, 65, 12), (33, 130, 13), (70, 64, 16)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))


class Layer:
    """A narrow op and a run of it, with gaps between rows, behind another op or none."""

    def __init__(self, device, dtype, shape, activation=Activation.IDENTITY, before=None,
                 trains=(True, True), wants_dx=True, accumulate=False):  # fmt: skip
        rng, (n, k, m) = np.random.default_rng(0), shape
        of = getattr(reference, (before or Activation.IDENTITY).name.lower())
        x, self.slope = of(numbers(rng, (n, k), dtype).astype(float))
        self.device, self.dtype = device, dtype
        self.x, self.b = x.astype(dtype), numbers(rng, m, dtype)
        self.W = (numbers(rng, (k, m), dtype) / np.sqrt(k)).astype(dtype)
        self.dy = numbers(rng, (n, m), dtype)
        self.start = numbers(rng, (k + 1, m), dtype) if accumulate else np.zeros((k + 1, m))
        self.gaps = []
        self.y, y = self.table(np.full((n, m), np.nan, dtype), m + 1)
        self.dx, dx = self.table(np.full((n, k), np.nan, dtype), k + 3)
        first = self.start if accumulate else np.full((k + 1, m), np.nan)
        self.dW, dW = device.put(first[:k].astype(dtype))
        self.db, db = device.put(first[k].astype(dtype))
        tables = {"x": self.table(self.x, k + 3)[1], "y": y}
        gradients = {"x": dx if wants_dx else dx._replace(address=0),
                     "y": self.table(self.dy, m + 1)[1]}  # fmt: skip
        if before is not None:
            before = SimpleNamespace(index=0, activation=before, opcode=Opcode.DENSE)
        self.sums, sums = device.put(np.full((kernels.sum_blocks(n), k), np.nan, dtype))
        own = device.put(np.full((kernels.sum_blocks(n), (k + 1) * m), np.nan, dtype))[1]
        place = kernels.sum_blocks(n) * m * self.dtype().itemsize
        weights = [device.put(a)[1] for a in (self.W, self.b)]
        self.op = SimpleNamespace(
            index=1, opcode=Opcode.DENSE, activation=activation, trains=trains,
            x=SimpleNamespace(name="x", width=k, accumulate=False, grad_offset=wants_dx - 1),
            y=SimpleNamespace(name="y", width=m),
        )  # fmt: skip
        self.run = SimpleNamespace(
            driver=device.driver, dtype=dtype, n=n, accumulate=accumulate, gated=set(), n_sums={},
            value=lambda operand: tables[operand.name], pixels=lambda operand: tables["y"],
            gradient=lambda operand: gradients[operand.name], before=lambda op: before,
            pixel_gradients=lambda operand: gradients["y"], gradient_ready=lambda: None,
            parameter=lambda op, i: Matrix(weights[i], k, m, m),
            parameter_gradient=lambda op, i: Matrix((dW, db)[i], (k, 1)[i], m, m),
            sums=lambda op, i=0: own + i * place if op is self.op else sums,
            neighbour=lambda op, offset: self.ops.get(op.index + offset),
        )  # fmt: skip
        self.ops = {1: self.op}

    def table(self, array, stride):
        rows, address, gap = self.device.padded(array, stride)
        self.gaps.append(gap)
        return rows, Matrix(address, *array.shape, stride)

    def check(self):
        self.device.check(*self.gaps)


def close(found, expected, dtype):
    scale = 10 * TOLERANCE[dtype] * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=10 * TOLERANCE[dtype], atol=scale)


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize("activation", Activation, ids=lambda a: a.name.lower())
def test_forward(order, dtype, shape, activation, monkeypatch):
    """Also by a block that takes more rows than it has threads for."""
    for blocks in (narrow.FULL, 2):
        monkeypatch.setattr(narrow, "FULL", blocks)
        layer = Layer(Device(order), dtype, shape, activation)
        narrow.dense_forward(layer.run, layer.op)
        z = layer.x.astype(float) @ layer.W + layer.b
        close(layer.y, getattr(reference, activation.name.lower())(z)[0], dtype)
        layer.check()


@each_dtype
@pytest.mark.parametrize("lanes", [8, 16, 32])
@pytest.mark.parametrize("shape", [(40, 1030, 16), (5, 2048, 3), (20, 800, 10)], ids=str)
def test_forward_of_many_inputs(dtype, lanes, shape, monkeypatch):
    """Whose weights come in several chunks."""
    monkeypatch.setattr(narrow, "rows_shape", lambda n: kernels.Grid(2, lanes))
    layer = Layer(Device("shuffled"), dtype, shape)
    assert narrow.is_narrow(layer.op)
    narrow.dense_forward(layer.run, layer.op)
    close(layer.y, layer.x.astype(float) @ layer.W + layer.b, dtype)
    layer.check()


def with_loss(device, dtype, shape, phase):
    """A layer with a softmax behind it, whose gradient has another place."""
    layer = Layer(device, dtype, shape)
    rng, (n, _, m), run = np.random.default_rng(1), shape, layer.run
    layer.classes, layer.weights = rng.integers(0, m, 40).astype(np.int32), rng.uniform(0.5, 2, 40)
    run.rows, layer.samples = device.rows(n, 40, rng)
    layer.losses, run.losses = device.put(np.full((2, kernels.LOSS_BLOCKS), np.nan))
    run.targets, run.weights = device.put(layer.classes)[1], device.put(layer.weights)[1]
    layer.g, gradient = layer.table(np.full((n, m), np.nan, dtype), m + 1)
    run.gradient, run.phase = lambda operand: gradient, phase
    layer.loss = layer.ops[2] = SimpleNamespace(
        index=2, opcode=Opcode.SOFTMAX_LOG_LOSS, x=layer.op.y, attributes=(0.5,),
        phases=Phase.TRAIN | Phase.PREDICT,
    )  # fmt: skip
    return layer


def run_with_loss(layer):
    narrow.dense_forward(layer.run, layer.op)
    assert np.isnan(layer.y).all(), "the loss makes it"
    narrow.softmax_forward(layer.run, layer.loss)
    layer.check()
    return layer.losses.ravel()[layer.run.n_losses : 2 * layer.run.n_losses]  # of the second step


@each_order
@each_dtype
@each_shape
def test_softmax_log_loss(order, dtype, shape, monkeypatch):
    for blocks in (narrow.FULL, 2):
        monkeypatch.setattr(narrow, "FULL", blocks)
        layer = with_loss(Device(order), dtype, shape, Phase.TRAIN)
        losses = run_with_loss(layer)
        z = layer.x.astype(float) @ layer.W + layer.b
        classes, weights = layer.classes[layer.samples], layer.weights[layer.samples]
        p, loss = reference.softmax_log_loss(z, classes)
        close(layer.y, p, dtype)
        close(layer.g, (p - np.eye(shape[2])[classes]) * weights[:, None], dtype)
        close(losses.sum(), 0.5 * (loss * weights).sum(), dtype)
        assert np.isfinite(layer.losses).sum() == layer.run.n_losses, "wrote to another step"


@each_order
@each_dtype
def test_softmax_of_a_prediction(order, dtype):
    layer = with_loss(Device(order), dtype, (40, 33, 10), Phase.PREDICT)
    losses = run_with_loss(layer)
    z = layer.x.astype(float) @ layer.W + layer.b
    close(layer.y, reference.softmax_log_loss(z, np.zeros(40, int))[0], dtype)
    assert np.isnan(layer.g).all() and np.isnan(losses).all()


@pytest.mark.parametrize(
    "change",
    [{"activation": Activation.RELU}, {"opcode": Opcode.DENSE_CSR}],
    ids=str,
)
def test_a_softmax_that_makes_no_output(change):
    layer = with_loss(Device("up"), np.float32, (3, 5, 10), Phase.TRAIN)
    assert narrow.is_with_loss(layer.run, layer.op, layer.loss)
    vars(layer.op).update(change)
    assert not narrow.is_with_loss(layer.run, layer.op, layer.loss)
    assert not narrow.is_with_loss(layer.run, layer.op, None)


def check_gradients(layer, before):
    """All that backward and gradient wrote."""
    op, run = layer.op, layer.run
    narrow.dense_backward(run, op)
    narrow.dense_gradient(run, op)
    layer.check()
    dtype, dy, start = layer.dtype, layer.dy.astype(float), layer.start
    if op.activation != Activation.IDENTITY:
        dy = dy * getattr(reference, op.activation.name.lower())(layer.z)[1]
    dx = dy @ layer.W.astype(float).T * layer.slope
    dW, db = layer.x.astype(float).T @ dy, dy.sum(axis=0)
    if op.x.grad_offset >= 0:
        close(layer.dx, dx, dtype)
    else:
        assert np.isnan(layer.dx).all()
    if op.x.grad_offset >= 0 and before is not None:
        assert run.gated == {0}
        close(layer.sums[: run.n_sums[0]].sum(axis=0), dx.sum(axis=0), dtype)
    else:
        assert not run.gated and np.isnan(layer.sums).all()
    for found, expected, trained in zip(
        (layer.dW, layer.db), (start[:-1] + dW, start[-1] + db), op.trains, strict=True
    ):
        if trained:
            close(found, expected, dtype)
        else:
            assert np.isnan(found).all()


@each_order
@each_dtype
@each_shape
@pytest.mark.parametrize("before", [None, *Activation])
def test_gradients(order, dtype, shape, before):
    check_gradients(Layer(Device(order), dtype, shape, before=before), before)


@each_dtype
@pytest.mark.parametrize(
    "options",
    [{"accumulate": True}, {"trains": (False, True)}, {"trains": (True, False)},
     {"trains": (False, False)}, {"wants_dx": False}],
    ids=str,
)  # fmt: skip
def test_gradients_that_not_all_are_wanted(dtype, options):
    layer = Layer(Device("shuffled"), dtype, (70, 33, 10), before=Activation.TANH, **options)
    check_gradients(layer, Activation.TANH)


@each_dtype
def test_a_narrow_layer_with_an_activation(dtype):
    layer = Layer(Device("down"), dtype, (70, 33, 10), Activation.TANH, before=Activation.RELU)
    layer.z = layer.x.astype(float) @ layer.W + layer.b
    narrow.dense_forward(layer.run, layer.op)
    check_gradients(layer, Activation.RELU)


def test_infinity_and_not_a_number_stay_in_their_rows():
    layer = Layer(Device("up"), np.float32, (20, 40, 10))
    x = layer.run.value(layer.op.x)
    memory = next(a for a in layer.device.arrays if a.ctypes.data == x.address)
    memory[3, 39], memory[5, 0] = np.inf, np.nan
    narrow.dense_forward(layer.run, layer.op)
    z = np.delete(layer.y, [3, 5], axis=0)
    assert np.isfinite(z).all() and np.isinf(layer.y[3]).all() and np.isnan(layer.y[5]).all()


@pytest.mark.parametrize("k", [1, 64, 100, 512, 2048])
def test_shapes(k):
    check_strips(narrow.gradient_shape, k)


def test_which_are_narrow():
    layer = Layer(Device("up"), np.float32, (3, 5, 16))
    assert narrow.is_narrow(layer.op)
    assert narrow.n_sums(layer.op) == 6
    for operand, name, value in (
        (layer.op.y, "width", 17), (layer.op.x, "width", 2049), (layer.op.x, "accumulate", True)
    ):  # fmt: skip
        kept = getattr(operand, name)
        setattr(operand, name, value)
        assert not narrow.is_narrow(layer.op)
        assert narrow.n_sums(layer.op) == 1
        setattr(operand, name, kept)
