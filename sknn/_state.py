"""Fitted parameters: one flat vector, of which ``coefs_`` and ``intercepts_`` are views."""

import copy
import operator

import numpy as np

from sknn.initializers import glorot_uniform


def initial_parameters(program, random_state, dtype, gain):
    """The flat vector of a new network, drawn layer by layer: weights, then biases."""
    vector = np.zeros(program.n_parameters, dtype)
    segments = program.segments
    for op in program.ops:
        weights, biases = op["segments"][:2]
        if weights < 0:
            continue
        fan_in, fan_out = segments[weights]["rows"], segments[weights]["columns"]
        drawn = glorot_uniform(random_state, fan_in, fan_out, gain=gain)
        for index, values in zip((weights, biases), drawn, strict=True):
            offset = segments[index]["offset"]
            vector[offset : offset + values.size] = values.ravel()
    return vector


def set_parameters(estimator, program, vector):
    """Make ``vector`` the estimator's parameters, and the fitted attributes views of it."""
    attributes = _attributes(program, vector)
    # at once, since two threads may predict when an array was put into coefs_
    vars(estimator).update(_parameters=vector, _views=_flat(**attributes), **attributes)


def get_parameters(estimator, program):
    """The flat vector, with whatever arrays the user put into ``coefs_`` or ``intercepts_``.

    Raises
    ------
    ValueError
        If such an array has another shape; says which.
    """
    if _are_views(estimator.coefs_, estimator.intercepts_, estimator._views):
        return estimator._parameters
    vector = np.zeros(program.n_parameters, estimator._parameters.dtype)
    for name, views in _attributes(program, vector).items():
        arrays = getattr(estimator, name)
        _check_shapes(name, arrays, views)
        for array, view in zip(arrays, views, strict=True):
            view[...] = array
    set_parameters(estimator, program, vector)
    return vector


def reconstruction(program, vector):
    """Fitted attributes, for a copy of the estimator that predicts with these parameters."""
    return _attributes(program, vector.copy())


def _attributes(program, vector):
    """The fitted attributes as views of a vector."""
    views = program.views(vector)
    return {
        "coefs_": [view for view in views if view.ndim == 2],
        "intercepts_": [view for view in views if view.ndim == 1],
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
