"""Networks of any list of layers."""

from sknn._docs import documented
from sknn._layered import LayeredNetwork
from sknn._nested import NestedLayers, named
from sknn._supervised import Classifier, Regressor
from sknn.layers import Dense


class _Network(NestedLayers, LayeredNetwork):
    """What the classifier and the regressor share: a list of layers as a parameter."""

    _parameter_constraints: dict = {
        **LayeredNetwork._parameter_constraints,
        "layers": [list, tuple],
    }

    def _layers(self):
        pairs = named(self.layers)
        taken = sorted({name for name, _ in pairs} & set(self.get_params(deep=False)))
        if taken:
            raise ValueError(
                f"Layers are called {taken}, as parameters of {type(self).__name__} are. Rename "
                "them."
            )
        return pairs

    @property
    def _accepts_sparse(self):
        first = named(self.layers, check=False)[:1]
        return bool(first) and isinstance(first[0][1], Dense)


@documented
class NetworkClassifier(_Network, Classifier):
    """A network of any list of layers for classification.

    Parameters
    ----------
    layers : list of layers or (name, layer) pairs
        From the input to the last hidden layer, of :mod:`sknn.layers`; the output layer, called
        'output', is appended. Layers without a name are called after their kind and number,
        such as 'conv1'. Names reach the parameters of layers: ``conv1__filters``.

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
    NetworkRegressor : The same for numbers.
    ConvClassifier : Convolutions and dense layers from parameters that a search can tune.
    sknn.architectures : Lists of layers that are known to work.

    Notes
    -----
    X is (n_samples, height, width, channels), (n_samples, length, channels) or
    (n_samples, n_features). Images of bytes (uint8) are read where they lie and never made
    larger; they are scaled by 1/255, and so is every X that is predicted later.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sknn import NetworkClassifier
    >>> from sknn.layers import Activation, BatchNorm, Conv, Dense, MaxPool
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     X.reshape(-1, 8, 8, 1) / 16, y, random_state=0)
    >>> layers = [Conv(16), BatchNorm(), Activation("relu"), MaxPool(2), Dense(32, "relu")]
    >>> clf = NetworkClassifier(
    ...     layers, max_iter=20, learning_rate_init=0.005, tol=0.01, random_state=0)
    >>> clf.fit(X_train, y_train).score(X_test, y_test)
    0.98...
    >>> print(clf.summary())
    layer        kind        output      parameters   flops   bytes
    input                    8 x 8 x 1
    conv1        Conv        8 x 8 x 16         160  18,432   8,192
    batchnorm1   BatchNorm   8 x 8 x 16          32       0   8,192
    activation1  Activation  8 x 8 x 16           0       0   8,192
    maxpool1     MaxPool     4 x 4 x 16           0       0   2,304
    dense1       Dense       32               8,224  16,384     256
    output       Dense       10                 330     640      80
    total                    10               8,746  35,456  27,216
    """

    _parameter_constraints: dict = {
        **_Network._parameter_constraints,
        **Classifier._parameter_constraints,
    }

    def __init__(
        self,
        layers,
        *,
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
            layers=layers,
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
class NetworkRegressor(_Network, Regressor):
    """A network of any list of layers for regression.

    Parameters
    ----------
    layers : list of layers or (name, layer) pairs
        From the input to the last hidden layer, of :mod:`sknn.layers`; the output layer, called
        'output', is appended. Layers without a name are called after their kind and number,
        such as 'conv1'. Names reach the parameters of layers: ``conv1__filters``.

    {loss}

    {input_shape}

    {initializer}

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
    NetworkClassifier : The same for classes, with remarks on X.
    ConvRegressor : Convolutions and dense layers from parameters that a search can tune.

    Examples
    --------
    >>> import numpy as np
    >>> from sknn import NetworkRegressor
    >>> from sknn.layers import Dense, Residual
    >>> X = np.random.default_rng(0).uniform(-2, 2, (300, 1))
    >>> y = np.sin(3 * X[:, 0])
    >>> layers = [Dense(32, "tanh"), Residual([Dense(32, "tanh")])]
    >>> regressor = NetworkRegressor(layers, solver="lbfgs", random_state=0)
    >>> regressor.fit(X[:200], y[:200]).score(X[200:], y[200:])
    0.99...
    """

    _parameter_constraints: dict = {
        **_Network._parameter_constraints,
        **Regressor._parameter_constraints,
    }

    def __init__(
        self,
        layers,
        *,
        loss="squared_error",
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
        n_threads=None,
        device=None,
        matmul_precision="float32",
        transform_layer=None,
        pretrained=None,
        frozen_layers=(),
    ):
        super().__init__(
            layers=layers,
            loss=loss,
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
            n_threads=n_threads,
            device=device,
            matmul_precision=matmul_precision,
            transform_layer=transform_layer,
            pretrained=pretrained,
            frozen_layers=frozen_layers,
        )
