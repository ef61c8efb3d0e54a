"""What is said without a GPU, CuPy, or after a fork; streams and captures; how products are
described."""

import ctypes
import os
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest

from sknn import MLPClassifier
from sknn._kernels.gpu import blas, driver, hopper
from sknn._kernels.gpu.kernels import Epilogue, Matrix

from .simulated import Device
from .stub import CUDARuntimeError, Cupy, Stream

X, Y = np.zeros((10, 2)), np.arange(10) % 2


@pytest.fixture
def stub(monkeypatch):
    """A function that has the driver use a stub of CuPy in a process that never used CUDA."""

    def use(*arguments):
        cupy = Cupy(*arguments)
        monkeypatch.setattr(driver, "import_cupy", lambda: cupy)
        monkeypatch.setattr(driver, "_process", None)
        return cupy

    return use


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    model = MLPClassifier(device="cuda")
    with pytest.raises(ImportError, match=r"sknn\[cuda13\].*sknn\[cuda12\]"):
        model.fit(X, Y)
    assert not hasattr(model, "coefs_")


def test_without_a_gpu(stub):
    stub(None)
    with pytest.raises(RuntimeError, match=r"needs a GPU of NVIDIA.*cudaErrorNoDevice.*'cpu'"):
        MLPClassifier(device="cuda").fit(X, Y)


def test_without_that_gpu(stub):
    stub(2)
    with pytest.raises(RuntimeError, match=r"'cuda:7' was asked for.*2 GPUs.*cuda:0, cuda:1"):
        MLPClassifier(device="cuda:7").fit(X, Y)


def test_after_a_fork(stub, monkeypatch):
    """Devices were counted before, if nothing else."""
    stub(1)
    driver.check_device(0)
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    with pytest.raises(RuntimeError, match=r"forked.*loky"):
        MLPClassifier(device="cuda").fit(X, Y)


def test_after_a_fork_of_a_process_where_others_used_cuda(stub):
    stub(None, driver.INITIALIZATION_ERROR)
    with pytest.raises(RuntimeError, match=r"CUDA says.*forked.*loky"):
        MLPClassifier(device="cuda").fit(X, Y)


def test_importing_sknn_imports_no_cupy():
    code = "import sknn, sys; sknn.MLPClassifier(max_iter=1).fit([[0.0], [1]], [0, 1]); " \
           "sys.exit('cupy' in sys.modules)"  # fmt: skip
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


# ---- cuBLASLt, from a library that notes its calls ------------------------------------------


class Notes:
    """A library whose functions succeed and note their arguments."""

    def __init__(self, n_algorithms):
        self.n_algorithms, self.calls = n_algorithms, []

    def __getattr__(self, name):
        def function(*arguments):
            self.calls.append((name, arguments))
            if name == "cublasLtMatmulAlgoGetHeuristic":
                arguments[-1]._obj.value = self.n_algorithms
            return 0

        return function

    def named(self, name):
        return [arguments for called, arguments in self.calls if called == name]


@pytest.fixture
def products(monkeypatch):
    def make(n_algorithms):
        library = Notes(n_algorithms)
        monkeypatch.setattr(blas, "load_library", lambda: library)
        return blas.Blas([1, 2]), library

    return make


OUT, A, B = Matrix(64, 3, 5, 16), Matrix(128, 3, 7, 16), Matrix(192, 7, 5, 5)
KIND = {"dtype": np.dtype(np.float32), "precision": "tf32", "accumulate": False, "vector": 0}


def test_a_product_is_transposed(products):
    """out' = b' a', columns first."""
    made, library = products(1)
    product = made.prepare(OUT, A, B, epilogue=Epilogue.NONE, **KIND)
    shapes = [arguments[2:] for arguments in library.named("cublasLtMatrixLayoutCreate")]
    assert shapes == [(5, 7, 5), (7, 3, 16), (5, 3, 16)]
    assert library.named("cublasLtMatmulDescCreate")[0][1:] == (blas.COMPUTE_TYPES["tf32"], 0)
    assert made.launch(product, OUT, A, B, 0, 9, 1) == 0
    arguments = library.named("cublasLtMatmul")[0]
    assert (arguments[3], arguments[5], arguments[8], arguments[10]) == (192, 128, 64, 64)
    assert arguments[13:] == (2, blas.WORKSPACE_BYTES, 9)


def test_the_fastest_algorithm_is_taken(products):
    made, _ = products(3)
    first = made.prepare(OUT, A, B, epilogue=Epilogue.NONE, **KIND)
    seconds = iter([3.0, 1.0, 2.0])
    fastest = made.prepare(
        OUT, A, B, epilogue=Epilogue.NONE, measure=lambda product: next(seconds), **KIND
    )
    assert not first.is_fastest and fastest.is_fastest
    again = made.prepare(OUT, A, B, epilogue=Epilogue.NONE, measure=None, **KIND)
    assert again is fastest, "prepared once"


def test_no_algorithm(products):
    made, _ = products(0)
    assert made.prepare(OUT, A, B, epilogue=Epilogue.RELU, **KIND) is None
    with pytest.raises(RuntimeError, match="no product"):
        made.prepare(OUT, A, B, epilogue=Epilogue.NONE, **KIND)


def test_the_structure_of_an_algorithm():
    assert ctypes.sizeof(blas.Heuristic) == 96  # cublasLtMatmulHeuristicResult_t


def test_a_driver_without_tiles(monkeypatch):
    """What needs them is left to cuBLASLt."""
    old = type("library", (), {})
    monkeypatch.setattr(hopper.ctypes, "CDLL", lambda name: old)
    monkeypatch.setattr(hopper, "encoder", hopper.encoder.__wrapped__)
    assert hopper.load_functions.__wrapped__(0) == {}


# ---- streams and captures, of a stub of CuPy ------------------------------------------------


@pytest.fixture
def made(stub, products):
    """A driver of the second device."""
    products(1)
    stub(2)
    return driver.Driver(1)


def is_whole(made):
    """Whether the driver captures what forks to each side, as if there had been nothing before."""

    def launch():
        made.fork()
        made.join()

    with made.active():
        made.synchronize()
        return all(made.capture(launch) is not None for _ in made.sides)


def interrupted(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize("beside", [False, True])
def test_interrupt_while_products_are_timed(made, beside):
    """Nothing captures after it."""

    def launch():
        with made.beside() if beside else nullcontext():
            made.product(OUT, A, B, dtype=np.dtype(np.float32), precision="tf32")

    made.blas.library.cublasLtMatmul = interrupted
    with pytest.raises(KeyboardInterrupt), made.active():
        made.prepare(launch)
    assert is_whole(made)


@pytest.mark.parametrize("joins", [False, True])
def test_interrupt_while_a_graph_is_captured(made, joins):
    """It comes through, and the next graph is captured as any other."""

    def launch():
        made.fork()
        if joins:
            made.join()
        interrupted()

    with pytest.raises(KeyboardInterrupt), made.active():
        made.capture(launch)
    assert is_whole(made)


def test_interrupt_between_launches(made):
    """What it left beside is joined before a graph is captured."""
    with pytest.raises(KeyboardInterrupt), made.active():
        made.fork()
        interrupted()
    assert is_whole(made)


def test_a_refused_capture(made):
    def launch():
        made.fork()
        raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")

    with made.active():
        assert made.capture(launch) is None
    assert is_whole(made)


def test_pinned_memory_is_of_the_drivers_device(made):
    assert made.pinned(3, np.float64).shape == (3,)
    assert made.cupy.pinned == [1]


def test_arrays_of_the_caller(made):
    """The driver's stream waits for the caller's alone; what the caller gets is of its memory."""
    with Device(1):
        caller = Stream()
        with caller:
            array = made.cupy.empty((2, 3), np.float32)
            with made.active():
                assert made.to_device(array) is array
                assert made.stream.waits == [caller]
                assert made.empty_for_caller((2, 3), np.float32).stream is caller
                assert made.stream.waits == [caller, caller]
                assert made.empty((2, 3), np.float32).stream is made.stream
