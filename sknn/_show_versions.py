"""What a bug report should say about the installation."""

import os

import sklearn

from sknn._compat import effective_n_threads, scipy_blas_libraries
from sknn._kernels.cpu import variant


def _variant():
    """The instruction set in use, and what else there is."""
    forced = f", forced by {variant.VARIABLE}" if variant.VARIABLE in os.environ else ""
    runnable, compiled = ", ".join(variant.runnable()), ", ".join(variant.compiled())
    return f"{variant.chosen()}{forced} (this processor runs {runnable}; compiled: {compiled})"


def _blas(library):
    """One line on a BLAS as threadpoolctl knows it."""
    info = library.info()
    names = ("internal_api", "version", "architecture", "threading_layer")
    known = " ".join(str(info[name]) for name in names if info.get(name))
    return f"{known}, threads: {info['num_threads']} ({info['filepath']})"


def show_versions():
    """Print what a bug report should say about sknn, its kernels and what they call.

    First the version of sknn, the instruction set its kernels were compiled for, the BLAS that
    they call through SciPy and the threads that a fit may use; then what
    :func:`sklearn.show_versions` prints: Python, the system and the dependencies.

    Examples
    --------
    >>> import sknn
    >>> sknn.show_versions()
    sknn:
        version: ...
    CPU variant: ...
           BLAS: ...
        threads: ...
    ...
    """
    import sknn

    lines = {
        "version": [sknn.__version__],
        "CPU variant": [_variant()],
        "BLAS": [_blas(library) for library in scipy_blas_libraries()] or ["not recognised"],
        "threads": [f"at most {effective_n_threads()} of {os.cpu_count()} cores"],
    }
    print("sknn:")
    for name, values in lines.items():
        for value in values:
            print(f"{name:>11}: {value}")
    sklearn.show_versions()
