"""What benchmarks/gpu_check.py checks, on the simulated device; and that it can fail."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sknn import ConvClassifier, MLPClassifier, MLPRegressor, losses
from sknn._kernels.gpu.hopper import CAPABILITY
from sknn.layers import BatchNorm, Dense, Dropout, sequential

from .simulated import Device, DeviceArray, SimulatedDriver

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import gpu_arrays
import gpu_sections

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def device(compiler, monkeypatch):
    """A function that has the sections use a simulated device."""

    def use(**options):
        device = SimulatedDriver(**options)
        device.device = SimpleNamespace(compute_capability=CAPABILITY)
        monkeypatch.setattr(gpu_sections, "take_driver", lambda index: device)
        monkeypatch.setattr(gpu_sections, "give_back", lambda driver: None)
        return device

    return use


@pytest.mark.filterwarnings("ignore:The CUDA graph could not be captured")
@pytest.mark.parametrize("captures", [True, False])
def test_graphs(device, captures):
    device(captures=captures)
    layers = Dense(7, "relu"), BatchNorm(), Dropout(0.1), Dense(3)
    program = sequential((5,), layers, losses.SOFTMAX_LOG_LOSS)
    X, y = gpu_sections.classification(40, 5, 3)
    row = gpu_sections.graphs_and_launches(program, X, y, 16, "float32")
    assert row == {"captured": captures, "ok": captures}


def test_gated_products(device, monkeypatch):
    """Kernels that do not compile are a failure, not products that nobody has to check."""
    monkeypatch.setattr(gpu_sections, "encoder", lambda: None)
    monkeypatch.setattr(gpu_sections, "compile_functions", lambda: {})
    monkeypatch.setattr(gpu_sections, "GATED_SHAPES", ((300, 66, 36), (140, 64, 20)))
    made = device()
    assert all(row["ok"] for row in gpu_sections.gated({}))

    def fail():
        raise RuntimeError("NVRTC")

    monkeypatch.setattr(gpu_sections, "compile_functions", fail)
    with pytest.raises(RuntimeError, match="NVRTC"):
        gpu_sections.gated({})
    made.device.compute_capability = "80"
    assert not any("ok" in row for row in gpu_sections.gated({}))


def test_curves(simulated, monkeypatch):
    """May differ by as much as they do on the CPU, of all tries the most."""
    X, y = gpu_sections.classification(100, 5, 3)
    model = MLPClassifier((9,), max_iter=3, random_state=0, dtype="float32")
    threads, curve = [], gpu_sections.loss_curve

    def noted(estimator, X, y, **options):
        threads.append(options.get("n_threads"))
        return curve(estimator, X, y, **options) * (1.001 if "dtype" in options else 1)

    monkeypatch.setattr(gpu_sections, "loss_curve", noted)
    row = gpu_sections.compare_curves(model, X, y)
    assert row["ok"] and row["most on the CPU"] == pytest.approx(1e-3, rel=1e-2)
    assert threads == [1, 2, 3, 4, 1, None]


@pytest.mark.parametrize("dtype", gpu_arrays.ELEMENT_TYPES)
@pytest.mark.parametrize(
    "model", [MLPClassifier((9,)), MLPRegressor(hidden_layer_sizes=(9,)), ConvClassifier((3,))]
)
def test_arrays(simulated, monkeypatch, model, dtype):
    """Of CuPy, for which a stand-in with two devices is enough."""
    simulated[1]["array"] = DeviceArray
    monkeypatch.setattr(gpu_arrays, "BUSY", 0)
    cupy = SimpleNamespace(
        ndarray=DeviceArray, ones=np.ones, asarray=lambda array: np.array(array).view(DeviceArray),
        cuda=SimpleNamespace(
            Device=Device, Stream=lambda non_blocking: nullcontext(),
            runtime=SimpleNamespace(getDeviceCount=lambda: 2),
        ),
    )  # fmt: skip
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1)).astype(dtype)
    X = images if isinstance(model, ConvClassifier) else images.reshape(40, -1)
    model.set_params(max_iter=2, random_state=0)
    row = gpu_arrays.compare_arrays(cupy, model, X, np.arange(40) % 3)
    assert row["ok"], row
