"""A device simulated on the CPU: kernels compiled by g++, NumPy for matrix products.

Memory is NumPy arrays full of NaN. A captured graph is a list of launches with their arguments,
as a CUDA graph is, so that what a replay should read from memory has to be there.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections import Counter, deque
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from sknn._kernels.gpu.blas import ALIGNMENT
from sknn._kernels.gpu.driver import out_of_memory
from sknn._kernels.gpu.hopper import TILE_MAP_DTYPE, TILE_ROWS
from sknn._kernels.gpu.kernels import Epilogue
from sknn._kernels.gpu.source import (
    C_TYPES,
    FILES,
    HOPPER_FILES,
    THREADS,
    hopper_names,
    kernel_names,
    source,
)

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
ORDERS = {"up": 0, "down": 1, "shuffled": 2}
SENTINEL = 0xAB
MOST_BLOCKS = 2**31 - 1
FLAGS = os.environ.get("SKNN_SIMULATED_FLAGS", "-O1").split()
# bytes around each allocation; a sanitizer has its own
GUARD = 0 if any("sanitize" in flag for flag in FLAGS) else 1024


ALL_KERNELS = tuple(
    dict.fromkeys((*kernel_names(np.float32), *kernel_names(np.float64), *hopper_names()))
)


def all_source():
    """What a GPU compiles in two parts."""
    return source((*FILES, *HOPPER_FILES))


@cache
def compiled(text, names=ALL_KERNELS):
    """Kernels, by default all of both compute types, as a shared library."""
    launchers = "".join(
        f'extern "C" bool kernel{i}(unsigned n_blocks, unsigned n_threads, void** arguments) '
        f"{{ return simulated::launch({name}, n_blocks, n_threads, arguments); }}\n"
        for i, name in enumerate(names)
    )
    text = '#include "cuda_on_cpu.h"\n' + text + launchers
    header = (HERE / "cuda_on_cpu.h").read_text()
    digest = hashlib.sha256((header + text + str(FLAGS)).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"sknn_simulated_{digest}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "kernels.so"
            subprocess.run(
                [COMPILER, "-std=c++20", "-w", "-shared", "-fPIC", *FLAGS, f"-I{HERE}",
                 "-x", "c++", "-", "-o", str(made)],
                input=text, text=True, check=True,
            )  # fmt: skip
            shutil.move(made, path)
    library = ctypes.CDLL(str(path))
    functions = {name: getattr(library, f"kernel{i}") for i, name in enumerate(names)}
    for function in functions.values():
        function.restype = ctypes.c_bool
    return library, functions


def at(address, dtype, shape, strides=None):
    """The array that lies at an address."""
    dtype = np.dtype(dtype)
    if strides is None:
        n = int(np.prod(shape)) * dtype.itemsize
    else:
        n = sum((k - 1) * s for k, s in zip(shape, strides, strict=True)) + dtype.itemsize
    memory = (ctypes.c_char * n).from_address(address)
    return np.ndarray(shape, dtype, memory, strides=strides)


def matrix(m, dtype):
    """A `Matrix` as an array."""
    itemsize = np.dtype(dtype).itemsize
    array = at(m.address, dtype, (m.rows, m.columns), (m.stride * itemsize, itemsize))
    return array.T if m.transposed else array


def argument(a):
    """Of a kernel: a record, a double or an integer of 64 bits; CuPy takes others as they are."""
    if isinstance(a, np.ndarray):
        assert a.size == 1
        return (ctypes.c_char * a.nbytes).from_buffer_copy(a.tobytes())
    assert type(a) in (int, float, np.int64, np.float64), f"{a!r} is a {type(a)}"
    return ctypes.c_double(a) if isinstance(a, float) else ctypes.c_int64(a)


class Device:
    """Stands for CuPy's: the current one within ``with``, before which the first one is."""

    current = [0]

    def __init__(self, index):
        self.id = index

    def __enter__(self):
        Device.current.append(self.id)

    def __exit__(self, *error):
        Device.current.pop()


class DeviceArray(np.ndarray):
    """Stands for CuPy's array: made on the current device, which it has to be to compute."""

    device = None  # NumPy's have one, too

    def __array_finalize__(self, source):
        is_view = isinstance(source, DeviceArray)
        self.device = source.device if is_view else Device(Device.current[-1])

    def get(self):
        return np.array(self).view(np.ndarray)

    def __array_function__(self, function, types, arguments, keywords):
        check_device(*arguments, *keywords.values())
        result = super().__array_function__(function, types, arguments, keywords)
        return result.view(DeviceArray) if type(result) is np.ndarray else result

    def __array_ufunc__(self, ufunc, method, *arguments, out=(), **keywords):
        check_device(*arguments, *out)
        if out:
            keywords["out"] = tuple(map(without_device, out))
        result = getattr(ufunc, method)(*map(without_device, arguments), **keywords)
        return out[0] if out else np.asarray(result).view(DeviceArray)

    def reshape(self, *shape):
        if not self.flags.c_contiguous:
            check_device(self)
        return super().reshape(*shape)


def check_device(*values):
    """Arrays among them are of the current device."""
    for value in values:
        if isinstance(value, tuple | list):
            check_device(*value)
        elif isinstance(value, DeviceArray):
            current = Device.current[-1]
            assert value.device.id == current, f"on device {value.device.id}, not {current}"


def without_device(value):
    return value.view(np.ndarray) if isinstance(value, DeviceArray) else value


def computing(name):
    """A method of arrays that a device computes."""
    method = getattr(np.ndarray, name)

    def checked(self, *arguments, **keywords):
        check_device(self, *arguments)
        return method(self, *arguments, **keywords)

    return checked


for name in ("argmax", "astype", "clip", "copy"):
    setattr(DeviceArray, name, computing(name))
DeviceArray.__module__ = "cupy"


class Streams:
    """Queues of work, each done in its order: at once, or as late as others' waits allow.

    Parameters
    ----------
    late : container of {'main', 'copies'}
        The queues that are as late as may be.
    """

    def __init__(self, late):
        self.late, self.lock = late, threading.RLock()
        self.queues = {name: deque() for name in ("main", "copies")}
        self.issued, self.done = Counter(), Counter()

    def push(self, name, run):
        """Add some work; the event when it is done."""
        with self.lock:
            self.queues[name].append(run)
            self.issued[name] += 1
            if name not in self.late:
                self.finish(self.event(name))
            return self.event(name)

    def event(self, name):
        return name, self.issued[name]

    def finish(self, event):
        """Work until an event has come."""
        name, count = event
        with self.lock:
            while self.done[name] < count:
                self.queues[name].popleft()()
                self.done[name] += 1


class SimulatedDriver:
    """The driver's interface without a device.

    Parameters
    ----------
    order : {'up', 'down', 'shuffled'}
        In which threads of a block take turns.
    fuses : bool
        Whether products take epilogues.
    captures : bool
        Whether graphs can be captured.
    late : bool
        Whether what runs beside the main stream runs as late as it may, or at once.
    text : str or None
        Of the kernels, if not the package's.
    names : tuple of str
        Of the kernels that it has.
    array : type
        Of the arrays that stand for those of the device.
    memory : int
        Bytes of the device.
    late_streams : container of {'main', 'copies'}
        What the host does not wait for and runs as late as it may, rather than at once.
    """

    index, has_tiles = 0, True

    def __init__(
        self,
        order="up",
        fuses=True,
        captures=True,
        late=False,
        text=None,
        names=ALL_KERNELS,
        array=np.ndarray,
        memory=1 << 40,
        late_streams=(),
    ):
        self.array, self.memory, self.used = array, memory, 0
        self.streams, self.pinned_arrays = Streams(late_streams), []
        self.library, self.functions = compiled(all_source() if text is None else text, names)
        self.launched = {}  # kernels, as keys
        self.order, self.fuses, self.captures, self.late = order, fuses, captures, late
        self.preparing = False
        self.recording, self.beside_list, self.is_beside = None, [], False
        self.allocated = []

    # ---- memory ---------------------------------------------------------------------------

    @contextmanager
    def active(self):
        with Device(self.index):
            yield

    def load_kernels(self, dtype, precision="float32"):
        assert np.dtype(dtype) in C_TYPES

    def free_bytes(self):
        return self.memory - self.used

    def _take(self, array):
        """Count an array's memory for as long as it is there."""
        if array.nbytes > self.free_bytes():
            raise out_of_memory(array.nbytes, self.free_bytes(), self.memory)
        self.used += array.nbytes
        weakref.finalize(array, self._give_back, array.nbytes)
        return array

    def _give_back(self, n_bytes):
        self.used -= n_bytes

    def allocate(self, n_bytes):
        if n_bytes > self.free_bytes():
            raise out_of_memory(n_bytes, self.free_bytes(), self.memory)
        self.used += n_bytes
        whole = np.full(n_bytes + 2 * GUARD, 0xFF, np.uint8)
        whole[:GUARD] = whole[GUARD + n_bytes :] = SENTINEL
        self.allocated.append(whole)
        return whole[GUARD : GUARD + n_bytes]

    def check(self):
        """Nothing was written outside an allocation."""
        for whole in self.allocated:
            assert (whole[:GUARD] == SENTINEL).all()
            assert (whole[len(whole) - GUARD :] == SENTINEL).all()

    def empty(self, shape, dtype):
        out = self._take(np.empty(shape, dtype))
        out.view(np.uint8)[...] = 0xFF
        return out.view(self.array)

    def empty_for_caller(self, shape, dtype):
        self.for_caller = self.empty(shape, dtype)
        return self.for_caller

    def address(self, array):
        return array.ctypes.data

    def to_device(self, array):
        if isinstance(array, DeviceArray):
            assert array.device.id == self.index
            return array
        return self._take(np.array(array, order="C", subok=False))

    def is_on_host(self, array):
        return not isinstance(array, DeviceArray)

    def to_host(self, array):
        self.synchronize()
        return np.asarray(array)

    def upload(self, address, array):
        if not any(np.may_share_memory(array, pinned) for pinned in self.pinned_arrays):
            array = array.copy()  # else it is read when its turn comes

        def run():
            at(address, np.uint8, (array.nbytes,))[...] = array.reshape(-1).view(np.uint8)

        self.streams.push("main", run)

    def upload_beside(self, address, array, event):
        def run():
            self.streams.finish(event)
            at(address, np.uint8, (array.nbytes,))[...] = array.reshape(-1).view(np.uint8)

        return self.streams.push("copies", run)

    def download(self, array, address):
        self.synchronize()
        array.reshape(-1).view(np.uint8)[...] = at(address, np.uint8, (array.nbytes,))

    def pinned(self, n, dtype):
        self.pinned_arrays.append(np.empty(n, dtype))
        return self.pinned_arrays[-1]

    def fill_zero(self, address, n_bytes):
        def run():
            at(address, np.uint8, (n_bytes,))[...] = 0

        self.streams.push("main", run)

    # ---- launches -------------------------------------------------------------------------

    def launch(self, name, n_blocks, *arguments):
        assert 0 < n_blocks <= MOST_BLOCKS, f"{name}: {n_blocks} blocks"
        self.launched[name] = True
        values = [argument(a) for a in arguments]

        def run():
            self.library.set_order(ORDERS[self.order])
            pointers = (ctypes.c_void_p * len(values))(
                *(ctypes.cast(ctypes.pointer(v), ctypes.c_void_p) for v in values)
            )
            assert self.functions[name](n_blocks, THREADS, pointers), f"{name}: deadlock"

        self._issue(run)

    def product(self, out, a, b, *, dtype, precision, accumulate=False,
                epilogue=Epilogue.NONE, vector=0):  # fmt: skip
        if epilogue != Epilogue.NONE and not self.fuses:
            return False
        assert not (accumulate and epilogue != Epilogue.NONE)
        addresses = out.address, a.address, b.address, vector
        assert not any(address % ALIGNMENT for address in addresses)  # algorithms rely on that

        def run():
            left, right, result = (matrix(m, dtype) for m in (a, b, out))
            product = left @ right
            if epilogue != Epilogue.NONE:
                product += at(vector, dtype, (out.columns,))
            if epilogue == Epilogue.RELU:
                product = np.where(product < 0, 0, product)
            result[...] = result + product if accumulate else product

        self._issue(run)
        return True

    def tiles(self, matrix, rounds):
        record = np.zeros((), TILE_MAP_DTYPE)
        _, rows, columns, stride, _ = matrix
        assert matrix.address % ALIGNMENT == stride * 4 % ALIGNMENT == 0 < min(rows, columns)
        record["words"][:6] = matrix.address, rows, columns, stride, TILE_ROWS, rounds
        return record

    def _issue(self, run):
        if self.preparing:
            return
        if self.is_beside and self.late:
            self.beside_list.append(run)
        elif self.recording is not None:
            self.recording.append(run)
        else:
            self.streams.push("main", run)

    def fork(self):
        """What follows `beside` comes after what was launched so far."""

    @contextmanager
    def beside(self):
        self.is_beside = True
        yield
        self.is_beside = False

    def join(self):
        late, self.beside_list = self.beside_list, []
        for run in late:
            self._issue(run)

    def prepare(self, launch):
        self.preparing = True
        launch()
        self.preparing = False

    def capture(self, launch):
        if not self.captures:
            return None
        self.recording = runs = []
        launch()
        self.recording = None

        def replay():
            for run in runs:
                self.streams.push("main", run)

        return replay

    def record(self):
        return self.streams.event("main")

    def wait(self, event):
        self.streams.finish(event)

    def wait_for(self, event):
        self.streams.push("main", lambda: self.streams.finish(event))

    def synchronize(self):
        self.streams.finish(self.streams.event("main"))
