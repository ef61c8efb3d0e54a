"""The kernels' tests once more with GCC's sanitizers, which see reads out of bounds too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .simulated import COMPILER

ROOT = Path(__file__).parent.parent.parent
LIBRARIES = ("libasan.so", "libubsan.so", "libstdc++.so")
# a fiber's stack is not a thread's; CPython frees little of what it holds at its end
OPTIONS = "detect_leaks=0:detect_stack_use_after_return=0:halt_on_error=1"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="preloads a library")
def test_no_report(compiler):
    paths = [
        subprocess.run(
            [COMPILER, f"-print-file-name={name}"], text=True, capture_output=True, check=True
        ).stdout.strip()
        for name in LIBRARIES
    ]
    if not all(os.path.isabs(path) for path in paths):
        pytest.skip("the compiler has no sanitizers")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--capture=sys",
         *map(str, sorted((ROOT / "tests" / "gpu").glob("test_*kernels.py")))],
        cwd=ROOT, text=True, capture_output=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LD_PRELOAD": " ".join(paths),
            "ASAN_OPTIONS": OPTIONS,
            "UBSAN_OPTIONS": "halt_on_error=1",
            "SKNN_SIMULATED_FLAGS": "-O1 -g -fsanitize=address,undefined",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "passed" in done.stdout
