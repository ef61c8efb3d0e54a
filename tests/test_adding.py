"""docs/adding.md is true: an activation, a loss, an optimizer and a layer are added as it says,
to a copy of the project that is thrown away, and the copy's own tests take them up."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOC = (ROOT / "docs" / "adding.md").read_text()

LOG_COSH = """
struct LogCosh {
    template<class T> static SKNN_FN T link(T z) { return z; }
    template<class T> static SKNN_FN T value(T y, T p) {
        T d = magnitude(y - p);
        return d + log(T(0.5) + T(0.5) * exp(T(-2) * d));
    }
    template<class T> static SKNN_FN T gradient(T y, T p) { return Tanh::value(p - y); }
};
"""
RMS_PROP = """
template<class T> struct RmsProp {
    static constexpr int n_slots = 1;
    T learning_rate, decay, epsilon, scale;
    template<class V> SKNN_FN void operator()(V& p, V g, V& square) const {
        const V mean = scale * g;
        square = decay * square + (T(1) - decay) * (mean * mean);
        p -= quotient(learning_rate * mean, root(square) + epsilon);
    }
};
"""
RMS_PROP_UPDATE = """
cdef double rms_prop_update(const Update* u, floating* p, const floating* g, floating** slots,
                            Py_ssize_t n) noexcept nogil:
    cdef RmsPropStep[floating] step
    step.learning_rate = <floating>u.learning_rate
    step.decay = <floating>u.coefficients[0]
    step.epsilon = <floating>u.coefficients[1]
    step.scale = <floating>(1 / u.weight_sum)
    return update(step, p, g, slots[0], slots[1], <floating>u.decay, n)

TABLE.update32[<int>RMS_PROP] = rms_prop_update[float]
TABLE.update64[<int>RMS_PROP] = rms_prop_update[double]
"""
REFERENCE = """

def softsign(x):
    y = x / (1 + abs(x))
    return y, (1 - abs(y)) ** 2


def log_cosh(z, y):
    return z, np.log(np.cosh(y - z)).sum(axis=1)


def rms_prop(p, g, slots, learning_rate, coefficients):
    decay, epsilon = coefficients
    square = decay * slots[0] + (1 - decay) * g**2
    return p - learning_rate * g / (np.sqrt(square) + epsilon), [square]
"""
OPTIMIZER = """
class RmsProp(Optimizer):
    opcode = OptimizerEnum.RMS_PROP

    def __init__(self, parameters, schedule, decay, epsilon):
        super().__init__(parameters, schedule)
        self.coefficients = (decay, epsilon)


def make_optimizer(estimator, parameters):
    if estimator.solver == "rms_prop":
        schedule = schedules.Constant(estimator.learning_rate_init)
        return RmsProp(parameters, schedule, 0.9, estimator.epsilon)
    return make_usual_optimizer(estimator, parameters)
"""
LAYER = """

class Bottleneck(Layer):
    def __init__(self, narrow, wide):
        self.narrow, self.wide = narrow, wide

    def emit(self, builder, x, name):
        return Dense(self.wide, "softsign").emit(
            builder, Dense(self.narrow).emit(builder, x, f"{name}.narrow"), f"{name}.wide")
"""
USE = """
from sklearn.datasets import load_iris
from sknn import MLPClassifier, MLPRegressor
from sknn.layers import Bottleneck, Dense, sequential
from sknn.losses import REGRESSION
X, y = load_iris(return_X_y=True)
for solver in ("rms_prop", "adam"):
    net = MLPClassifier(activation="softsign", solver=solver, learning_rate_init=0.01)
    assert net.fit(X, y).score(X, y) > 0.9, solver
for loss in ("squared_error", "log_cosh"):  # the same link, and each its own op
    net = MLPRegressor(loss, solver="lbfgs", max_iter=500, random_state=0).fit(X, y)
    assert net.score(X, y) > 0.9 and loss.upper() in str(net._program()), loss
print(sequential((4,), (Bottleneck(2, 8), Dense(1)), REGRESSION["log_cosh"]))
"""


def after(path, anchor, text):
    """Insert text behind the first line that holds an anchor."""
    lines = path.read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if anchor in line)
    path.write_text("".join([*lines[: at + 1], text + "\n", *lines[at + 1 :]]))


def append(path, text):
    path.write_text(path.read_text() + text)


def add_everything(root):
    kernels = root / "sknn" / "_kernels"
    softsign = re.search(r"struct Softsign(?:.|\n)*?\n   };", DOC)[0]
    formulas = kernels / "formulas.h"
    text = formulas.read_text().replace(
        "struct Relu {", softsign.replace("\n   ", "\n") + "\n\nstruct Relu {"
    )
    text = text.replace("struct SquaredError {", LOG_COSH + "\nstruct SquaredError {")
    formulas.write_text(text.replace("// ---- random numbers", RMS_PROP + "\n// ---- random"))

    after(kernels / "ops.pxd", "    RELU", "    SOFTSIGN")
    after(kernels / "ops.pxd", "    POISSON_DEVIANCE", "    LOG_COSH")
    after(kernels / "ops.pxd", "    ADAM", "    RMS_PROP")

    activation, loss = kernels / "cpu" / "activation.pxi", kernels / "cpu" / "loss.pxi"
    after(activation, "cppclass Relu", "    cppclass Softsign")
    after(activation, "[<int>RELU]", "ACTIVATIONS[<int>SOFTSIGN] = activation[Softsign]()")
    after(loss, "cppclass PoissonDeviance", "    cppclass LogCosh")
    append(loss, "add(LOG_COSH, elementwise_loss[LogCosh]())\n")
    optimizer = kernels / "cpu" / "optimizer.pxi"
    declaration = (
        '    cppclass RmsPropStep "sknn::RmsProp" [T]:\n'
        "        T learning_rate, decay, epsilon, scale"
    )
    after(optimizer, "root_part, epsilon", declaration)
    append(optimizer, RMS_PROP_UPDATE)

    after(
        root / "sknn" / "losses.py",
        '"poisson": Loss',
        '    "log_cosh": Loss(Opcode.LOG_COSH, "identity"),',
    )
    python = root / "sknn" / "optimizers.py"
    python.write_text(python.read_text().replace("def make_opt", "def make_usual_opt"))
    append(python, OPTIMIZER)
    append(root / "sknn" / "layers.py", LAYER)
    append(root / "tests" / "reference.py", REFERENCE)
    made = "optimizers.RmsProp(p, schedules.Constant({}), 0.9, 1e-8),"
    tests = root / "tests" / "kernels"
    after(
        tests / "test_optimizer.py", '"adam": ', '    "rms_prop": lambda p: ' + made.format(0.01)
    )
    after(
        tests / "test_steps_csr.py",
        '"adam": ',
        '    "rms_prop": lambda p, rate: ' + made.format("rate"),
    )


@pytest.mark.slow
def test_adding(tmp_path):
    for name in ("sknn", "tests", "docs", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("*.so", "*.cpp", "__pycache__")
            shutil.copytree(source, tmp_path / name, ignore=ignore)
        else:
            shutil.copy(source, tmp_path / name)
    add_everything(tmp_path)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run("setup.py", "build_ext", "--inplace", "--parallel", "2")
    tests = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels",
                "tests/test_layout.py")  # fmt: skip
    assert "passed" in tests
    assert "softsign" in run("-m", "pytest", "--collect-only", "-q", "tests/kernels")
    assert "DENSE" in run("-c", USE)
