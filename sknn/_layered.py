"""What networks of any layers share: images and signals, features, and a start from others."""

from dataclasses import replace

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from sknn._base import BaseNetwork
from sknn._chain import Chain, summarize, up_to
from sknn._compat import StrOptions
from sknn._device import check_device_X
from sknn._docs import documented
from sknn._samples import check_input_shape, check_samples, check_shape, choose_shape
from sknn._state import get_parameters, named_statistics
from sknn._validation import is_on_gpu
from sknn.initializers import BIASES
from sknn.layers import Dense

BYTE_SCALE = 1 / 255
OUTPUT = "output"  # name of the layer that the estimator appends


class LayeredNetwork(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseNetwork):
    """A network of a list of layers, over images, signals or tables."""

    _parameter_constraints: dict = {
        **BaseNetwork._parameter_constraints,
        "input_shape": ["array-like", None],
        "initializer": [StrOptions(set(BIASES))],
        "transform_layer": [str, None],
        "pretrained": [FrozenEstimator, dict, None],
        "frozen_layers": ["array-like"],
    }
    _rows_are_signals = False  # whether a row of a 2-D X is a signal of one channel
    _accepts_sparse = False  # whether a new network takes a sparse X

    # ---- the network ----------------------------------------------------------------------

    def _layers(self):
        """(name, layer) pairs before the output layer."""
        raise NotImplementedError

    def _check_design(self):
        layers = self._layers()
        names = [name for name, _ in layers]
        if OUTPUT in names:
            raise ValueError(
                f"A layer is called {OUTPUT!r}, the name of the layer that is appended. Rename it."
            )
        unknown = sorted(set(self.frozen_layers) - {*names, OUTPUT})
        if unknown:
            raise ValueError(f"frozen_layers has {unknown}, but the layers are {names}.")
        return layers

    def _design(self, asked, X, n_outputs, loss):
        layers = (*clone(asked, safe=False), (OUTPUT, Dense(n_outputs)))
        self._chain = Chain(
            self.input_shape_, layers, loss, self.input_scale_, self._frozen(), self.initializer
        )
        self._check_transform_layer()

    def _frozen(self):
        """Names of the frozen layers, in an order of their own."""
        return tuple(sorted(self.frozen_layers))

    def _program(self):
        return self._chain.program

    def _check_same(self, asked, n_outputs, loss):
        super()._check_same(asked, n_outputs, loss)
        if tuple(asked) != self._chain.layers[:-1]:
            raise _changed("The layers were changed")
        old = new = self.input_shape_
        if self.input_shape is not None:
            new = check_input_shape(self.input_shape)
        if new != old:
            raise _changed(f"input_shape was changed from {old} to {new}")
        if self._frozen() != self._chain.frozen:
            self._chain = replace(self._chain, frozen=self._frozen())
        self._check_transform_layer()

    def _check_transform_layer(self):
        if self.transform_layer is not None:
            up_to(self._program(), self.transform_layer)

    # ---- X --------------------------------------------------------------------------------

    def _check_X(self, X, *, reset, **y_options):
        if is_on_gpu(X):
            checked = check_device_X(self, X.reshape(len(X), -1), reset, **y_options)
            X, *y, shape = *(checked if y_options else (checked,)), X.shape[1:]
        else:
            accept_sparse = not reset or self._accepts_sparse  # a fitted program says it itself
            X, *y, shape = check_samples(
                self, X, reset=reset, accept_sparse=accept_sparse, **y_options
            )
        if reset:
            self.input_shape_ = choose_shape(shape, self.input_shape, self._rows_are_signals)
            self.input_scale_ = BYTE_SCALE if X.dtype == np.uint8 else 1.0
            self.n_features_in_ = X.shape[1]
        else:
            check_shape(shape, self.input_shape_)
        return (X, *y) if y else X

    def _dtype_of(self, X):
        return np.dtype(np.float32) if X.dtype == np.uint8 else super()._dtype_of(X)

    # ---- a start from another network -----------------------------------------------------

    def _take_pretrained(self, program, parameters, state):
        if self.pretrained is None:
            return
        own = dict(zip(program.names, program.views(parameters), strict=True))
        own.update(named_statistics(program, state))
        if isinstance(self.pretrained, dict):
            given = self.pretrained
            if unknown := sorted(set(given) - set(own)):
                raise ValueError(
                    f"pretrained has {unknown}, but the network's arrays are {sorted(own)}."
                )
        else:
            given = _arrays_of(self.pretrained.estimator, own)
        for name, array in given.items():
            if np.shape(array) != own[name].shape:
                raise ValueError(
                    f"pretrained has {name!r} of shape {np.shape(array)}, but the network needs "
                    f"{own[name].shape}. Rename the layer, or make its size the same."
                )
            own[name][...] = array

    @property
    def statistics_(self):
        """Running means and variances of batch normalisations by name: views of one vector."""
        check_is_fitted(self)
        return named_statistics(self._program(), self._state)

    # ---- features -------------------------------------------------------------------------

    def _feature_layer(self):
        """The layer that `transform` gives the output of."""
        if self.transform_layer is not None:
            return self.transform_layer
        if len(self._chain.layers) == 1:
            raise ValueError(
                f"This {type(self).__name__} has no layer before its output layer to take "
                f"features of. Add one, or set transform_layer={OUTPUT!r}."
            )
        return self._chain.layers[-2][0]

    @property
    def _n_features_out(self):
        try:
            return self._count_features()
        except ValueError as error:  # dir(), and so a notebook, looks at all properties
            raise AttributeError(str(error)) from error

    def _count_features(self):
        return int(up_to(self._program(), self._feature_layer()).output["channels"])

    def get_feature_names_out(self, input_features=None):
        """Names of what `transform` gives: the name of the class in lower case, and a number.

        Parameters
        ----------
        input_features : None
            Only there for scikit-learn.

        Returns
        -------
        names : ndarray of str

        Raises
        ------
        NotFittedError
            If the network was not fitted.
        ValueError
            If it has no layer before its output.
        """
        check_is_fitted(self)
        self._count_features()  # or says why there are none
        return super().get_feature_names_out(input_features)

    @documented
    def transform(self, X):
        """Features that the network makes of X: the output of ``transform_layer``.

        Parameters
        ----------
        {samples}

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            The pixels of maps one after the other, each with all its channels.

        {prediction_raises}

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sknn import ConvClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> images = X.reshape(-1, 8, 8, 1)
        >>> clf = ConvClassifier((4,), hidden_layer_sizes=(20,), max_iter=1).fit(images, y)
        >>> clf.transform(images).shape
        (1797, 20)
        """
        check_is_fitted(self)
        return self._forward(X, self._feature_layer())

    def summary(self):
        """The layers with their output shapes, parameters and cost per sample.

        Returns
        -------
        summary : Summary
            ``print`` shows a table; ``summary.layers`` and ``summary.total`` have the numbers.

        Raises
        ------
        NotFittedError
            If the network was not fitted.
        """
        check_is_fitted(self)
        return summarize(self._chain, get_parameters(self, self._program()).dtype)

    # ---- scikit-learn ---------------------------------------------------------------------

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._accepts_sparse
        tags.input_tags.three_d_array = True
        computed = [self.dtype] if self.dtype else ["float64", "float32"]
        computed = ["float64"] if self.dtype is None and self.solver == "lbfgs" else computed
        tags.transformer_tags.preserves_dtype = computed
        return tags


def _changed(what):
    return ValueError(
        f"{what} after the network was fitted, so training cannot go on from its parameters. Fit "
        "anew with warm_start=False."
    )


def _arrays_of(estimator, own):
    """Arrays of a fitted network that another has by the same name, but for the output's."""
    check_is_fitted(estimator)
    if not isinstance(estimator, BaseNetwork):
        raise ValueError(
            f"pretrained holds a {type(estimator).__name__}. Give a fitted network of sknn in a "
            "FrozenEstimator, or a dict of arrays."
        )
    arrays = {**estimator.parameters_, **getattr(estimator, "statistics_", {})}
    output_layer = estimator._program().layers[-1].name
    offered = {name: a for name, a in arrays.items() if not name.startswith(f"{output_layer}.")}
    shared = {name: array for name, array in offered.items() if name in own}
    if not shared:
        names = f"the arrays {', '.join(sorted(offered))}" if offered else "no arrays"
        raise ValueError(
            f"The network in pretrained has {names} besides those of its output layer. This one "
            f"takes what has the same name, and has {', '.join(sorted(own))}. Give layers that it "
            "shall take the same name."
        )
    return shared
