"""Convolutional networks from parameters that a search can tune."""

from numbers import Integral, Real

from sknn._compat import Interval, StrOptions
from sknn._docs import documented
from sknn._layered import LayeredNetwork
from sknn._supervised import Classifier, Regressor
from sknn._validation import check_dropout, check_sizes
from sknn.architectures import NORMALIZATIONS, block, residual_pair
from sknn.layers import ACTIVATIONS, AveragePool, Conv, Dense, GlobalAveragePool, MaxPool

POOLINGS = {"max": MaxPool, "average": AveragePool}


class _Convolutional(LayeredNetwork):
    """What the classifier and the regressor share: the layers that their parameters mean."""

    _parameter_constraints: dict = {
        **LayeredNetwork._parameter_constraints,
        "filters": ["array-like", Interval(Integral, 1, None, closed="left")],
        "kernel_size": ["array-like", Interval(Integral, 1, None, closed="left")],
        "strides": ["array-like", Interval(Integral, 1, None, closed="left")],
        "padding": [StrOptions({"same", "valid"})],
        "pooling": [StrOptions(set(POOLINGS)), None],
        "pool_size": ["array-like", Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "normalization": [StrOptions(set(NORMALIZATIONS)), None],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "residual": ["boolean"],
        "global_pooling": ["boolean"],
    }
    _rows_are_signals = True

    def _layers(self):
        layers = []
        filters = check_sizes(self.filters, "filters", "filters", "(32, 64)")
        for i, n in enumerate(filters, start=1):
            layers += self._convolutions(i, n)
            if self.pooling is not None:
                layers.append((f"pool{i}", POOLINGS[self.pooling](self.pool_size)))
        if self.global_pooling:
            layers.append(("global_pool", GlobalAveragePool()))
        units = check_sizes(self.hidden_layer_sizes)
        rates = check_dropout(self.dropout, len(units)) or [0] * len(units)
        for i, (n, rate) in enumerate(zip(units, rates, strict=True), start=1):
            layers += block(f"dense{i}", Dense(n), self.activation, self.normalization, rate)
        return layers

    def _convolutions(self, i, filters):
        """One or, with a residual connection, two, with normalisation and activation."""
        first = self._conv(filters, self.strides)
        if not self.residual:
            return block(f"conv{i}", first, self.activation, self.normalization)
        pair = residual_pair(first, self._conv(filters), self.activation, self.normalization)
        return block(f"residual{i}", pair, self.activation)

    def _conv(self, filters, strides=1):
        return Conv(filters, self.kernel_size, strides=strides, padding=self.padding)


@documented
class ConvClassifier(_Convolutional, Classifier):
    """Convolutional network for classification of images, signals and tables of signals.

    A convolution for each number in ``filters``, each followed by a pooling, then dense
    layers. For other networks, see :class:`NetworkClassifier`.

    Parameters
    ----------
    filters : int or tuple of int, default=(32, 64)
        Channels of each convolution. After each comes a pooling.

    {convolutions}

    {input_shape}

    {initializer}

    {training}

    {dtype}

    {class_weight}

    {n_threads}

    {device}

    {transfer}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    {layered_attributes}

    {attributes}

    See Also
    --------
    NetworkClassifier : Any list of layers; its notes on X hold here, too.
    ConvRegressor : The same for numbers.

    Notes
    -----
    A 2-D X without ``input_shape`` is taken as signals of one channel.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sknn import ConvClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> clf = ConvClassifier(
    ...     filters=(16, 32), hidden_layer_sizes=64, input_shape=(8, 8, 1), max_iter=30,
    ...     learning_rate_init=0.005, random_state=0)
    >>> clf.fit(X_train, y_train).score(X_test, y_test)
    0.99...
    """

    _parameter_constraints: dict = {
        **_Convolutional._parameter_constraints,
        **Classifier._parameter_constraints,
    }

    def __init__(
        self,
        filters=(32, 64),
        *,
        kernel_size=3,
        strides=1,
        padding="same",
        pooling="max",
        pool_size=2,
        hidden_layer_sizes=(128,),
        activation="relu",
        normalization=None,
        dropout=0.0,
        residual=False,
        global_pooling=False,
        input_shape=None,
        initializer="glorot",
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        dtype=None,
        class_weight=None,
        n_threads=None,
        device=None,
        matmul_precision="float32",
        transform_layer=None,
        pretrained=None,
        frozen_layers=(),
    ):
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            pooling=pooling,
            pool_size=pool_size,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            normalization=normalization,
            dropout=dropout,
            residual=residual,
            global_pooling=global_pooling,
            input_shape=input_shape,
            initializer=initializer,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            dtype=dtype,
            class_weight=class_weight,
            n_threads=n_threads,
            device=device,
            matmul_precision=matmul_precision,
            transform_layer=transform_layer,
            pretrained=pretrained,
            frozen_layers=frozen_layers,
        )


@documented
class ConvRegressor(_Convolutional, Regressor):
    """Convolutional network for regression of images, signals and tables of signals.

    A convolution for each number in ``filters``, each followed by a pooling, then dense
    layers. For other networks, see :class:`NetworkRegressor`.

    Parameters
    ----------
    filters : int or tuple of int, default=(32, 64)
        Channels of each convolution. After each comes a pooling.

    {convolutions}

    {input_shape}

    {initializer}

    {loss}

    {training}

    {dtype}

    {n_threads}

    {device}

    {transfer}

    Attributes
    ----------
    {layered_attributes}

    {attributes}

    See Also
    --------
    NetworkRegressor : Any list of layers.
    ConvClassifier : The same for classes.

    Examples
    --------
    How wide a bump in a noisy signal is:

    >>> import numpy as np
    >>> from sknn import ConvRegressor
    >>> rng = np.random.default_rng(0)
    >>> y, t = rng.uniform(1, 5, 600), np.arange(64)
    >>> X = np.exp(-((t - rng.uniform(16, 48, (600, 1))) / y[:, None]) ** 2)
    >>> X += 0.05 * rng.standard_normal(X.shape)
    >>> regressor = ConvRegressor(
    ...     filters=(8, 16), global_pooling=True, learning_rate_init=0.01, max_iter=60,
    ...     random_state=0)
    >>> regressor.fit(X[:400], y[:400]).score(X[400:], y[400:])
    0.9...
    """

    _parameter_constraints: dict = {
        **_Convolutional._parameter_constraints,
        **Regressor._parameter_constraints,
    }

    def __init__(
        self,
        filters=(32, 64),
        *,
        kernel_size=3,
        strides=1,
        padding="same",
        pooling="max",
        pool_size=2,
        hidden_layer_sizes=(128,),
        activation="relu",
        normalization=None,
        dropout=0.0,
        residual=False,
        global_pooling=False,
        input_shape=None,
        initializer="glorot",
        loss="squared_error",
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        dtype=None,
        n_threads=None,
        device=None,
        matmul_precision="float32",
        transform_layer=None,
        pretrained=None,
        frozen_layers=(),
    ):
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            pooling=pooling,
            pool_size=pool_size,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            normalization=normalization,
            dropout=dropout,
            residual=residual,
            global_pooling=global_pooling,
            input_shape=input_shape,
            initializer=initializer,
            loss=loss,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            dtype=dtype,
            n_threads=n_threads,
            device=device,
            matmul_precision=matmul_precision,
            transform_layer=transform_layer,
            pretrained=pretrained,
            frozen_layers=frozen_layers,
        )
