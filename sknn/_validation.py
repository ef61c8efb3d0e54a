"""X, y and sample weights at the door: checked once, and left where they lie."""

import inspect
import operator
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from functools import wraps
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.utils.validation import validate_data

from sknn._compat import _check_sample_weight, _fit_context
from sknn._kernels.cpu.executor import is_plain

# what the gather reads without a copy of X
READ_IN_PLACE = (np.float64, np.float32, np.uint8)


@dataclass
class Data:
    """What an executor binds.

    Attributes
    ----------
    X : ndarray or CSR array
    targets : ndarray
        int32 class indices, or rows of the compute type.
    weights : ndarray of float64 or None
    """

    X: object
    targets: np.ndarray
    weights: np.ndarray | None

    @property
    def n_samples(self):
        return self.X.shape[0]


@dataclass
class CSR:
    """A matrix in compressed sparse row format, with the index types of the kernels."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple

    @property
    def nbytes(self):
        return self.data.nbytes + self.indices.nbytes + self.indptr.nbytes

    def __getitem__(self, rows):
        """The rows of a slice."""
        first, end, _ = rows.indices(self.shape[0])
        places = slice(self.indptr[first], self.indptr[end])
        return CSR(
            self.data[places], self.indices[places],
            self.indptr[first : end + 1] - self.indptr[first], (end - first, self.shape[1]),
        )  # fmt: skip


def is_on_gpu(array):
    """Whether it is a CuPy array, without importing CuPy."""
    return type(array).__module__.partition(".")[0] == "cupy"


def to_host(array):
    """An array as NumPy's; anything else as it is."""
    return array.get() if is_on_gpu(array) else array


def device_of(array):
    """A context that makes a CuPy array's device the current one; of no effect for others."""
    return array.device if is_on_gpu(array) else nullcontext()


def compute_dtype(X):
    """What to compute in where nobody says it: float32 for float32, float64 for all else."""
    return np.dtype(np.float32 if X.dtype == np.float32 else np.float64)


def check_data(estimator, X, **options):
    """``validate_data`` with the X that networks take; y and what it takes are options."""
    return validate_data(
        estimator, X, accept_sparse=["csr", "csc"], dtype=READ_IN_PLACE, **options
    )


def may_skip_checks(estimator, X):
    """Whether `check_data` would hand X back as it is, unless a number is not finite.

    Its tests take longer than the prediction of some rows. Only the exact type is sure to have
    no names of features, and no data of its own; a model with names has to warn of that.
    """
    n_features = getattr(estimator, "n_features_in_", -1)
    return is_plain(X, n_features) and not hasattr(estimator, "feature_names_in_")


def prepare_X(X, dtype, scale=1.0):
    """X as the executor reads it: itself if C-ordered, else one copy.

    The copy is in the compute type; bytes stay bytes. The nonzeros of a sparse X are
    multiplied by ``scale`` here, since nothing is when they are read.

    Raises
    ------
    ValueError
        If finite values of X overflow the compute type.
    """
    if sparse.issparse(X):
        X = X.tocsr()
        check_overflow(X.data, dtype, "X")
        data = np.ascontiguousarray(X.data, dtype=dtype)
        return CSR(
            data if scale == 1 else data * dtype.type(scale),
            np.ascontiguousarray(X.indices, dtype=np.int32),
            np.ascontiguousarray(X.indptr, dtype=np.int64),
            X.shape,
        )
    check_overflow(X, dtype, "X")
    if is_on_gpu(X):
        return X if X.flags.c_contiguous else X.copy(order="C")
    X = np.asarray(X)
    if X.flags.c_contiguous and X.flags.aligned and X.dtype.isnative:
        return X
    return np.ascontiguousarray(X, dtype=X.dtype if X.dtype == np.uint8 else dtype)


def check_overflow(values, dtype, name):
    """Refuse finite values that the compute type turns into infinities."""
    if dtype == np.float64 or values.dtype != np.float64 or values.size == 0:
        return
    largest = np.finfo(np.float32).max
    low, high = values.min(), values.max()
    if high > largest or low < -largest:
        worst = high if high > largest else low
        raise ValueError(
            f"Input {name} contains a value too large for dtype('float32'): {worst:.3g}. "
            f"Scale {name}, for example with StandardScaler, or compute in float64 "
            "(dtype='float64')."
        )


def check_weights(sample_weight, X):
    """Sample weights as float64, or None."""
    if sample_weight is None:
        return None
    return np.ascontiguousarray(_check_sample_weight(sample_weight, X, dtype=np.float64))


class KnownSignature:
    """Estimators whose constructor is looked into once.

    scikit-learn looks for the names of its parameters in each fit, `get_params` and `clone`, which
    takes 50 us unless the function holds its signature.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        constructor = vars(cls).get("__init__")
        if inspect.isfunction(constructor):
            constructor.__signature__ = inspect.signature(constructor)


def partial_fit_context(partial_fit):
    """`_fit_context`, and checks of the parameters that were set since the last call.

    scikit-learn checks none in the `partial_fit` of a fitted estimator, since that takes 0.1 ms.
    To see that all are what they were takes 3 us.
    """
    in_context = _fit_context(prefer_skip_nested_validation=True)(partial_fit)

    @wraps(partial_fit)
    def checked(estimator, *args, **kwargs):
        if not get_config()["skip_parameter_validation"]:
            _check_changed_parameters(estimator)
        return in_context(estimator, *args, **kwargs)

    return checked


def _check_changed_parameters(estimator):
    values = [getattr(estimator, name) for name in estimator._parameter_constraints]
    checked = vars(estimator).get("_checked_parameters")
    if checked is None or not all(map(operator.is_, values, checked)):
        estimator._validate_params()
        estimator._checked_parameters = values


def check_dropout(dropout, n_layers):
    """A rate for each hidden layer, or () if none drops anything.

    Raises
    ------
    ValueError
        If one is not in [0, 1) or their number is another.
    """
    rates = list(dropout) if hasattr(dropout, "__iter__") else [dropout] * n_layers
    if len(rates) != n_layers:
        raise ValueError(
            f"dropout has {len(rates)} rates, but there are {n_layers} hidden layers. Give one "
            "rate for all or one for each."
        )
    for rate in rates:
        if not isinstance(rate, Real) or not 0 <= rate < 1:
            raise ValueError(
                f"dropout must be a rate in [0, 1), or a list of them, got {dropout!r}."
            )
    return tuple(map(float, rates)) if any(rates) else ()


def check_sizes(
    sizes, name="hidden_layer_sizes", what="units of each hidden layer", example="(100, 50)"
):
    """The sizes of some layers as a list.

    Raises
    ------
    ValueError
        If one is not a positive integer.
    """
    sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    advice = (
        f"got {sizes}. Give the number of {what} as integers, such as {example}, or () for none."
    )
    if not all(isinstance(size, Integral) for size in sizes):
        raise ValueError(f"{name} must be integers, {advice}")
    if any(size <= 0 for size in sizes):
        raise ValueError(f"{name} must be > 0, {advice}")
    return [int(size) for size in sizes]


def choose_batch_size(batch_size, n_samples):
    """Rows of a minibatch."""
    if batch_size == "auto":
        return min(200, n_samples)
    if batch_size > n_samples:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be "
            f"clipped: {batch_size} rows were asked for, {n_samples} are there."
        )
    return int(np.clip(batch_size, 1, n_samples))
