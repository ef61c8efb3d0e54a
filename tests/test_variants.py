"""The kernels as compiled for every instruction set that this processor runs."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import scipy
import sklearn

import sknn
from sknn._compat import effective_n_threads, scipy_blas_libraries
from sknn._kernels.cpu import variant

ROOT = Path(__file__).parent.parent


def run(name, *arguments):
    environment = {**os.environ, variant.VARIABLE: name}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_kernels_of_every_variant():
    """But for the best one, with which all other tests run; as many at once as cores."""
    others = [name for name in variant.runnable() if name != variant.chosen()]
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels")
    with ThreadPoolExecutor(effective_n_threads()) as pool:
        results = list(pool.map(lambda name: run(name, *command), others))
    for name, done in zip(others, results, strict=True):
        assert done.returncode == 0, f"{name}: {done.stdout[-3000:]}"
        assert "passed" in done.stdout


@pytest.mark.parametrize("name", variant.runnable())
def test_a_variant_can_be_forced(name):
    code = "import sknn; from sknn._kernels.cpu import executor; sknn.show_versions()"
    done = run(name, "-c", code)
    assert f"CPU variant: {name}, forced by {variant.VARIABLE}" in done.stdout


def test_an_unknown_variant_is_refused():
    done = run("v9", "-c", "import sknn")
    assert "SKNN_CPU_VARIANT='v9' is not one of the variants" in done.stderr


def test_show_versions(capsys):
    sknn.show_versions()
    shown = capsys.readouterr().out
    for text in (
        f"version: {sknn.__version__}",
        f"CPU variant: {variant.chosen()}",
        f"threads: at most {effective_n_threads()} of",
        f"sklearn: {sklearn.__version__}",
        f"scipy: {scipy.__version__}",
    ):
        assert text in shown
    for library in scipy_blas_libraries():
        info = library.info()
        assert f"BLAS: {info['internal_api']} {info['version']}" in shown
        assert f"threads: {info['num_threads']} ({info['filepath']})" in shown
