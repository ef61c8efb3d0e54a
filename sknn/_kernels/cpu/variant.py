"""Which instruction set the kernels run with, and the modules compiled for it.

``SKNN_CPU_VARIANT`` forces one: ``v2``, ``v3`` or ``v4`` on x86-64 (the levels of the
System V ABI), ``generic`` elsewhere.
"""

import os
from importlib import import_module, util

from .. import ops

VARIABLE = "SKNN_CPU_VARIANT"


def compiled():
    """Names of the variants this installation holds, the simplest first."""
    return [
        name
        for name in ("generic", "v2", "v3", "v4")
        if util.find_spec(f"{__package__}.kernels_{name}") is not None
    ]


def runnable():
    """Those of the compiled variants that this processor can run."""
    return [name for name in compiled() if ops.cpu_runs(name)]


def chosen():
    """The forced variant, or the best that this processor can run."""
    names = runnable()
    forced = os.environ.get(VARIABLE)
    if forced is None:
        return names[-1]
    if forced not in names:
        raise ImportError(
            f"{VARIABLE}={forced!r} is not one of the variants that are compiled and that "
            f"this processor can run: {', '.join(names)}. Unset it to have the best one."
        )
    return forced


def load(module):
    """Import ``module`` ('kernels', 'perceptron') as compiled for the chosen variant."""
    return import_module(f"{__package__}.{module}_{chosen()}")
