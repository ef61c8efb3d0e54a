"""An X that does not fit on the device: the same bits as one that does, whatever is late."""

from contextlib import closing

import numpy as np
import pytest

from sknn._kernels.gpu import executor as gpu_executor
from sknn._kernels.gpu import rows
from sknn._kernels.gpu.driver import Driver
from sknn._kernels.gpu.rows import ResidentRows, StreamedRows
from sknn.layers import BatchNorm, Dense

from ..kernels.cases import as_dtype, network
from .simulated import DeviceArray, SimulatedDriver
from .test_executor import CASES, MAKE, on_device, train

pytestmark = pytest.mark.usefixtures("compiler")
LATE = [(), ("main",), ("copies",), ("main", "copies")]
CASE, N = CASES[2], 61


@pytest.fixture
def tight(monkeypatch):
    """Devices on which no X of the host fits, and room for few rows."""

    def shrink(n_bytes):
        monkeypatch.setattr(rows, "MOST_OF_FREE", 0)
        monkeypatch.setattr(rows, "CHUNK_BYTES", n_bytes)

    return shrink


def every_verb(executor, case, dtype, batch_size, n=N):
    """Epochs, a sum over all rows and predictions, as arrays."""
    trained = train(executor, case, dtype, MAKE["adam"], n=n, batch_size=batch_size)
    parameters = case.parameters().astype(dtype)
    gradient = np.empty_like(parameters)
    loss = executor.evaluate(parameters, gradient, np.arange(n))
    some = np.random.default_rng(0).permutation(n)[: n // 3]
    predictions = [executor.predict_rows(None, parameters, r, 1) for r in (None, some)]
    return *map(np.asarray, trained), gradient, np.asarray(loss), *predictions


def same(found, expected):
    return all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("late", LATE, ids=lambda late: " and ".join(late) + " late")
@pytest.mark.parametrize(("batch_size", "chunk_rows"), [(1, 9), (7, 1), (7, 15), (40, 1000)])
def test_streamed_rows_are_the_same(tight, late, chunk_rows, batch_size):
    dtype = np.float32
    expected = every_verb(on_device(CASE.logical, dtype, batch_size)[0], CASE, dtype, batch_size)
    tight(chunk_rows * CASE.program.n_features * 4)
    executor, device = on_device(CASE.logical, dtype, batch_size, late_streams=late)
    assert same(every_verb(executor, CASE, dtype, batch_size), expected)
    assert isinstance(executor.X, StreamedRows)
    device.check()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_element_types_and_parts_of_minibatches(tight, dtype, monkeypatch):
    monkeypatch.setattr(gpu_executor, "CHUNK_ROWS", 10)
    X = np.random.default_rng(0).integers(0, 9, (N, CASE.program.n_features)).astype(dtype)
    found = []
    for streams in (False, True):
        if streams:
            tight(100)
        executor, _ = on_device(CASE.logical, np.float64, 37)
        _, y, weights = CASE.data(N)
        executor.bind(X, *as_dtype(CASE, X, y, np.float64)[1:], weights)
        parameters = CASE.parameters()
        optimizer = MAKE["sgd"](parameters)
        order = np.random.default_rng(1).permutation(N)
        for _ in range(2):
            executor.train_epoch(parameters, optimizer, order, 37, 0.1)
        executor.fetch()
        found.append(parameters)
    assert isinstance(executor.X, StreamedRows) and np.array_equal(*found)


def without_wait(device):
    device.wait = lambda event: None


def without_wait_for(device):
    device.wait_for = lambda event: None


def without_event(device):
    upload = device.upload_beside
    device.upload_beside = lambda at, array, event: upload(at, array, ("main", 0))


@pytest.mark.parametrize("spoil", [without_wait, without_wait_for, without_event])
def test_a_missing_wait_is_caught(tight, spoil):
    dtype, wrong = np.float32, False
    expected = train(on_device(CASE.logical, dtype, 8)[0], CASE, dtype, MAKE["adam"], N, 8)
    tight(16 * CASE.program.n_features * 4)
    for late in LATE:
        executor, device = on_device(CASE.logical, dtype, 8, late_streams=late)
        spoil(device)
        wrong |= not same(train(executor, CASE, dtype, MAKE["adam"], N, 8), expected)
    assert wrong


@pytest.mark.parametrize("late", LATE, ids=lambda late: " and ".join(late) + " late")
def test_interrupt_while_rows_come(tight, late):
    """The epoch after it is as if none were interrupted."""
    tight(16 * CASE.program.n_features * 8)
    X, y, _ = CASE.data(N)
    bound = as_dtype(CASE, X, y, np.float64)
    order = np.random.default_rng(0).permutation(N)
    results = []
    for interrupts in (False, True):
        executor, device = on_device(CASE.logical, float, 8, late_streams=late)
        executor.bind(*bound)
        parameters = CASE.parameters()
        optimizer = MAKE["adam"](parameters)
        if interrupts:
            device.wait, wait = lambda event: interrupted(), device.wait
            with pytest.raises(KeyboardInterrupt):
                executor.train_epoch(parameters, optimizer, order, 8, 0.1)
            device.wait = wait
            executor.bind(*bound)
            executor.parameters = None  # take them anew
            parameters, optimizer = CASE.parameters(), MAKE["adam"](parameters)
        results.append(executor.train_epoch(parameters, optimizer, order, 8, 0.1))
    assert results[0] == results[1]


def interrupted():
    raise KeyboardInterrupt


def test_no_upload_is_under_way_after_an_interrupt(tight):
    """Which ends the epoch where it launches."""
    tight(16 * CASE.program.n_features * 8)
    executor, device = on_device(CASE.logical, float, 8, late_streams=("copies",))
    X, y, _ = CASE.data(N)
    executor.bind(*as_dtype(CASE, X, y, np.float64))
    with closing(executor.X.feed(np.arange(N), 8, [16, 16, 16, 13])) as fed:
        next(fed)
    issued, done = device.streams.issued["copies"], device.streams.done["copies"]
    assert issued == done > 0


def test_a_mapped_file(tight, tmp_path):
    X, y, _ = CASE.data(N)
    X = X.astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    found = []
    for array in (X, np.load(tmp_path / "X.npy", mmap_mode="r")):
        executor, _ = on_device(CASE.logical, np.float32, 8)
        executor.bind(array, *as_dtype(CASE, X, y, np.float32)[1:])
        found.append(executor.predict_rows(None, CASE.parameters().astype(np.float32), None, 1))
        tight(64)
    assert isinstance(executor.X, StreamedRows) and np.array_equal(*found)


# ---- which it is ----------------------------------------------------------------------------


def placed(device, n=1000, batch=10, beside=0):
    return rows.place_rows(device, np.zeros((n, 10)), batch, beside)


def test_what_fits_is_taken_whole():
    assert isinstance(placed(SimulatedDriver(memory=90_000)), ResidentRows)
    assert isinstance(placed(SimulatedDriver(memory=70_000)), StreamedRows)
    assert isinstance(placed(SimulatedDriver(memory=90_000), beside=10_000), StreamedRows)


def test_an_array_of_the_device_stays():
    X = np.zeros((1000, 10)).view(DeviceArray)
    assert rows.place_rows(SimulatedDriver(memory=1000), X, 10, 0).array is X


def test_less_memory_than_was_said(monkeypatch):
    """Another process was faster: the rows come in chunks."""
    monkeypatch.setattr(rows, "CHUNK_BYTES", 8000)
    device = SimulatedDriver(memory=70_000)
    free, device.free_bytes = device.free_bytes, lambda: 1 << 40
    take = device.to_device
    device.to_device = lambda array: setattr(device, "free_bytes", free) or take(array)
    assert isinstance(placed(device), StreamedRows)


def test_not_even_some_minibatches_fit():
    with pytest.raises(
        MemoryError, match="could not allocate 160,000 bytes; 50,000 of its 50,000"
    ):
        placed(SimulatedDriver(memory=50_000), batch=1000)


def test_a_minibatch_in_parts_where_memory_is_short(monkeypatch):
    """Its gradients are added up, as those of one that is larger than parts are anyway."""
    monkeypatch.setattr(gpu_executor, "FEWEST_ROWS", 2)
    case, found = CASE, []
    device = on_device(case.logical, float, 64)[1]
    memory = device.used
    for few in (memory, memory - 1):
        executor, _ = on_device(case.logical, float, 64, memory=few)
        executor.driver.memory = 1 << 40  # for the data
        found.append(train(executor, case, np.float64, MAKE["adam"], N, 64))
    assert executor.capacity == 32
    for array, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-9, atol=1e-12)
    with pytest.raises(MemoryError, match=r"could not allocate [\d,]+ bytes.*batch_size"):
        on_device(case.logical, float, 64, memory=10_000)


def test_a_batch_normalization_needs_its_minibatch(monkeypatch):
    """It is not cut, neither for memory nor because it is large."""
    monkeypatch.setattr(gpu_executor, "FEWEST_ROWS", 2)
    monkeypatch.setattr(gpu_executor, "CHUNK_ROWS", 2)
    program = network((5,), Dense(17), BatchNorm()).logical
    executor, device = on_device(program, float, 64)
    assert executor.capacity == 64
    with pytest.raises(MemoryError, match=r"could not allocate [\d,]+ bytes.*batch_size"):
        on_device(program, float, 64, memory=device.used - 1)


class Pool:
    """CuPy's pool of memory, of which some is free and some was given out."""

    def __init__(self, limit):
        self.limit = limit

    def free_bytes(self):
        return 20

    def used_bytes(self):
        return 300

    def get_limit(self):
        return self.limit


@pytest.mark.parametrize(("limit", "free"), [(0, 1020), (1000, 700), (5000, 1020)])
def test_free_memory_of_a_device(limit, free):
    """By CUDA and by the limit of the pool; an error says both bytes."""

    class OutOfMemory(Exception):
        pass

    def refuse(shape, dtype):
        raise OutOfMemory

    space = type("Namespace", (), {})
    driver, cupy = Driver.__new__(Driver), space()
    driver.cupy, cupy.cuda = cupy, space()
    cupy.cuda.runtime, cupy.cuda.memory = space(), space()
    cupy.cuda.runtime.memGetInfo = lambda: (1000, 4000)
    cupy.cuda.memory.OutOfMemoryError, cupy.empty = OutOfMemory, refuse
    cupy.get_default_memory_pool = lambda: Pool(limit)
    assert driver.free_bytes() == free
    with pytest.raises(MemoryError, match=f"allocate 1,200 bytes; {free:,} of its 4,000 are free"):
        driver.empty((3, 100), np.float32)
