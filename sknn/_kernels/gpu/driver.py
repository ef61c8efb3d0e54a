"""The device as the executor sees it: memory, launches, products and graphs, by CuPy.

The tests have a driver of the same interface that runs everything on the CPU.
"""

import os
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise

import numpy as np

from sknn._kernels.gpu.blas import WORKSPACE_BYTES, Blas, check
from sknn._kernels.gpu.hopper import CAPABILITY, load_functions, tile_map
from sknn._kernels.gpu.kernels import Epilogue
from sknn._kernels.gpu.source import CUDA_PRELUDE, THREADS, kernel_names, source

INSTALL = (
    "Install it with: pip install 'sknn[cuda13]', or 'sknn[cuda12]' for a driver of CUDA 12 "
    "(nvidia-smi shows which)."
)

NOT_AFTER_FORK = (
    "CUDA does not work in a process that was forked after CUDA was used. Start workers anew "
    "instead of forking them: joblib's backend 'loky' does "
    "(n_jobs with parallel_config(backend='loky'))."
)
# cudaErrorInitializationError, which CUDA says after a fork
INITIALIZATION_ERROR = 3

# streams beside the main one: gradients of parameters of different layers
N_SIDES = 2
# of a matrix product, to see how long it takes
TIMED_LAUNCHES, TIMED_GRAPHS = 8, 3

# device -> drivers that no executor has at the moment; the process that CUDA was used in
_idle, _process = {}, None


def import_cupy():
    """CuPy.

    Raises
    ------
    ImportError
        If it is not installed; says what to install.
    """
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            f"device='cuda' needs CuPy, which is not installed. {INSTALL}"
        ) from error
    return cupy


def check_device(index):
    """Whether this process can use the GPU of that number.

    Raises
    ------
    RuntimeError
        If not; says why and what to do.
    """
    global _process
    cupy = import_cupy()
    if _process is not None and _process != os.getpid():
        raise RuntimeError(NOT_AFTER_FORK)
    try:
        n_devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        is_forked = error.status == INITIALIZATION_ERROR  # others may have used CUDA before
        advice = NOT_AFTER_FORK if is_forked else "Use device='cpu', or check with nvidia-smi."
        raise RuntimeError(
            "device='cuda' needs a GPU of NVIDIA with its driver, but CUDA says: "
            f"{error}. {advice}"
        ) from error
    _process = os.getpid()  # counting devices was a use
    if index >= n_devices:
        raise RuntimeError(
            f"device='cuda:{index}' was asked for, but there are {n_devices} GPUs here: "
            f"take one of {', '.join(f'cuda:{i}' for i in range(n_devices)) or 'none'}."
        )


def take_driver(index):
    """A driver that no other executor uses; to be given back."""
    check_device(index)
    idle = _idle.setdefault(index, [])
    try:
        return idle.pop()
    except IndexError:
        return Driver(index)


def give_back(driver):
    """Let another executor have it."""
    if _process == os.getpid():
        _idle[driver.index].append(driver)


def out_of_memory(n_bytes, free, total):
    """The error of an allocation."""
    return MemoryError(
        f"The GPU could not allocate {n_bytes:,} bytes; {free:,} of its {total:,} are free. Make "
        "batch_size or the network smaller, give X as float32, or use device='cpu'."
    )


@cache
def load_module(index, dtype):
    """The kernels of one compute type on one device."""
    cupy = import_cupy()
    return cupy.RawModule(
        code=CUDA_PRELUDE + source(),
        options=("--std=c++17",),
        name_expressions=kernel_names(dtype),
    )


class Driver:
    """One GPU: its streams, a cuBLASLt handle, the kernels.

    Parameters
    ----------
    index : int
        Of the GPU.
    """

    def __init__(self, index):
        self.cupy, self.index = import_cupy(), index
        cuda = self.cupy.cuda
        self.device = cuda.Device(index)
        with self.device:
            self.stream, self.copies, *self.sides = (
                cuda.Stream(non_blocking=True) for _ in range(2 + N_SIDES)
            )
            self.forked = cuda.Event(disable_timing=True)
            self.side_ends = [cuda.Event(disable_timing=True) for _ in self.sides]
            self.workspaces = [cuda.alloc(WORKSPACE_BYTES) for _ in range(1 + N_SIDES)]
            self.blas = Blas([w.ptr for w in self.workspaces])
        self.caller = None  # the stream that was current before this driver's
        self.functions, self.is_preparing = {}, False
        self.has_tiles = False  # whether kernels may take `tiles`
        # whose turn it is, whether launches go there, and which were used since the last join
        self.side, self.is_beside, self.used = 0, False, set()

    @contextmanager
    def active(self):
        """Make this device and its stream the current ones."""
        with self.device:
            self.caller = self.cupy.cuda.get_current_stream()
            with self.stream:
                yield

    def load_kernels(self, dtype, precision="float32"):
        """Compile, or load, the kernels of a compute type, and those of products that round."""
        module = load_module(self.index, np.dtype(dtype))
        for name in kernel_names(dtype):
            if name not in self.functions:
                self.functions[name] = module.get_function(name)
        rounds = dtype == np.float32 and precision != "float32"
        if rounds and not self.has_tiles and self.device.compute_capability == CAPABILITY:
            functions = load_functions(self.index)
            self.functions |= functions
            self.has_tiles = bool(functions)

    # ---- memory ---------------------------------------------------------------------------

    def allocate(self, n_bytes):
        """Memory of the device.

        Raises
        ------
        MemoryError
            Saying how many bytes were asked for.
        """
        return self.empty((n_bytes,), np.uint8)

    def empty(self, shape, dtype):
        """An uninitialised array of the device."""
        try:
            return self.cupy.empty(shape, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            total = self.cupy.cuda.runtime.memGetInfo()[1]
            raise out_of_memory(n_bytes, self.free_bytes(), total) from error

    def empty_for_caller(self, shape, dtype):
        """The same of the memory of the caller's stream, whom the array is for."""
        with self.caller:
            out = self.empty(shape, dtype)
        self._follow_caller()  # which may have work to do with what lay there before
        return out

    def _follow_caller(self):
        """What follows comes after what the caller launched."""
        self.wait_for(self._record(self.caller))

    def free_bytes(self):
        """What arrays may still take, by CUDA and by the limit that CuPy's pool was given."""
        pool = self.cupy.get_default_memory_pool()
        free = self.cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes()
        limit = pool.get_limit()
        return min(free, limit - pool.used_bytes()) if limit else free

    def address(self, array):
        return array.data.ptr

    def is_on_host(self, array):
        return isinstance(array, np.ndarray)

    def to_device(self, array):
        """An array on this device; itself if it is there, after what the caller did to it."""
        if not isinstance(array, self.cupy.ndarray):
            out = self.empty(array.shape, array.dtype)
            self.upload(out.data.ptr, np.ascontiguousarray(array))
            return out
        self._follow_caller()
        return self.cupy.ascontiguousarray(array)

    def to_host(self, array):
        return array if isinstance(array, np.ndarray) else array.get()

    def upload(self, address, array):
        """Copy an array of the host; it may be changed afterwards."""
        runtime = self.cupy.cuda.runtime
        runtime.memcpyAsync(
            address, array.ctypes.data, array.nbytes, runtime.memcpyHostToDevice, self.stream.ptr
        )

    def upload_beside(self, address, array, event):
        """Copy a pinned array after an event, beside everything else; the event when it is done.

        May be called by any thread.
        """
        runtime = self.cupy.cuda.runtime
        with self.device:
            self.copies.wait_event(event)
            runtime.memcpyAsync(
                address, array.ctypes.data, array.nbytes, runtime.memcpyHostToDevice,
                self.copies.ptr,
            )  # fmt: skip
            return self._record(self.copies)

    def download(self, array, address):
        """Copy to an array of the host, when all that was launched is done."""
        runtime = self.cupy.cuda.runtime
        runtime.memcpyAsync(
            array.ctypes.data, address, array.nbytes, runtime.memcpyDeviceToHost, self.stream.ptr
        )
        self.synchronize()

    def pinned(self, n, dtype):
        """A vector of the host that the device reads by itself: an upload does not wait."""
        dtype = np.dtype(dtype)
        with self.device:
            memory = self.cupy.cuda.alloc_pinned_memory(max(1, n * dtype.itemsize))
        return np.frombuffer(memory, dtype, n)

    def fill_zero(self, address, n_bytes):
        self.cupy.cuda.runtime.memsetAsync(address, 0, n_bytes, self.stream.ptr)

    # ---- launches -------------------------------------------------------------------------

    def launch(self, name, n_blocks, *arguments):
        """A kernel by name.

        Arguments are ints (addresses, too) and floats, of 64 bits each, or a record as an array
        of one, which is passed by value.
        """
        if not self.is_preparing:
            self.functions[name]((n_blocks,), (THREADS,), arguments)

    def product(self, out, a, b, *, dtype, precision, accumulate=False,
                epilogue=Epilogue.NONE, vector=0):  # fmt: skip
        """out = a b, or added to it.

        Parameters
        ----------
        out, a, b : Matrix
        dtype : dtype
        precision : {'float32', 'tf32', 'bfloat16'}
        accumulate : bool
        epilogue : Epilogue
        vector : int
            Address of what the epilogue reads.

        Returns
        -------
        done : bool
            False if there is no such product with this epilogue; nothing was launched then.
        """
        place = 1 + self.side if self.is_beside else 0
        stream = self.sides[self.side] if self.is_beside else self.stream

        def launch(product):
            return self.blas.launch(product, out, a, b, vector, stream.ptr, place)

        tunes = self.is_preparing and dtype == np.float32 and precision != "float32"
        product = self.blas.prepare(
            out, a, b, dtype=dtype, precision=precision, accumulate=accumulate,
            epilogue=epilogue, vector=vector,
            measure=(lambda p: self._seconds(stream, lambda: launch(p))) if tunes else None,
        )  # fmt: skip
        if product is None:
            return False
        if not self.is_preparing:
            check(launch(product))
        return True

    def tiles(self, matrix, rounds):
        """What a kernel takes of a matrix of which it copies tiles."""
        return tile_map(matrix, rounds)

    def _seconds(self, stream, launch):
        """Of launches in a graph, the fewest of some tries; infinite if one fails."""
        events = [self.cupy.cuda.Event() for _ in range(TIMED_GRAPHS + 1)]
        failed = []
        with stream:
            graph = self._captured(
                stream, lambda: failed.extend(launch() for _ in range(TIMED_LAUNCHES))
            )
            if any(failed):
                return float("inf")
            graph.launch(stream)  # warms up
            events[0].record(stream)
            for event in events[1:]:
                graph.launch(stream)
                event.record(stream)
            events[-1].synchronize()
        return min(self.cupy.cuda.get_elapsed_time(*pair) for pair in pairwise(events))

    def fork(self):
        """What follows `beside` comes after what was launched so far."""
        if self.is_preparing:
            return
        self.side = (self.side + 1) % N_SIDES
        self.forked.record(self.stream)
        self.sides[self.side].wait_event(self.forked)
        self.used.add(self.side)

    @contextmanager
    def beside(self):
        """Launch on another stream."""
        self.is_beside = True
        try:
            with self.sides[self.side]:
                yield
        finally:
            self.is_beside = False

    def join(self):
        """What follows comes after what was launched beside."""
        if self.is_preparing:
            return
        for side in self.used:
            self.side_ends[side].record(self.sides[side])
            self.stream.wait_event(self.side_ends[side])
        self.used.clear()

    def prepare(self, launch):
        """Launch nothing, but choose the algorithms of its products.

        Where factors are rounded anyway, that takes the fastest; what products write to is
        overwritten.
        """
        self.is_preparing = True
        try:
            launch()
        finally:
            self.is_preparing = False

    def capture(self, launch):
        """What ``launch`` launches as one function, or None if CUDA refuses."""
        self.synchronize()
        try:
            graph = self._captured(self.stream, launch)
            graph.upload(self.stream)
        except RuntimeError:  # as CuPy's own errors are
            return None
        return lambda: graph.launch(self.stream)

    def _captured(self, stream, launch):
        """The graph of what ``launch`` launches on a stream, which captures no more after it."""
        try:
            stream.begin_capture(self.cupy.cuda.runtime.streamCaptureModeThreadLocal)
            launch()
            return stream.end_capture()
        except BaseException:
            with suppress(RuntimeError):  # streams that an interrupt kept from being joined
                stream.end_capture()
            raise

    def record(self):
        """An event after all that was launched so far."""
        return self._record(self.stream)

    def _record(self, stream):
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def wait(self, event):
        """Have the host wait."""
        event.synchronize()

    def wait_for(self, event):
        """Have what follows on the device wait."""
        self.stream.wait_event(event)

    def synchronize(self):
        """Have the host wait for all that was launched, what an interrupt left beside, too."""
        self.join()
        self.stream.synchronize()
