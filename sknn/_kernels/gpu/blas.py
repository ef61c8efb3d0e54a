"""Matrix products by cuBLASLt, called by ctypes on a handle and workspaces of our own.

CuPy refuses its own products while a graph is captured. Here the workspace is given and the
algorithm chosen beforehand, so that a product is one launch and nothing else.
"""

import ctypes
import ctypes.util
from ctypes import (
    POINTER,
    byref,
    c_double,
    c_float,
    c_int,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import NamedTuple

import numpy as np

from sknn._kernels.gpu.kernels import Epilogue

WORKSPACE_BYTES = 32 << 20
ALIGNMENT = 16  # bytes, as all our matrices have
# algorithms that are timed where rounding may differ, and how often
N_CANDIDATES = 8

# names and numbers of cublasLt.h and library_types.h
DATA_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
COMPUTE_TYPES = {"float32": 68, "float64": 70, "bfloat16": 75, "tf32": 77}
TRANSPOSE_A, TRANSPOSE_B, EPILOGUE, VECTOR = 3, 4, 7, 8
MAX_WORKSPACE, MIN_ALIGNMENTS = 1, (5, 6, 7, 8)
EPILOGUES = {Epilogue.NONE: 1, Epilogue.BIAS: 4, Epilogue.RELU: 2 | 4}


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = [
        ("algorithm", c_uint64 * 8), ("workspace_bytes", c_size_t), ("status", c_int),
        ("waves", c_float), ("reserved", c_int * 4),
    ]  # fmt: skip


SIGNATURES = {
    "cublasLtCreate": [POINTER(c_void_p)],
    "cublasLtDestroy": [c_void_p],
    "cublasLtMatmulDescCreate": [POINTER(c_void_p), c_int, c_int],
    "cublasLtMatmulDescSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "cublasLtMatrixLayoutCreate": [POINTER(c_void_p), c_int, c_uint64, c_uint64, c_int64],
    "cublasLtMatmulPreferenceCreate": [POINTER(c_void_p)],
    "cublasLtMatmulPreferenceSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "cublasLtMatmulAlgoGetHeuristic": [
        c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int,
        POINTER(Heuristic), POINTER(c_int),
    ],
    "cublasLtMatmul": [
        c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p,
        c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p,
    ],
}  # fmt: skip


def find_library():
    """Path or name of cuBLASLt: of NVIDIA's packages, a toolkit, or the system.

    Raises
    ------
    OSError
        If there is none.
    """
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return load_nvidia_dynamic_lib("cublasLt").abs_path
    except (ImportError, RuntimeError):  # pathfinder's own error is a RuntimeError
        pass
    for name in ("libcublasLt.so.13", "libcublasLt.so.12", "cublasLt64_13.dll",
                 "cublasLt64_12.dll", ctypes.util.find_library("cublasLt")):  # fmt: skip
        if name is None:
            continue
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    raise OSError(
        "cuBLASLt was not found. Install it with CuPy: pip install 'sknn[cuda12]' or "
        "'sknn[cuda13]', by the CUDA version of your driver."
    )


def load_library():
    """cuBLASLt with the types of its functions."""
    library = ctypes.CDLL(find_library())
    for name, types in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, c_int
    return library


def check(status):
    if status:
        raise RuntimeError(f"cuBLASLt failed with status {status}.")


MISSING = object()


class Product(NamedTuple):
    """What is prepared for products of one kind and shape."""

    description: c_void_p
    layouts: tuple  # of the left factor, the right one and the result, all column-major
    algorithm: Heuristic
    one: object
    beta: object
    is_fastest: bool


class Blas:
    """A handle, its prepared products, and workspaces, one for each stream."""

    def __init__(self, workspaces):
        self.library = load_library()
        self.handle = c_void_p()
        check(self.library.cublasLtCreate(byref(self.handle)))
        self.workspaces = workspaces
        self.products = {}

    def prepare(self, out, a, b, *, dtype, precision, accumulate, epilogue, vector, measure=None):
        """Choose an algorithm for a kind and shape of product.

        Parameters
        ----------
        measure : callable, default=None
            Of a `Product` makes seconds: the fastest algorithm is taken rather than the one
            that cuBLASLt thinks best, which may take twice as long.

        Returns
        -------
        product : Product or None
            None if cuBLASLt has no algorithm with this epilogue.
        """
        key = (
            *(m[1:] for m in (out, a, b)), dtype, precision, bool(accumulate), epilogue,
        )  # fmt: skip
        product = self.products.get(key, MISSING)
        if product is MISSING or (product and measure and not product.is_fastest):
            found = self._candidates(out, a, b, dtype, precision, accumulate, epilogue, vector)
            product = found[0] if found else None
            if measure and found:
                seconds = [measure(candidate) for candidate in found]
                product = found[seconds.index(min(seconds))]._replace(is_fastest=True)
            self.products[key] = product
        return product

    def launch(self, product, out, a, b, vector, stream, workspace):
        """Launch a prepared product; its status, 0 if all is well."""
        if vector:
            self._set(product.description, VECTOR, c_void_p(vector))
        # row-major matrices are column-major ones transposed: out' = b' a'
        left, right, result = product.layouts
        return self.library.cublasLtMatmul(
            self.handle, product.description, byref(product.one), b.address, left, a.address,
            right, byref(product.beta), out.address, result, out.address, result,
            byref(product.algorithm), self.workspaces[workspace], WORKSPACE_BYTES, stream,
        )  # fmt: skip

    def _set(self, description, attribute, value):
        check(self.library.cublasLtMatmulDescSetAttribute(
            description, attribute, byref(value), ctypes.sizeof(value)
        ))  # fmt: skip

    def _layout(self, matrix, dtype):
        """Of a matrix as stored, with rows and columns exchanged."""
        layout = c_void_p()
        check(self.library.cublasLtMatrixLayoutCreate(
            byref(layout), DATA_TYPES[dtype], matrix.columns, matrix.rows,
            max(matrix.stride, matrix.columns),
        ))  # fmt: skip
        return layout

    def _preference(self):
        """Limits on algorithms: the workspace, and what addresses are multiples of."""
        preference = c_void_p()
        check(self.library.cublasLtMatmulPreferenceCreate(byref(preference)))
        limits = {MAX_WORKSPACE: c_uint64(WORKSPACE_BYTES)}
        limits |= dict.fromkeys(MIN_ALIGNMENTS, c_uint32(ALIGNMENT))
        for attribute, value in limits.items():
            check(self.library.cublasLtMatmulPreferenceSetAttribute(
                preference, attribute, byref(value), ctypes.sizeof(value)
            ))  # fmt: skip
        return preference

    def _candidates(self, out, a, b, dtype, precision, accumulate, epilogue, vector):
        """Products with cuBLASLt's algorithms, what it thinks best first."""
        single = dtype == np.float32
        description = c_void_p()
        compute = COMPUTE_TYPES[precision if single else "float64"]
        check(self.library.cublasLtMatmulDescCreate(
            byref(description), compute, DATA_TYPES[dtype]
        ))  # fmt: skip
        self._set(description, TRANSPOSE_A, c_int(b.transposed))
        self._set(description, TRANSPOSE_B, c_int(a.transposed))
        self._set(description, EPILOGUE, c_int(EPILOGUES[epilogue]))
        if vector:
            self._set(description, VECTOR, c_void_p(vector))
        layouts = left, right, result = tuple(self._layout(m, dtype) for m in (b, a, out))
        found, n_found = (Heuristic * N_CANDIDATES)(), c_int()
        status = self.library.cublasLtMatmulAlgoGetHeuristic(
            self.handle, description, left, right, result, result, self._preference(),
            N_CANDIDATES, found, byref(n_found),
        )  # fmt: skip
        number = c_float if single else c_double
        products = [
            Product(description, layouts, algorithm, number(1), number(bool(accumulate)), False)
            for algorithm in found[: n_found.value]
            if algorithm.status == 0
        ]
        if not products and epilogue == Epilogue.NONE:
            raise RuntimeError(f"cuBLASLt has no product of {a} and {b} (status {status}).")
        return products
