"""What layers share, and lists of layers: their names, parameters by name, and rows."""

from collections.abc import Hashable
from itertools import pairwise

from sklearn.base import BaseEstimator


class Layer(BaseEstimator):
    """What layers share: parameters, a readable repr and, for equal parameters, equality."""

    def __eq__(self, other):
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self):
        return hash((type(self), self._key()))

    def _key(self):
        """What it is compared and hashed by."""
        return _comparable(self.get_params(deep=False))

    def emit(self, builder, x, name):
        """Append the layer's rows to a program.

        Parameters
        ----------
        builder : Builder
        x : operand
            What the layer reads.
        name : str
            Its name in the network.

        Returns
        -------
        y : operand
            Its output.
        """
        raise NotImplementedError


def _comparable(value):
    """A parameter as it is compared and hashed: with its type, sequences element by element.

    7.0 and True are equal to 7, but no number of units: programs are shared by equal layers.
    """
    if hasattr(value, "tolist") and not isinstance(value, type):  # NumPy's and pandas'
        value = value.tolist()
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_comparable, value))
    return type(value), value if isinstance(value, Hashable) else id(value)


class NestedLayers:
    """Layers in the parameter ``layers``, reached by their names as a pipeline's steps are."""

    def get_params(self, deep=True):
        """Parameters and, with ``deep``, the layers by name and their parameters.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep=deep)
        for name, layer in named(self.layers, check=False) if deep else ():
            params[name] = layer
            if hasattr(layer, "get_params") and not isinstance(layer, type):
                nested = layer.get_params()
                params.update({f"{name}__{key}": value for key, value in nested.items()})
        return params

    def set_params(self, **params):
        """Set parameters, layers by name, and parameters of layers as ``name__parameter``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object
        """
        if "layers" in params:
            self.layers = params.pop("layers")
        pairs = named(self.layers, check=False)
        # what is replaced keeps its name; a list becomes the branch that names reach into
        changed = {name for name, layer in pairs if name in params or isinstance(layer, Branch)}
        if changed & {key.partition("__")[0] for key in params}:
            pairs = [(name, params.pop(name, layer)) for name, layer in pairs]
            self.layers = named(pairs, check=False)
        return super().set_params(**params)


class LayerOfLayers(NestedLayers, Layer):
    """What layers share that hold others; equal whether names are given or follow."""

    def __init__(self, layers):
        self.layers = layers

    def _key(self):
        return _comparable(
            {**self.get_params(deep=False), "layers": named(self.layers, check=False)}
        )


class Branch(LayerOfLayers):
    """Layers one after the other: what a list among the branches of `Concatenate` stands for.

    Parameters
    ----------
    layers : list of layers or (name, layer) pairs

    Examples
    --------
    >>> from sknn.layers import Branch, Concatenate, Conv
    >>> branches = Concatenate([Conv(8, 1), [Conv(4, 1), Conv(8, 3)]])
    >>> branches == Concatenate([Conv(8, 1), Branch([Conv(4, 1), Conv(8, 3)])])
    True
    >>> branches.set_params(branch1__conv2__filters=6).layers[1]
    ('branch1', Branch(layers=[Conv(filters=4, kernel_size=1), Conv(filters=6)]))
    """

    def emit(self, builder, x, name):
        """Append the rows of the layers."""
        return emit_chain(builder, x, self.layers, f"{name}.")


def named(layers, *, check=True, branches=False):
    """(name, layer) pairs; unnamed layers are called by their kind and number, lists branches.

    Parameters
    ----------
    layers : list of layers or (name, layer) pairs
    check : bool, default=True
        Whether to raise errors.
    branches : bool, default=False
        Whether a list may stand for a layer.

    Raises
    ------
    ValueError
        If there is no layer, something is no layer, or names repeat or hold ``__`` or a dot.
    """
    pairs, counts = [], {}
    for item in layers if isinstance(layers, (list, tuple)) else ():
        has_name = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        name, layer = item if has_name else (None, item)
        if isinstance(layer, list):
            layer = Branch(layer)
        if not has_name:
            kind = type(layer).__name__.lower()
            counts[kind] = counts.get(kind, 0) + 1
            name = f"{kind}{counts[kind]}"
        pairs.append((name, layer))
    if check:
        _check_names(layers, pairs, branches)
    return pairs


def _check_names(layers, pairs, branches):
    if not isinstance(layers, (list, tuple)):
        raise ValueError(f"Layers must come in a list, got {layers!r}.")
    if not pairs:
        raise ValueError(
            "The list of layers is empty. Give at least one layer, such as Dense(100, 'relu')."
        )
    for name, layer in pairs:
        if isinstance(layer, Branch) and not branches:
            raise ValueError(
                f"{name!r} is no layer but the list {layer.layers!r}. Only the branches of "
                "Concatenate are lists: put the layers of this one into the list around it, with "
                "*[...]."
            )
        if not isinstance(layer, Layer):
            raise ValueError(
                f"{name!r} is no layer but {layer!r}. Give layers of sknn.layers or "
                "(name, layer) pairs."
            )
        if "__" in name or "." in name or not name:
            raise ValueError(
                f"The layer name {name!r} must not be empty nor contain '__' or '.', which "
                "separate names from parameters."
            )
    names = sorted(name for name, _ in pairs)
    if repeated := {a for a, b in pairwise(names) if a == b}:
        raise ValueError(
            f"Names of layers must be different, but {sorted(repeated)} repeat. Rename them."
        )


def emit_chain(builder, x, layers, prefix=""):
    """Append the rows of layers, each reading the output of the one before."""
    for name, layer in named(layers):
        x = emit_layer(builder, x, layer, f"{prefix}{name}")
    return x


def emit_layer(builder, x, layer, name):
    """Append a layer's rows, and note which they are."""
    builder.layer_begins(name, type(layer).__name__)
    y = layer.emit(builder, x, name)
    builder.layer_ends(name, y)
    return y
