"""The executor on a simulated device against the CPU's."""

import numpy as np
import pytest

from sknn import layers, losses, optimizers, schedules
from sknn._kernels.cpu.executor import predict
from sknn._kernels.gpu.executor import STEPS_PER_GRAPH, Executor, schedule
from sknn._kernels.gpu.lowering import lower_for_gpu
from sknn._kernels.gpu.table import TABLE
from sknn._kernels.ops import Opcode, Phase
from sknn._lowering import read_csr
from sknn.layers import Dense, Dropout, LayerNorm, sequential

from ..kernels.cases import all_cases, as_dtype, make_executor, network, network_cases
from .simulated import SimulatedDriver

pytestmark = pytest.mark.usefixtures("compiler")
NORMS = [
    network((4,), Dense(9), LayerNorm(), layers.Activation("relu"), Dense(2, "tanh")),
    network((7,), LayerNorm(), Dense(70), LayerNorm(0.1), layers.Activation("tanh"), LayerNorm()),
]
SPARSE = [case for case in all_cases() if case.sparse]
NETWORKS = [
    case for case in network_cases() if set(map(Opcode, case.logical.ops["opcode"])) <= set(TABLE)
]
CASES = [*(case for case in all_cases() if not case.sparse), *NORMS, *NETWORKS, *SPARSE]
IMAGES = [case for case in NETWORKS if len(case.shape) > 1]
MAKE = {
    "sgd": lambda p: optimizers.SGD(p, schedules.Constant(0.1), 0.9, True),
    "plain descent": lambda p: optimizers.SGD(p, schedules.Constant(0.1), 0.0, True),
    "adam": lambda p: optimizers.Adam(p, 0.01, 0.9, 0.999, 1e-8),
}
# where Adam would make steps of rounding: biases before a batch normalisation have no gradient
STEADY = lambda p: optimizers.SGD(p, schedules.Constant(0.02), 0.5, True)  # noqa: E731
DEVICES = {
    "graph": {},
    "single launches": {"fuses": False, "captures": False, "order": "down"},
    "beside is late": {"late": True, "order": "shuffled"},
}
CLOSE = {
    np.float32: {"rtol": 3e-4, "atol": 1e-5},
    np.float64: {"rtol": 1e-9, "atol": 1e-12},
}

pytestmark = [
    pytest.mark.usefixtures("compiler"),
    pytest.mark.filterwarnings("ignore:The CUDA graph could not be captured"),
]


def state_of(case, dtype):
    """Running statistics, where the case has some."""
    return case.state().astype(dtype) if case.program.n_state else None


def program_of(case):
    """Before any lowering, which reads X in the form that it has."""
    return read_csr(case.logical) if case.sparse else case.logical


def on_device(program, dtype, capacity, **options):
    device = SimulatedDriver(**options)
    return Executor(program, dtype=dtype, capacity=capacity, driver=device), device


def train(executor, case, dtype, rule, n=23, batch_size=6, n_epochs=3):
    """Losses of epochs in random orders, and what was trained."""
    rng = np.random.default_rng(3)
    X, y, weights = case.data(n)
    state = state_of(case, dtype)
    executor.bind(*as_dtype(case, X, y, dtype), weights, state)
    parameters = case.parameters().astype(dtype)
    optimizer = rule(parameters)
    found = [
        executor.train_epoch(parameters, optimizer, rng.permutation(n), batch_size, 0.3)
        for _ in range(n_epochs)
    ]
    if hasattr(executor, "fetch"):
        executor.fetch()
    return found, parameters, optimizer.slots, [] if state is None else state


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_every_verb(case, dtype, device):
    executor, simulated = on_device(program_of(case), dtype, 6, **DEVICES[device])
    rule = STEADY if case.program.n_state else MAKE["adam"]
    # Later epochs in float64: in float32 rounding may decide on which side of its kink a rectifier
    # is, and it differs between processors.
    n_epochs = 3 if dtype == np.float64 else 1
    expected = train(make_executor(case, dtype, 6, 1), case, dtype, rule, n_epochs=n_epochs)
    found = train(executor, case, dtype, rule, n_epochs=n_epochs)
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, wanted, **CLOSE[dtype])
    parameters, order = case.parameters().astype(dtype), np.arange(23)
    X, y, weights = case.data(23)
    X, y = as_dtype(case, X, y, dtype)
    cpu, states = make_executor(case, dtype, 6, 1), [state_of(case, dtype) for _ in range(2)]
    for e, state in zip((cpu, executor), states, strict=True):
        e.bind(X, y, weights, state)
    gradients = np.full((2, parameters.size), np.nan, dtype)
    sums = [e.evaluate(parameters, g, order)
            for e, g in zip((cpu, executor), gradients, strict=True)]  # fmt: skip
    assert sums[1] == pytest.approx(sums[0], rel=CLOSE[dtype]["rtol"])
    np.testing.assert_allclose(gradients[1], gradients[0], **CLOSE[dtype])
    for rows in (None, order[::-2].copy()):
        found = executor.predict(parameters, rows)
        wanted = predict(case.predicts, parameters, X, rows, state=states[0])
        np.testing.assert_allclose(found, wanted, **CLOSE[dtype])
    simulated.check()


@pytest.mark.parametrize("optimizer", MAKE)
@pytest.mark.parametrize("weighted", [False, True])
def test_optimizers_in_order(optimizer, weighted):
    """Rows as they lie, some graphs and a tail."""
    case, n = CASES[2], 4 * STEPS_PER_GRAPH + 3
    X, y, weights = case.data(n)
    bound = (*as_dtype(case, X, y, np.float64), weights if weighted else None)
    results = []
    for executor in (make_executor(case, np.float64, 2, 1), on_device(case.logical, float, 2)[0]):
        executor.bind(*bound)
        parameters = case.parameters()
        rule = MAKE[optimizer](parameters)
        losses_ = [
            executor.train_epoch(parameters, rule, np.arange(n), 2, 0.1, in_order=True)
            for _ in range(2)
        ]
        if hasattr(executor, "fetch"):
            executor.fetch()
        results.append((losses_, parameters, rule.slots))
        assert getattr(rule, "t", 2 * -(-n // 2)) == 2 * -(-n // 2)
    for found, wanted in zip(*results[::-1], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_large_minibatches_in_parts(dtype, device, monkeypatch):
    """Their gradients are added up, also those of a short last minibatch and a short part."""
    monkeypatch.setattr("sknn._kernels.gpu.executor.CHUNK_ROWS", 4)
    adam = MAKE["adam"]
    for case in (*CASES[2:8], *NORMS, *IMAGES, *SPARSE[2:5]):
        executor, simulated = on_device(program_of(case), dtype, 10, **DEVICES[device])
        cpu, rule = make_executor(case, dtype, 10, 1), STEADY if case.program.n_state else adam
        expected = train(cpu, case, dtype, rule, batch_size=10)
        found = train(executor, case, dtype, rule, batch_size=10)
        for array, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(array, wanted, **CLOSE[dtype])
        simulated.check()


def test_graphs_take_all_rows():
    for n_rows, batch in ((1, 1), (1000, 7), (64, 2), (5, 5), (0, 3)):
        parts = schedule(n_rows, batch)
        assert sum(steps * rows for steps, rows in parts) == n_rows
        assert len(set(parts)) <= 3


def test_a_graph_is_made_once_for_each_shape():
    case, n = CASES[2], 200
    X, y, _ = case.data(n)
    executor, device = on_device(case.logical, float, 3)
    executor.bind(*as_dtype(case, X, y, np.float64))
    captured, capture = [], device.capture
    device.capture = lambda launch: captured.append(launch) or capture(launch)
    parameters = case.parameters()
    optimizer = MAKE["adam"](parameters)
    for alpha in (0.1, 0.2, 0.3):  # what changes lies in memory
        executor.train_epoch(parameters, optimizer, np.arange(n), 3, alpha)
    assert len(captured) == len(set(schedule(n, 3)))


def test_without_graphs_there_is_one_warning():
    executor, _ = on_device(CASES[2].logical, float, 4, captures=False)
    with pytest.warns(RuntimeWarning, match="could not be captured") as warned:
        train(executor, CASES[2], np.float64, MAKE["adam"])
    assert len(warned) == 1


@pytest.mark.parametrize("first", [0, 8, 20])
def test_minibatch_without_weight(first):
    """Trains up to it, and says so, as the CPU does."""
    case, n = CASES[2], 23
    X, y, weights = case.data(n)
    weights[first : first + 4] = 0
    results = []
    for executor in (make_executor(case, np.float64, 4, 1), on_device(case.logical, float, 4)[0]):
        executor.bind(*as_dtype(case, X, y, np.float64), weights)
        parameters = case.parameters()
        optimizer = MAKE["adam"](parameters)
        with pytest.raises(ZeroDivisionError, match="sum to zero"):
            executor.train_epoch(parameters, optimizer, np.arange(n), 4, 0.1)
        if hasattr(executor, "fetch"):
            executor.fetch()
        results.append(parameters)
    np.testing.assert_allclose(*results)


def test_interrupt_leaves_what_was_trained():
    """Ctrl-C between graphs: steps that are done count, and the next epoch goes on."""
    case, n = CASES[2], 3 * STEPS_PER_GRAPH
    X, y, _ = case.data(n)
    executor, device = on_device(case.logical, float, 1)
    executor.bind(*as_dtype(case, X, y, np.float64))
    parameters = case.parameters()
    optimizer = MAKE["adam"](parameters)

    def interrupted():
        raise KeyboardInterrupt

    device.record = interrupted
    with pytest.raises(KeyboardInterrupt):
        executor.train_epoch(parameters, optimizer, np.arange(n), 1, 0.1)
    assert optimizer.t == STEPS_PER_GRAPH
    executor.fetch()
    del device.record
    assert np.isfinite(executor.train_epoch(parameters, optimizer, np.arange(n), 1, 0.1))


def test_an_op_without_a_gpu_side_is_named(monkeypatch):
    monkeypatch.delitem(TABLE, Opcode.DROPOUT)
    program = sequential((4,), (Dropout(0.5), Dense(2)), losses.SOFTMAX_LOG_LOSS)
    with pytest.raises(NotImplementedError, match=r"DROPOUT has no GPU side.*device='cpu'"):
        on_device(program, float, 4)


def test_predictions_have_no_dropout():
    program = sequential((4,), (Dense(5), Dropout(0.5), Dense(2)), losses.SOFTMAX_LOG_LOSS)
    assert [op.opcode.name for op in lower_for_gpu(program, Phase.PREDICT).ops] == [
        "DENSE", "DENSE", "SOFTMAX_LOG_LOSS",
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("chunk", [3, 100])
def test_dropout_has_the_cpus_masks(dtype, device, chunk, monkeypatch):
    monkeypatch.setattr("sknn._kernels.gpu.executor.CHUNK_ROWS", chunk)
    layers_ = (Dropout(0.2), Dense(7, "tanh"), Dropout(0.5), Dense(5, "relu"), Dropout(0.1))
    case = network((6,), *layers_)
    program = sequential((6,), (*layers_, Dense(3)), case.loss)
    n, batch_size, results = 23, 5, []
    X, y, weights = case.data(n)
    bound = (*as_dtype(case, X, y, dtype), weights, None, 123)
    for executor in (make_executor(case, dtype, batch_size, 1),
                     on_device(program, dtype, batch_size, **DEVICES[device])[0]):  # fmt: skip
        executor.bind(*bound)
        parameters = case.parameters().astype(dtype)
        optimizer = MAKE["adam"](parameters)
        rng = np.random.default_rng(0)
        losses_ = [
            executor.train_epoch(
                parameters, optimizer, rng.permutation(n), batch_size, 0.1, n_seen=n * epoch
            )
            for epoch in range(3)
        ]
        if hasattr(executor, "fetch"):
            executor.fetch()
            found = executor.predict(parameters)
        else:
            found = predict(case.predicts, parameters, bound[0])
        results.append((losses_, parameters, found))
    for found, wanted in zip(*results[::-1], strict=True):
        np.testing.assert_allclose(found, wanted, **CLOSE[dtype])


def test_activation_layers_become_epilogues():
    layers_ = (Dense(5), layers.Activation("tanh"), Dense(2))
    ops = lower_for_gpu(sequential((4,), layers_, losses.SOFTMAX_LOG_LOSS)).ops
    assert [op.activation.name for op in ops] == ["TANH", "IDENTITY", "IDENTITY"]


def test_bad_arrays_are_refused():
    case = CASES[2]
    executor, _ = on_device(case.logical, float, 4)
    with pytest.raises(ValueError, match="features"):
        executor.bind(np.zeros((3, 99)))
    X, y, _ = case.data(3)
    executor.bind(X, y)
    short = np.zeros(3)
    with pytest.raises(ValueError, match="parameters of float64"):
        executor.train_epoch(short, MAKE["adam"](short), np.arange(3), 3, 0.1)
