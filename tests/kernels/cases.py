"""Programs that between them have every opcode, and guarded memory to run them in."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from sknn import losses
from sknn._kernels.cpu import executor
from sknn._kernels.ops import Activation as ActivationEnum
from sknn._kernels.ops import Phase
from sknn._lowering import lower_for_cpu
from sknn._validation import prepare_X
from sknn.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    MaxPool,
    Residual,
    sequential,
)

GUARD = 64  # elements before and after each buffer, of this value
SENTINEL = 7
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


@dataclass
class Case:
    """A network with data."""

    loss: losses.Loss
    activation: str
    sizes: tuple  # features, hidden layers, outputs
    sparse: bool
    seed: int = 0

    @property
    def logical(self):
        """The program before any lowering."""
        *_, n_outputs = self.sizes
        hidden = (Dense(units, self.activation) for units in self.sizes[1:-1])
        return sequential((self.sizes[0],), (*hidden, Dense(n_outputs)), self.loss)

    @property
    def program(self):
        """The CPU's, of training."""
        return lower_for_cpu(self.logical, self.sparse)

    @property
    def predicts(self):
        """The program of predictions."""
        return self.program

    def parameters(self):
        """A float64 vector, with units' sums away from the kink of a rectifier."""
        rng = np.random.default_rng(self.seed)
        vector = np.zeros(self.program.n_parameters)
        for view in self.program.views(vector):
            view[...] = rng.uniform(-1, 1, view.shape) / np.sqrt(len(view))
        return vector

    def data(self, n):
        """X (dense or CSR) of float64, targets and weights."""
        rng = np.random.default_rng(self.seed + 1)
        X = rng.uniform(-1, 1, (n, self.sizes[0]))
        if self.sparse:
            X[rng.uniform(size=X.shape) < 0.6] = 0
            X = sparse.csr_array(X)
        n_outputs = self.sizes[-1]
        y = rng.poisson(1.0, (n, n_outputs)).astype(float)
        if self.loss is losses.SOFTMAX_LOG_LOSS:
            y = rng.integers(n_outputs, size=n).astype(np.int32)
        elif self.loss is losses.SIGMOID_LOG_LOSS:
            y = np.minimum(y, 1)
        return X, y, rng.uniform(0.5, 2, n)

    def __str__(self):
        form = "csr" if self.sparse else "dense"
        sizes = "-".join(map(str, self.sizes))
        return f"{self.loss.name}-{self.activation}-{sizes}-{form}"


@dataclass
class NetworkCase(Case):
    """A network of any layers; ``sizes`` are its features and its outputs."""

    shape: tuple = ()
    layers: tuple = ()

    @property
    def logical(self):
        return sequential(self.shape, (*self.layers, Dense(self.sizes[-1])), self.loss)

    @property
    def predicts(self):
        return lower_for_cpu(self.logical, self.sparse, Phase.PREDICT)

    def state(self):
        """Running statistics as of some training; variances are positive."""
        rng = np.random.default_rng(self.seed + 2)
        return rng.uniform(0.5, 1.5, self.program.n_state)

    def parameters(self):
        vector = super().parameters()
        for name, view in zip(self.program.names, self.program.views(vector), strict=True):
            if name.endswith(".scales"):
                view += 1.5
        return vector

    def __str__(self):
        return "-".join(type(layer).__name__.lower() for layer in self.layers)


def network(shape, *layers, loss=losses.SOFTMAX_LOG_LOSS, n_outputs=3):
    sizes = (int(np.prod(shape)), n_outputs)
    return NetworkCase(loss, "", sizes, sparse=False, shape=shape, layers=layers)


def network_cases():
    """Tables, signals and images through every kind of layer."""
    mse = losses.REGRESSION["squared_error"]
    yield network((5,), Dense(17), BatchNorm(), Activation("tanh"), Dense(4, "relu"))
    yield network((5,), BatchNorm(), Dense(3, "logistic"), BatchNorm(0.3, 1e-3), loss=mse)
    yield network((4,), Dense(9), LayerNorm(), Activation("relu"), Dense(2, "tanh"))
    yield network((1,), LayerNorm(), Activation("logistic"), BatchNorm(), n_outputs=2)
    yield network((7,), Dense(33, "tanh"), Dropout(0.4), Dense(5, "relu"), Dropout(0.1))
    yield network((6,), Dropout(0.2), Dense(6), Residual([Dense(6, "tanh")]), Activation("relu"))
    yield network((3,), Residual([Activation("tanh"), Residual([Dense(5)])]), loss=mse)
    yield network((4,), Concatenate([Dense(3, "relu"), [Dense(2), BatchNorm()], Dense(18)]))
    yield network((5, 2), LayerNorm(), BatchNorm(), Activation("tanh"), loss=mse)
    yield network((3, 4, 5), BatchNorm(), Dropout(0.3, spatial=True), Residual([LayerNorm()]))
    yield network((2, 3, 17), Concatenate([BatchNorm(), LayerNorm()]), Flatten(), loss=mse)
    yield network((6, 7, 2), Conv(5, activation="tanh"), MaxPool(), Conv(4, 2), Flatten())
    yield network((5, 6, 1), Conv(17, activation="relu"), MaxPool(), Dense(3, "tanh"))
    yield network((5, 4, 3), Conv(4), MaxPool(padding="same"), Residual([Conv(4, strides=1)]))
    yield network((9, 3), Conv(4, 5, strides=2, activation="tanh"), AveragePool(3, strides=1))
    yield network((4, 4, 4), Conv(8, groups=2, dilation=2), BatchNorm(), GlobalAveragePool())
    yield network((2, 5, 4), Conv(4, groups=4), Conv(5, activation="relu"), MaxPool(), loss=mse)
    yield from residual_cases()


def residual_cases():
    """Branches that are added, with normalisations in them."""
    relu, tanh = Activation("relu"), Activation("tanh")
    branch = Residual([Conv(4), BatchNorm(), relu, Conv(4), BatchNorm()])
    yield network((4, 3, 2), Conv(4), BatchNorm(), relu, branch, relu, branch, relu)
    yield network((4, 3, 2), Residual([Conv(17, strides=2), BatchNorm()]), tanh, BatchNorm())
    yield network((3, 2, 5), Residual([BatchNorm()]), Residual([Residual([BatchNorm()])]), relu)
    yield network((5,), Residual([Dense(5, "tanh"), BatchNorm()]), Residual([BatchNorm()]))


def all_cases():
    """Every loss and every activation, dense and sparse, in odd shapes."""
    shapes = [(1, 1), (3, 1, 2), (5, 17, 3), (2, 33, 7, 4)]
    for loss in losses.LOSSES:
        for i, activation in enumerate(ActivationEnum):
            for is_sparse in (False, True):
                sizes = shapes[(i + is_sparse) % len(shapes)]
                yield Case(loss, activation.name.lower(), sizes, is_sparse)


class GuardedMemory:
    """Allocates what an executor asks for, poisoned between sentinels."""

    def __init__(self):
        self.buffers = []

    def allocate(self, n, dtype):
        size = n + 2 * GUARD
        raw = np.empty(size * dtype.itemsize + 64, np.uint8)
        start = -raw.ctypes.data % 64
        whole = raw[start : start + size * dtype.itemsize].view(dtype)
        whole[:] = np.nan if dtype.kind == "f" else np.iinfo(dtype).max
        whole[:GUARD] = whole[-GUARD:] = SENTINEL
        self.buffers.append(whole)
        return whole[GUARD:-GUARD]

    def copy(self, vector):
        """A vector that stands between sentinels."""
        guarded = self.allocate(vector.size, vector.dtype)
        guarded[:] = vector
        return guarded

    def check(self):
        assert self.buffers
        for whole in self.buffers:
            assert (whole[:GUARD] == SENTINEL).all(), "written before a buffer"
            assert (whole[-GUARD:] == SENTINEL).all(), "written past a buffer"


def as_dtype(case, X, y, dtype):
    """Data as an executor of this dtype takes them."""
    if isinstance(y, np.ndarray) and y.dtype != np.int32:
        y = np.ascontiguousarray(y, dtype=dtype)
    return prepare_X(X if case.sparse else X.astype(dtype), np.dtype(dtype)), y


def poisoned(case, memory, dtype):
    """A gradient vector that holds NaN wherever a parameter is, to be overwritten."""
    gradient = memory.copy(np.zeros(case.program.n_parameters, dtype))
    for view in case.program.views(gradient):
        view[...] = np.nan
    return gradient


def make_executor(case, dtype, capacity, n_threads):
    return executor.Executor(case.program, dtype=dtype, capacity=capacity, n_threads=n_threads)


def gradient_of(memory, case, dtype, n, capacity, n_threads, weighted=True):
    """Loss and gradient by the executor."""
    X, y, weights = case.data(n)
    X, y = as_dtype(case, X, y, dtype)
    run = make_executor(case, dtype, capacity, n_threads)
    run.bind(X, y, weights if weighted else None, state=state_of(case, dtype))
    gradient = poisoned(case, memory, dtype)
    parameters = memory.copy(case.parameters().astype(dtype))
    loss = run.evaluate(parameters, gradient, np.arange(n))
    return loss, gradient


def state_of(case, dtype):
    """Running statistics, where the case has some."""
    return case.state().astype(dtype) if case.program.n_state else None
