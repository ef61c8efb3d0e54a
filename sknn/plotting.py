"""Pictures of what convolutions have learned, in scikit-learn's convention of displays.

They need matplotlib, which ``pip install matplotlib`` or ``pip install 'sknn[demo]'`` brings.
"""

from math import ceil, sqrt

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sknn._base import BaseNetwork
from sknn._program import shape_of

__all__ = ["FeatureMapDisplay", "FilterDisplay"]


class _Grid:
    """What the two displays share: a figure with one picture in each place of a grid."""

    def plot(self, *, ax=None, cmap=None, max_columns=8):
        """Draw the pictures.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where the grid is drawn; None makes a figure.
        cmap : str or Colormap, default=None
            Colours of pictures of one channel.
        max_columns : int, default=8
            Of the grid.

        Returns
        -------
        display : the display itself
            With the attributes ``ax_`` and ``figure_``.
        """
        plt = _pyplot()
        pictures = self._pictures()
        n_columns = max(1, min(max_columns, ceil(sqrt(len(pictures)))))
        n_rows = ceil(len(pictures) / n_columns)
        if ax is None:
            _, ax = plt.subplots(figsize=(1.2 * n_columns + 0.5, 1.2 * n_rows + 0.5))
        self.ax_, self.figure_ = ax, ax.figure
        ax.imshow(
            _tiled(pictures, n_columns), cmap=cmap or self._cmap, interpolation="nearest",
            **self._limits(pictures),
        )  # fmt: skip
        ax.set(xticks=[], yticks=[], title=self._title())
        return self


class FilterDisplay(_Grid):
    """The filters of a convolution as pictures.

    Use :meth:`from_estimator` to make one.

    Parameters
    ----------
    filters : ndarray of shape (height, width, channels, n_filters)
        The weights.
    layer : str, default=None
        The name of the layer, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        With the pictures: three channels as colours, of others one picture each.
    figure_ : matplotlib Figure
        That the axes are in.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sknn import ConvClassifier
    >>> from sknn.plotting import FilterDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ConvClassifier((8,), input_shape=(8, 8, 1), max_iter=3).fit(X / 16, y)
    >>> display = FilterDisplay.from_estimator(clf)
    >>> display.filters.shape
    (3, 3, 1, 8)
    """

    _cmap = "RdBu_r"

    def __init__(self, filters, *, layer=None):
        self.filters = filters
        self.layer = layer

    @classmethod
    def from_estimator(cls, estimator, *, layer=None, **plot_params):
        """Show the filters of a fitted network.

        Parameters
        ----------
        estimator : fitted network
        layer : str, default=None
            The name of a convolution; None is the first.
        **plot_params : dict
            Of :meth:`plot`.

        Returns
        -------
        display : FilterDisplay
        """
        _check_network(estimator)
        layer = _choose_convolution(estimator, layer)
        filters = estimator.parameters_[f"{layer}.weights"]
        return cls(np.array(filters), layer=layer).plot(**plot_params)

    def _pictures(self):
        """(n, height, width) or, with colours, (n, height, width, 3) in [0, 1]."""
        height, width, channels, _ = self.filters.shape
        if channels == 3:
            largest = np.abs(self.filters).max() or 1.0
            return np.moveaxis(0.5 + 0.5 * self.filters / largest, -1, 0)
        return np.moveaxis(self.filters, (3, 2), (0, 1)).reshape(-1, height, width)

    def _limits(self, pictures):
        largest = np.nanmax(np.abs(pictures), initial=0)
        return {"vmin": -largest, "vmax": largest}

    def _title(self):
        return f"Filters of {self.layer}" if self.layer else "Filters"


class FeatureMapDisplay(_Grid):
    """What a layer makes of an image: a picture of each channel.

    Use :meth:`from_estimator` to make one.

    Parameters
    ----------
    maps : ndarray of shape (height, width, n_channels)
    layer : str, default=None
        The name of the layer, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        With the pictures.
    figure_ : matplotlib Figure
        That the axes are in.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sknn import ConvClassifier
    >>> from sknn.plotting import FeatureMapDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ConvClassifier((8,), input_shape=(8, 8, 1), max_iter=3).fit(X / 16, y)
    >>> display = FeatureMapDisplay.from_estimator(clf, X[0] / 16)
    >>> display.maps.shape
    (8, 8, 8)
    """

    _cmap = "viridis"

    def __init__(self, maps, *, layer=None):
        self.maps = maps
        self.layer = layer

    @classmethod
    def from_estimator(cls, estimator, X, *, layer=None, **plot_params):
        """Show the maps of a layer of a fitted network.

        Parameters
        ----------
        estimator : fitted network
        X : array-like
            One image or signal, in the shape of a sample that the network takes.
        layer : str, default=None
            The name of a layer; None is the first convolution.
        **plot_params : dict
            Of :meth:`plot`.

        Returns
        -------
        display : FeatureMapDisplay
        """
        _check_network(estimator)
        if layer is None:
            layer = _choose_convolution(estimator, None)
        X = np.asarray(X)
        if X.ndim > 3:
            raise ValueError(
                f"X must be one image or signal, but has shape {X.shape}. Give one, such as X[0]."
            )
        features = estimator._forward(X[None], layer)
        shapes = {rows.name: shape_of(rows.output) for rows in estimator._program().layers}
        return cls(features.reshape(shapes[layer]), layer=layer).plot(**plot_params)

    def _pictures(self):
        return np.moveaxis(self.maps, -1, 0)

    def _limits(self, pictures):
        return {}

    def _title(self):
        return f"Maps of {self.layer}" if self.layer else "Maps"


def _check_network(estimator):
    if not isinstance(estimator, BaseNetwork):
        raise ValueError(
            f"Displays show fitted networks of sknn, such as a ConvClassifier, not "
            f"{type(estimator).__name__}. Of a pipeline, give the step that is one: pipeline[-1]."
        )
    check_is_fitted(estimator)


def _choose_convolution(estimator, layer):
    """The name of a convolution of a fitted network, by default of the first."""
    names = [
        name.removesuffix(".weights")
        for name, array in estimator.parameters_.items()
        if name.endswith(".weights") and array.ndim == 4
    ]
    if not names:
        raise ValueError(
            f"This {type(estimator).__name__} has no convolution to show. Fit a ConvClassifier, "
            "or a network with Conv layers."
        )
    if layer is None:
        return names[0]
    if layer not in names:
        raise ValueError(f"layer is {layer!r}, but the convolutions are {', '.join(names)}.")
    return layer


def _tiled(pictures, n_columns):
    """Pictures side by side, one empty pixel apart, as one."""
    n, height, width, *colours = pictures.shape
    n_rows = ceil(n / n_columns)
    whole = np.full((n_rows * (height + 1) - 1, n_columns * (width + 1) - 1, *colours), np.nan)
    if colours:
        whole[...] = 1.0
    for i, picture in enumerate(pictures):
        top, left = (height + 1) * (i // n_columns), (width + 1) * (i % n_columns)
        whole[top : top + height, left : left + width] = picture
    return whole


def _pyplot():
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays need matplotlib. Install it with: pip install 'sknn[demo]'"
        ) from error
    return plt
