"""Every private import from scikit-learn, so that one file follows its releases."""

import re
from types import SimpleNamespace

from sklearn.base import _fit_context
from sklearn.linear_model._base import (
    SPARSE_INTERCEPT_DECAY,
    LinearClassifierMixin,
    SparseCoefMixin,
)
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_n_features, _check_sample_weight, _check_y
from threadpoolctl import ThreadpoolController

__all__ = [
    "SPARSE_INTERCEPT_DECAY",
    "Interval",
    "LinearClassifierMixin",
    "Options",
    "SparseCoefMixin",
    "StrOptions",
    "_check_n_features",
    "_check_optimize_result",
    "_check_partial_fit_first_call",
    "_check_sample_weight",
    "_check_y",
    "_fit_context",
    "_get_additional_lbfgs_options_dict",
    "effective_n_threads",
    "has_callbacks",
    "scipy_blas_libraries",
]


def effective_n_threads():
    """Cores this process may use: affinity, OMP_NUM_THREADS, threadpool_limits and loky."""
    return _openmp_effective_n_threads()


def has_callbacks(estimator):
    """Whether somebody set callbacks, which are told of its fits."""
    return hasattr(estimator, "_skl_callbacks")


def scipy_blas_libraries():
    """The BLAS that SciPy calls (``info``, ``get_num_threads``, ``set_num_threads``).

    Looked up once. Wheels bring a BLAS of SciPy's own, beside NumPy's; elsewhere both share one.
    threadpoolctl's own ``set_num_threads`` heeds one thread of the process at a time; this one
    heeds all, since `_threads.running` counts them.
    """
    import scipy.linalg.cython_blas  # noqa: F401  (so that it is loaded)

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    # NumPy's wheels have a libscipy_openblas, too: the folder tells them apart
    own = [
        library
        for library in libraries
        if re.search(r"[/\\]scipy(\.libs|[/\\]\.dylibs)[/\\]", library.filepath)
    ]
    return [
        SimpleNamespace(
            info=library.info,
            get_num_threads=library.get_num_threads,
            set_num_threads=getattr(library, "_real_set_num_threads", library.set_num_threads),
        )
        for library in own or libraries
    ]
