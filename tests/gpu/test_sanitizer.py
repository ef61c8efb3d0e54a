"""The kernels' tests once more with GCC's sanitizers.

One sees reads out of bounds and at addresses that are not aligned, the other what threads of a
block read and write without a barrier in between, in whatever order they came.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .simulated import COMPILER

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Sanitizer:
    flags: str
    libraries: tuple
    options: dict


# a fiber's stack is not a thread's; CPython frees little of what it holds at its end
ADDRESS = Sanitizer(
    "-fsanitize=address,undefined",
    ("libasan.so", "libubsan.so"),
    {
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:halt_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1",
    },
)
# OpenBLAS is not built for ThreadSanitizer, which does not see how its own threads wait
THREAD = Sanitizer(
    "-fsanitize=thread",
    ("libtsan.so",),
    {
        "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1",
        "OPENBLAS_NUM_THREADS": "1",
    },
)
SWAP = """
__global__ void swap(int64_t* v) {
    SKNN_SHARED(int64_t, shared, 64);
    shared[threadIdx.x] = v[threadIdx.x];
    BARRIER
    v[threadIdx.x] = shared[threadIdx.x ^ 1];
}
"""
RUN_SWAP = """
import ctypes
import numpy as np
from tests.gpu.simulated import compiled
_, functions = compiled({text!r}, ("swap",))
v = np.arange(64)
address = ctypes.c_int64(v.ctypes.data)
assert functions["swap"](1, 64, (ctypes.c_void_p * 1)(ctypes.addressof(address)))
assert (v == np.arange(64) ^ 1).all()
"""


def run(sanitizer, *command):
    """Python with a sanitizer, in a process of its own."""
    if not sys.platform.startswith("linux"):
        pytest.skip("preloads a library")
    names = (*sanitizer.libraries, "libstdc++.so")
    paths = [
        subprocess.run(
            [COMPILER, f"-print-file-name={name}"], text=True, capture_output=True, check=True
        ).stdout.strip()
        for name in names
    ]
    if not all(os.path.isabs(path) for path in paths):
        pytest.skip("the compiler has no such sanitizer")
    # its addresses must be free, which a kernel that spreads its own widely may not leave
    fixed = ["setarch", "-R"]
    try:
        subprocess.run([*fixed, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        fixed = []
    environment = {
        **os.environ,
        **sanitizer.options,
        "PYTHONPATH": str(ROOT),
        "LD_PRELOAD": " ".join(paths),
        "SKNN_SIMULATED_FLAGS": f"-O1 -g {sanitizer.flags}",
    }
    return subprocess.run(
        [*fixed, sys.executable, *command],
        cwd=ROOT, env=environment, text=True, capture_output=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", [ADDRESS, THREAD], ids=["address", "thread"])
def test_no_report(compiler, sanitizer):
    folder = ROOT / "tests" / "gpu"
    files = [*sorted(folder.glob("test_*kernels.py")), folder / "test_product.py"]
    pytest_options = ["-q", "-p", "no:cacheprovider", "--capture=sys"]
    done = run(sanitizer, "-m", "pytest", *pytest_options, *map(str, files))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "passed" in done.stdout


@pytest.mark.parametrize("barrier", ["__syncthreads();", ""])
def test_a_missing_barrier_is_reported(compiler, barrier):
    """Also where the order of threads does no harm: pairs are in one warp."""
    text = SWAP.replace("BARRIER", barrier)
    done = run(THREAD, "-c", RUN_SWAP.format(text=text))
    if barrier:
        assert done.returncode == 0, done.stderr[-3000:]
    else:
        assert done.returncode != 0
        assert "data race" in done.stderr
