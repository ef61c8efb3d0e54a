"""Which device trains and predicts, and CuPy arrays at the door.

CuPy is imported only when a GPU is asked for.
"""

import re
import weakref
from importlib.util import find_spec

import numpy as np

from sknn._compat import _check_n_features, _check_y
from sknn._kernels.cpu.executor import Executor, predict
from sknn._kernels.ops import Phase
from sknn._lowering import fold_normalizations, lower_for_cpu, read_csr
from sknn._validation import CSR, READ_IN_PLACE, is_on_gpu, to_host

# bytes of X that are on the device at once in a prediction
BLOCK_BYTES = 1 << 30
# Operations of a prediction for a NumPy X that the CPU has done before a GPU has begun
FEW_FLOPS = 1e8
# rows at once of a prediction, or of a loss over all rows: on the CPU memory grows with more
# and speed does not; a GPU has to be filled
EVALUATE_ROWS = 1024
GPU_ROWS = 1 << 14


def parse_device(device):
    """The number of the GPU that ``device`` names, None for the CPU.

    Raises
    ------
    ValueError
        If it is no name of a device.
    """
    if device == "cpu":
        return None
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise ValueError(
            f"device must be None, 'cpu', 'cuda' or 'cuda:N' with the number of a GPU, "
            f"but is {device!r}."
        )
    return int(match[1] or 0)


def choose_device(device, X):
    """The GPU that trains, None for the CPU; ``device=None`` follows X.

    Raises
    ------
    ValueError
        If the device cannot take X.
    ImportError, RuntimeError
        If there is no CuPy or no such GPU; says what to do.
    """
    index = parse_device("cpu" if device is None else device)
    refuse_sparse_of_device(X)
    if is_on_gpu(X):
        if device == "cpu":
            raise ValueError(
                "X is a CuPy array, but device='cpu'. Give NumPy's, cupy.asnumpy(X), or set "
                "device to None or 'cuda'."
            )
        index = X.device.id
    if index is None:
        return None
    from sknn._kernels.gpu.driver import check_device

    check_device(index)
    return index


def refuse_sparse_of_device(X):
    """Refuse CuPy's sparse matrices."""
    if type(X).__module__.partition(".")[0] == "cupyx":
        raise ValueError(
            "X is a sparse matrix of CuPy's. Give SciPy's, X.get(), which a GPU trains on, too, "
            "or a dense X.toarray()."
        )


def predicting_device(estimator, X):
    """The GPU that predicts, None for the CPU.

    That of X; else the estimator's, if there is one here and enough to do.
    """
    if is_on_gpu(X):
        return X.device.id
    refuse_sparse_of_device(X)
    device = estimator.device
    index = None if device is None else parse_device(device)
    if index is None or find_spec("cupy") is None:
        return None
    if is_little(estimator, X):
        return None
    try:
        return choose_device(device, X)
    except (ImportError, RuntimeError):  # fitted on another machine
        return None


def is_little(estimator, X):
    """Whether the CPU has predicted X before a GPU has begun."""
    if not estimator.__sklearn_is_fitted__() or not hasattr(X, "__len__"):
        return True
    program = estimator._program()
    if not hasattr(X, "tocsr"):
        return len(X) * program.flops_per_row() < FEW_FLOPS
    first = program.flops_of(program.ops[0])
    share = X.nnz / max(1, X.shape[0] * X.shape[1])
    return X.shape[0] * (program.flops_per_row() - first * (1 - share)) < FEW_FLOPS


# ---- CuPy arrays at the door ----------------------------------------------------------------


def check_device_X(estimator, X, reset, **y_options):
    """A CuPy X as `check_data` would have it: two-dimensional, finite numbers.

    With y among the options, both; y is checked on the host.

    Raises
    ------
    ValueError
        With what is wrong.
    """
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(
            f"Expected a 2D array with samples and features, but X has shape {X.shape}."
        )
    if X.dtype not in READ_IN_PLACE:
        X = X.astype(np.float64)
    if X.dtype.kind == "f" and not bool(np.isfinite(X).all()):
        raise ValueError(
            f"Input X contains NaN or infinity. {type(estimator).__name__} takes finite numbers: "
            "fill in or leave out what is missing, and scale what is too large."
        )
    _check_n_features(estimator, X, reset=reset)
    if reset and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    if not y_options:
        return X
    y = _check_y(to_host(y_options.pop("y")), estimator=estimator, **y_options)
    if len(y) != len(X):
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: "
            f"X has {len(X)}, y has {len(y)}."
        )
    return X, y


# ---- executors ------------------------------------------------------------------------------


class CpuExecutor(Executor):
    """The CPU's, with what the GPU's has besides."""

    def bind(self, X, targets=None, weights=None, state=None, seed=0):
        super().bind(X, targets, weights, state, seed)
        self.X, self.state = X, state

    def predict_rows(self, program, parameters, rows, n_threads):
        """Predictions of a program for rows of the bound X."""
        program = lower_for_cpu(program, isinstance(self.X, CSR), Phase.PREDICT)
        return predict(program, parameters, self.X, rows, n_threads, state=self.state)

    # arrays that a device reads while the host goes on, of which there is none
    pinned = None

    def fetch(self):
        """The parameters are on the host already."""


def evaluation_rows(gpu, n_samples):
    """Rows of which a loss over all rows has the values at once."""
    return min(n_samples, EVALUATE_ROWS if gpu is None else GPU_ROWS)


def make_executor(estimator, program, data, dtype, capacity, gpu, state=None, seed=0):
    """An executor on the CPU or a GPU, with the data bound to it."""
    is_sparse = isinstance(data.X, CSR)
    if gpu is None:
        program = lower_for_cpu(program, is_sparse)
        executor = CpuExecutor(
            program, dtype=dtype, capacity=capacity, n_threads=estimator.n_threads
        )
    else:
        executor = gpu_executor(estimator, program, dtype, capacity, gpu, is_sparse)
    executor.bind(data.X, data.targets, data.weights, state, seed)
    return executor


def gpu_executor(estimator, program, dtype, capacity, gpu, sparse, trains=True):
    """An executor on a GPU, which has a driver to itself."""
    from sknn._kernels.gpu import driver
    from sknn._kernels.gpu.executor import Executor as GpuExecutor

    program = read_csr(program) if sparse else program
    own = driver.take_driver(gpu)
    try:
        executor = GpuExecutor(
            program, dtype=dtype, capacity=capacity, driver=own,
            precision=estimator.matmul_precision, trains=trains,
        )  # fmt: skip
    except BaseException:
        driver.give_back(own)
        raise
    weakref.finalize(executor, driver.give_back, own)
    return executor


def predict_on_gpu(estimator, program, parameters, X, gpu, state=None):
    """Predictions where X lies: as a CuPy array for a CuPy X, else as a NumPy array."""
    program = fold_normalizations(program)
    parameters = program.folded(parameters, state)
    n, is_sparse = X.shape[0], isinstance(X, CSR)
    n_block = max(1, BLOCK_BYTES * n // max(1, X.nbytes))
    capacity = min(n, GPU_ROWS, n_block)
    executor = gpu_executor(
        estimator, program, parameters.dtype, capacity, gpu, is_sparse, trains=False
    )
    if is_on_gpu(X):
        executor.bind(X, state=state)
        return executor.predict(parameters)
    blocks = []
    for first in range(0, n, n_block):
        executor.bind(X[first : first + n_block], state=state)
        blocks.append(to_host(executor.predict(parameters)))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
