"""Fitted parameters: one flat vector, of which ``coefs_`` and ``intercepts_`` are views."""

import copy
import operator
from contextlib import contextmanager

import numpy as np

from sknn._program import round_up
from sknn.initializers import INITIALIZERS


@contextmanager
def unchanged_on_error(estimator):
    """Leave no mixture of two fits where the second fails: the estimator is as it was.

    Yields a function after which it is not put back any more, since training has begun.
    """
    kept = [dict(vars(estimator))]
    try:
        yield kept.clear
    except BaseException:
        for before in kept:
            # scikit-learn's own, by which it tears callbacks down
            before |= {k: v for k, v in vars(estimator).items() if "_callback" in k}
            vars(estimator).clear()
            vars(estimator).update(before)
        raise


def initial_parameters(program, random_state, dtype, gain):
    """The flat vector of a new network, drawn layer by layer: weights, then biases."""
    vector = np.zeros(program.n_parameters, dtype)
    for p, view in zip(program.parameters, program.views(vector), strict=True):
        view[...] = INITIALIZERS[p.initial](random_state, p.shape, p.fans, gain)
    return vector


def initial_state(program, dtype):
    """What a new network keeps but does not train, or None."""
    return np.array(program.initial_state, dtype) if program.n_state else None


def set_parameters(estimator, program, vector, state=None):
    """Make ``vector`` the estimator's parameters, and the fitted attributes views of it.

    ``state`` is what is kept but not trained: the running statistics of normalisations.
    """
    attributes = _attributes(program, vector)
    # at once, since two threads may predict when an array was put into coefs_
    vars(estimator).update(
        _parameters=vector, _state=state, _views=_flat(**attributes), **attributes
    )


def get_parameters(estimator, program):
    """The flat vector, with whatever arrays the user put into ``coefs_`` or ``intercepts_``.

    Raises
    ------
    ValueError
        If such an array has another shape; says which.
    """
    if _are_views(estimator.coefs_, estimator.intercepts_, estimator._views):
        return estimator._parameters
    vector = estimator._parameters.copy()
    for name, views in _attributes(program, vector).items():
        arrays = getattr(estimator, name)
        _check_shapes(name, arrays, views)
        for array, view in zip(arrays, views, strict=True):
            view[...] = array
    set_parameters(estimator, program, vector, estimator._state)
    return vector


def trainable(vector, dtype):
    """The vector itself, or a copy where it is of another type or must not be written.

    Kernels write without asking, and the arrays of an estimator that `joblib.load` maps into
    memory, or hands to a process, lie in pages that end the process then.
    """
    return np.require(vector, dtype, ["WRITEABLE", "ENSUREARRAY"])


def reconstruction(program, vector, state):
    """Fitted attributes, for a copy of the estimator that predicts with these parameters."""
    vector = vector.copy()
    state = None if state is None else state.copy()
    return {"_parameters": vector, "_state": state, **_attributes(program, vector)}


def _attributes(program, vector):
    """The fitted attributes as views of a vector."""
    views = dict(zip(program.names, program.views(vector), strict=True))
    return {
        attribute: [view for name, view in views.items() if name.endswith(ending)]
        for attribute, ending in (("coefs_", ".weights"), ("intercepts_", ".biases"))
    }


def _flat(coefs_, intercepts_):
    return (*coefs_, *intercepts_)


def _are_views(coefs, intercepts, views):
    """Whether the attributes still hold the views they were made with."""
    arrays = _flat(coefs, intercepts)
    return (
        len(arrays) == len(views)
        and len(coefs) == len(intercepts)
        and all(map(operator.is_, arrays, views))
    )


def _check_shapes(name, arrays, views):
    if len(arrays) != len(views):
        raise ValueError(
            f"{name} has {len(arrays)} arrays, but the network has {len(views)} layers. "
            "Put one array for each layer into it."
        )
    for i, (array, view) in enumerate(zip(arrays, views, strict=True)):
        if np.shape(array) != view.shape:
            raise ValueError(
                f"{name}[{i}] has shape {np.shape(array)}, but this layer needs "
                f"{view.shape}. Put an array of that shape into {name}, or fit again."
            )


def state_to_pickle(state):
    """An estimator's ``__dict__`` with the weights once.

    The views go, and are made again by `state_from_pickle`. Optimizer slots stay only if the
    last call was ``partial_fit``, which continues from them.
    """
    state = dict(state)
    state.pop("_checked_parameters", None)
    views = state.pop("_views", None)
    if views is None:
        return state
    if _are_views(state["coefs_"], state["intercepts_"], views):
        del state["coefs_"], state["intercepts_"]
    optimizer = state.get("_optimizer")
    if optimizer is not None and not state["_incremental"]:
        state["_optimizer"] = copy.copy(optimizer)
        state["_optimizer"].slots = None
    return state


def state_from_pickle(estimator, program):
    """Make the views again that `state_to_pickle` left out."""
    attributes = _attributes(program, estimator._parameters)
    estimator._views = _flat(**attributes)
    for name, views in attributes.items():
        vars(estimator).setdefault(name, views)


def named_statistics(program, state):
    """Running statistics as views of the vector: 'norm.means' and 'norm.variances'."""
    views = {}
    for op in program.ops[program.ops["state"] >= 0]:
        layer = program.names[op["segments"][0]].removesuffix(".scales")
        width = int(op["inputs"][0]["channels"])
        means = int(op["state"])
        variances = means + round_up(width)
        views[f"{layer}.means"] = state[means : means + width]
        views[f"{layer}.variances"] = state[variances : variances + width]
    return views
