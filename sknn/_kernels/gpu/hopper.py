"""What compute capability 9.0 has besides: kernels for its tensor cores, and maps of tiles.

CuPy compiles for all of 9, without what only 9.0 has, so this asks NVRTC itself.
"""

import ctypes
import os
import tempfile
from ctypes import byref, c_int, c_uint32, c_uint64, c_void_p
from functools import cache, partial
from pathlib import Path

import numpy as np

from sknn._kernels.gpu.source import CUDA_PRELUDE, hopper_names, hopper_source

# compute capability, as CuPy says it
CAPABILITY = "90"
# TileMap of tensor_cores.h: rows and columns of a tile, and dynamic shared memory of a kernel
TILE_ROWS, TILE_COLUMNS = 128, 32
SHARED_BYTES = 3 * 2 * TILE_ROWS * TILE_COLUMNS * 4 + 32
TILE_MAP_DTYPE = np.dtype([("words", "u8", 16)])

# names and numbers of cuda.h
FLOAT32, TFLOAT32 = 7, 11
NOT_INTERLEAVED, SWIZZLE_128_BYTES, PROMOTE_TO_256_BYTES, ZEROS_OUTSIDE = 0, 3, 3, 0


@cache
def load_functions(index):
    """The kernels by name, on one device; none where NVRTC or the driver is too old for them."""
    try:
        encoder()
        return compile_functions()
    except (AttributeError, OSError, RuntimeError):
        return {}


def compile_functions():
    """The kernels by name, on the current device."""
    import cupy
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(CUDA_PRELUDE + hopper_source(), "hopper.cu", [], [])
    try:
        for name in hopper_names():
            nvrtc.addNameExpression(program, name)
        try:
            nvrtc.compileProgram(program, ["--std=c++17", f"-arch=sm_{CAPABILITY}a"])
        except nvrtc.NVRTCError as error:
            raise RuntimeError(nvrtc.getProgramLog(program)) from error
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hopper.cubin"
            path.write_bytes(nvrtc.getCUBIN(program))
            module = cupy.RawModule(path=str(path))
            functions = {
                name: module.get_function(nvrtc.getLoweredName(program, name))
                for name in hopper_names()
            }
    finally:
        nvrtc.destroyProgram(program)
    for function in functions.values():
        function.max_dynamic_shared_size_bytes = SHARED_BYTES
    return {name: partial(f, shared_mem=SHARED_BYTES) for name, f in functions.items()}


@cache
def encoder():
    """The function of the driver that makes maps."""
    library = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    function = library.cuTensorMapEncodeTiled
    pointers = [c_void_p, *[ctypes.POINTER(c_uint64)] * 2, *[ctypes.POINTER(c_uint32)] * 2]
    function.argtypes = [c_void_p, c_int, c_uint32, *pointers, *[c_int] * 4]
    return function


def tile_map(matrix, rounds):
    """A matrix of float32 of which kernels copy tiles.

    Parameters
    ----------
    matrix : Matrix
        At an address and with rows apart that are multiples of 16 bytes.
    rounds : bool
        Whether a copy rounds numbers to those that tensor cores take.
    """
    words = np.zeros(24, np.uint64)  # of which 16 begin at a multiple of 64 bytes
    first = -words.ctypes.data % 64 // 8
    status = encoder()(
        words.ctypes.data + 8 * first, TFLOAT32 if rounds else FLOAT32, 2, matrix.address,
        (c_uint64 * 2)(matrix.columns, matrix.rows), byref(c_uint64(matrix.stride * 4)),
        (c_uint32 * 2)(TILE_COLUMNS, TILE_ROWS), (c_uint32 * 2)(1, 1), NOT_INTERLEAVED,
        SWIZZLE_128_BYTES, PROMOTE_TO_256_BYTES, ZEROS_OUTSIDE,
    )  # fmt: skip
    if status:
        raise RuntimeError(f"CUDA made no tiles of {matrix}: status {status}.")
    record = np.zeros((), TILE_MAP_DTYPE)
    record["words"] = words[first : first + 16]
    return record
