"""Images and signals at the door: the shape of a sample, and X as rows of numbers."""

from math import prod
from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from sknn._lowering import unreadable_sparse
from sknn._validation import READ_IN_PLACE

KINDS = (
    "images (n_samples, height, width, channels), signals (n_samples, length, channels) or "
    "rows (n_samples, n_features)"
)
# axes that are shorter are no pixels' where an image may have its channels first
FEWEST_PIXELS = 8


def check_samples(estimator, X, *, accept_sparse, **options):
    """X as rows in C order, y where the options have one, and the shape of a sample.

    Rows keep their type: images of bytes stay bytes.

    Raises
    ------
    ValueError
        If X has more axes than an image, is sparse and must not be, or what `validate_data`
        refuses.
    """
    if isinstance(X, (list, tuple)) or (not hasattr(X, "shape") and hasattr(X, "__array__")):
        X = np.asarray(X)
    if sparse.issparse(X) and not accept_sparse:
        raise unreadable_sparse()
    options = {"dtype": READ_IN_PLACE, **options}
    n_axes = len(getattr(X, "shape", (0, 0)))
    if n_axes > 4:
        raise ValueError(f"X has shape {X.shape} with {n_axes} axes. Give {KINDS}.")
    if n_axes > 2:
        options.update(allow_nd=True, ensure_2d=False)
    else:
        options["accept_sparse"] = ["csr", "csc"]
    checked = validate_data(estimator, X, **options)
    X, *y = checked if isinstance(checked, tuple) else (checked,)
    shape = X.shape[1:]
    if not sparse.issparse(X):
        if 0 in shape:
            raise ValueError(f"X has shape {X.shape}: its samples are empty. Give {KINDS}.")
        X = np.ascontiguousarray(X).reshape(len(X), -1)
    return X, *y, shape


def check_input_shape(shape):
    """The parameter ``input_shape`` as a tuple of integers."""
    sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    if not 1 <= len(sizes) <= 3 or not all(isinstance(n, Integral) and n > 0 for n in sizes):
        raise ValueError(
            "input_shape must be (height, width, channels), (length, channels) or (features,), "
            f"in positive integers, got {shape!r}."
        )
    return tuple(map(int, sizes))


def choose_shape(given, input_shape, as_signal):
    """What a sample is to a new network.

    Parameters
    ----------
    given : tuple of int
        Axes of X without the first.
    input_shape : tuple of int or None
        What the user says it is.
    as_signal : bool
        Whether a row is a signal of one channel rather than a table's.
    """
    if input_shape is not None:
        shape = check_input_shape(input_shape)
        check_shape(given, shape, "input_shape is")
        return shape
    if len(given) == 1 and as_signal:
        return (*given, 1)
    if len(given) == 3 and given[0] in (1, 3) and min(given[1:]) >= FEWEST_PIXELS:
        raise ValueError(
            f"X has samples of shape {given}, which look as if their {given[0]} channels came "
            f"first. {_channels_last(given)} If they are images of height {given[0]}, say so "
            f"with input_shape={given}."
        )
    return tuple(given)


def check_shape(given, shape, who="the network was fitted with"):
    """Refuse samples of another shape; flattened ones and a missing single channel are taken.

    Raises
    ------
    ValueError
        Says which shape came and which are accepted.
    """
    accepted = [shape, (prod(shape),)]
    if shape[-1] == 1 and len(shape) > 1:
        accepted.append(shape[:-1])
    if given in accepted:
        return
    advice = f"Give samples of shape {' or '.join(map(str, dict.fromkeys(accepted)))}."
    if len(shape) > 1 and given == (shape[-1], *shape[:-1]):
        advice = _channels_last(given)
    raise ValueError(f"X has samples of shape {given}, but {who} {shape}. {advice}")


def _channels_last(given):
    return f"Networks take channels last: np.moveaxis(X, 1, -1) gives {(*given[1:], given[0])}."
