"""Fitted parameters: one flat vector, of which ``coefs_`` and ``intercepts_`` are views."""

import copy

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
    views = program.views(vector)
    estimator._parameters = vector
    estimator._views = tuple(views)
    vars(estimator).update(_attributes(views))


def get_parameters(estimator, program):
    """The flat vector, with whatever arrays the user put into ``coefs_`` or ``intercepts_``.

    Raises
    ------
    ValueError
        If such an array has another shape; says which.
    """
    views = estimator._views
    arrays = _interleave(estimator.coefs_, estimator.intercepts_)
    if len(arrays) == len(views) and all(a is b for a, b in zip(arrays, views, strict=True)):
        return estimator._parameters
    _check_shapes(estimator, views)
    vector = np.zeros(program.n_parameters, estimator._parameters.dtype)
    for array, view in zip(arrays, program.views(vector), strict=True):
        view[...] = array
    set_parameters(estimator, program, vector)
    return vector


def reconstruction(program, vector):
    """Fitted attributes, for a copy of the estimator that predicts with these parameters."""
    return _attributes(program.views(vector.copy()))


def _attributes(views):
    return {
        "coefs_": [view for view in views if view.ndim == 2],
        "intercepts_": [view for view in views if view.ndim == 1],
    }


def _interleave(coefs, intercepts):
    """Weights and biases in the order of the program's segments: layer by layer."""
    if len(coefs) != len(intercepts):
        return []
    return [array for layer in zip(coefs, intercepts, strict=True) for array in layer]


def _check_shapes(estimator, views):
    for name, kind in (("coefs_", views[0::2]), ("intercepts_", views[1::2])):
        arrays = getattr(estimator, name)
        if len(arrays) != len(kind):
            raise ValueError(
                f"{name} has {len(arrays)} arrays, but the network has {len(kind)} layers. "
                "Put one array for each layer into it."
            )
        for i, (array, view) in enumerate(zip(arrays, kind, strict=True)):
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
    arrays = _interleave(state["coefs_"], state["intercepts_"])
    if len(arrays) == len(views) and all(a is b for a, b in zip(arrays, views, strict=True)):
        del state["coefs_"], state["intercepts_"]
    optimizer = state.get("_optimizer")
    if optimizer is not None and not state["_incremental"]:
        state["_optimizer"] = copy.copy(optimizer)
        state["_optimizer"].slots = None
    return state


def state_from_pickle(estimator, program):
    """Make the views again that `state_to_pickle` left out."""
    estimator._views = tuple(program.views(estimator._parameters))
    if "coefs_" not in vars(estimator):
        set_parameters(estimator, program, estimator._parameters)
