"""Every kernel compiles for the GPUs we name, where NVIDIA's compiler is installed."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from sknn._kernels.gpu.hopper import CAPABILITY
from sknn._kernels.gpu.source import (
    CUDA_PRELUDE,
    hopper_names,
    hopper_source,
    kernel_names,
    source,
)
from sknn._kernels.ops import Activation, Opcode, Optimizer

# one with machine code, which takes twice as long; the others' in the slow tier
SLOW_ARCHITECTURES = [pytest.param(a, marks=pytest.mark.slow) for a in ("sm_75", "sm_90")]
DTYPES = (np.float32, np.float64)


@pytest.fixture(scope="module")
def nvrtc():
    """CuPy's NVRTC, which needs no device."""
    message = "NVRTC is not installed: pip install cupy-cuda12x nvidia-cuda-nvrtc-cu12"
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason=message)
    try:
        nvrtc.getVersion()
    except RuntimeError:
        pytest.skip(message)
    return nvrtc


@pytest.mark.parametrize(
    "architecture", ["compute_75", "sm_80", "compute_90", *SLOW_ARCHITECTURES]
)
def test_nvrtc(nvrtc, architecture):
    names = {name for dtype in DTYPES for name in kernel_names(dtype)}
    program = nvrtc.createProgram(CUDA_PRELUDE + source(), "kernels.cu", [], [])
    for name in names:
        nvrtc.addNameExpression(program, name)
    try:
        nvrtc.compileProgram(program, ["--std=c++17", f"-arch={architecture}"])
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    assert len({nvrtc.getLoweredName(program, name) for name in names}) == len(names)


def test_nvrtc_of_tensor_cores(nvrtc):
    program = nvrtc.createProgram(CUDA_PRELUDE + hopper_source(), "hopper.cu", [], [])
    for name in hopper_names():
        nvrtc.addNameExpression(program, name)
    options = ["--std=c++17", f"-arch=sm_{CAPABILITY}a", "--ptxas-options=-v"]
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    spills = re.findall(r"(\d+) bytes spill stores", nvrtc.getProgramLog(program))
    assert spills == ["0"] * len(hopper_names())


@pytest.mark.parametrize("architecture", ["sm_80", *SLOW_ARCHITECTURES])
def test_nvcc_spills_nothing(tmp_path, architecture):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    names = sorted({name for dtype in DTYPES for name in kernel_names(dtype)})
    uses = "".join(
        f"template __global__ decltype({name}) {name};\n" for name in names if "<" in name
    )
    path = tmp_path / "kernels.cu"
    path.write_text(CUDA_PRELUDE + source() + uses)
    done = subprocess.run(
        [nvcc, "-std=c++17", f"-arch={architecture}", "-Xptxas", "-v", "-cubin", "-o",
         str(tmp_path / "kernels.cubin"), str(path)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spilled = [n for n in re.findall(r"(\d+) bytes spill stores", done.stderr) if n != "0"]
    assert not spilled, done.stderr


def test_every_formula_has_a_kernel():
    names = "".join(kernel_names(np.float32))
    for activation in Activation:
        assert f"activation_gradient<sknn::{activation.name.capitalize()}," in names
    for optimizer in Optimizer:
        words = "".join(word.capitalize() for word in optimizer.name.split("_"))
        assert f"update<sknn::{words}<float>" in names
    for opcode in Opcode:
        words = "".join(word.capitalize() for word in opcode.name.split("_"))
        if f"struct {words} " in source():  # elementwise: a formula
            assert f"elementwise_loss<sknn::{words}," in names
