"""The kernels as compiled for every instruction set that this processor runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sknn._kernels.cpu import variant

ROOT = Path(__file__).parent.parent


def run(name, *arguments):
    environment = {**os.environ, variant.VARIABLE: name}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", variant.runnable())
def test_kernels_of_a_variant(name):
    done = run(name, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


@pytest.mark.parametrize("name", variant.runnable())
def test_a_variant_can_be_forced(name):
    done = run(name, "-c", "from sknn._kernels.cpu import variant; print(variant.chosen())")
    assert done.stdout.strip() == name


def test_an_unknown_variant_is_refused():
    done = run("v9", "-c", "import sknn")
    assert "SKNN_CPU_VARIANT='v9' is not one of the variants" in done.stderr
