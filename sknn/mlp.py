"""Multilayer perceptrons: scikit-learn's two estimators on the program core."""

from functools import lru_cache
from numbers import Integral, Real

from sknn import losses
from sknn._base import BaseNetwork
from sknn._compat import Interval, StrOptions
from sknn._docs import documented
from sknn._supervised import Classifier, Regressor
from sknn._validation import check_dropout, check_sizes
from sknn.architectures import NORMALIZATIONS, block
from sknn.layers import ACTIVATIONS, Dense, sequential


@lru_cache(maxsize=64)
def chain(layer_units, activation, loss, dropout=(), normalization=None):
    """The program of dense layers of these widths, from the features to the outputs.

    ``loss`` is a key of `losses.BY_NAME`; ``dropout`` has a rate for each hidden layer, or none
    at all.
    """
    n_features, *hidden, n_outputs = layer_units
    layers = []
    for i, units in enumerate(hidden, start=1):
        rate = dropout[i - 1] if dropout else 0
        layers += block(f"dense{i}", Dense(units), activation, normalization, rate)
    layers.append((f"dense{len(hidden) + 1}", Dense(n_outputs)))
    return sequential((n_features,), tuple(layers), losses.BY_NAME[loss])


class _MultilayerPerceptron(BaseNetwork):
    """What the two multilayer perceptrons share: their layers."""

    _parameter_constraints: dict = {
        **BaseNetwork._parameter_constraints,
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "normalization": [StrOptions(set(NORMALIZATIONS)), None],
    }

    def _check_design(self):
        sizes = check_sizes(self.hidden_layer_sizes)
        return sizes, check_dropout(self.dropout, len(sizes)), self.normalization

    def _design(self, asked, X, n_outputs, loss):
        sizes, self._dropout, self._normalization = asked
        self._layer_units = (X.shape[1], *sizes, n_outputs)
        self.n_layers_ = len(self._layer_units)

    def _check_same(self, asked, n_outputs, loss):
        super()._check_same(asked, n_outputs, loss)
        # other sizes are passed over, as in scikit-learn
        _, *now = asked
        if now != [self._dropout, self._normalization]:
            raise ValueError(
                "dropout or normalization was changed after the network was fitted, so training "
                f"cannot go on from its parameters. They are {now[0] or 0.0} and {now[1]!r}, and "
                f"were {self._dropout or 0.0} and {self._normalization!r}. Fit anew with "
                "warm_start=False."
            )

    def _gain(self):
        return 2.0 if self.activation == "logistic" else 6.0

    def _program(self):
        # the activation of now, as in scikit-learn
        return chain(
            tuple(self._layer_units), self.activation, self._loss_name, self._dropout,
            self._normalization,
        )  # fmt: skip

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@documented
class MLPClassifier(_MultilayerPerceptron, Classifier):
    """Multilayer perceptron for classification.

    Minimises the log-loss by L-BFGS or by stochastic gradient descent. A drop-in for
    :class:`sklearn.neural_network.MLPClassifier`: the same parameters, the same fitted
    attributes and, for the same ``random_state``, the same numbers. What is added comes
    after scikit-learn's parameters: ``dtype``, ``class_weight``, ``n_threads``, ``dropout``,
    ``normalization``, ``device`` and ``matmul_precision``.

    Parameters
    ----------
    {mlp_layers}

    {training}

    {mlp_dtype}

    {class_weight}

    {n_threads}

    {mlp_regularization}

    {device}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    {mlp_attributes}

    {attributes}

    See Also
    --------
    MLPRegressor : The same for numbers.
    Perceptron : A linear classifier by Rosenblatt's rule.

    References
    ----------
    {mlp_references}

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknn import MLPClassifier
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     *load_digits(return_X_y=True), random_state=0)
    >>> clf = make_pipeline(
    ...     StandardScaler(), MLPClassifier(max_iter=30, tol=0.01, random_state=0))
    >>> clf.fit(X_train, y_train).score(X_test, y_test)
    0.96...
    """

    _parameter_constraints: dict = {
        **_MultilayerPerceptron._parameter_constraints,
        **Classifier._parameter_constraints,
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
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
        dropout=0.0,
        normalization=None,
        device=None,
        matmul_precision="float32",
    ):
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
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
            dropout=dropout,
            normalization=normalization,
            device=device,
            matmul_precision=matmul_precision,
        )


@documented
class MLPRegressor(_MultilayerPerceptron, Regressor):
    """Multilayer perceptron for regression.

    Minimises the squared error or the Poisson deviance by L-BFGS or by stochastic gradient
    descent. A drop-in for :class:`sklearn.neural_network.MLPRegressor`: the same parameters,
    the same fitted attributes and, for the same ``random_state``, the same numbers. What is
    added comes after scikit-learn's parameters: ``dtype``, ``n_threads``, ``dropout``,
    ``normalization``, ``device`` and ``matmul_precision``.

    Parameters
    ----------
    {loss}

    {mlp_layers}

    {training}

    {mlp_dtype}

    {n_threads}

    {mlp_regularization}

    {device}

    Attributes
    ----------
    {mlp_attributes}

    {attributes}

    See Also
    --------
    MLPClassifier : The same for classes.

    References
    ----------
    {mlp_references}

    Examples
    --------
    >>> from sklearn.compose import TransformedTargetRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknn import MLPRegressor
    >>> network = MLPRegressor(
    ...     hidden_layer_sizes=10, activation="tanh", solver="lbfgs", alpha=10,
    ...     max_iter=500, random_state=0)
    >>> regressor = TransformedTargetRegressor(
    ...     make_pipeline(StandardScaler(), network), transformer=StandardScaler())
    >>> cross_val_score(regressor, *load_diabetes(return_X_y=True)).mean().round(2)
    np.float64(0.49)
    """

    _parameter_constraints: dict = {
        **_MultilayerPerceptron._parameter_constraints,
        **Regressor._parameter_constraints,
    }

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
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
        dropout=0.0,
        normalization=None,
        device=None,
        matmul_precision="float32",
    ):
        super().__init__(
            loss=loss,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
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
            dropout=dropout,
            normalization=normalization,
            device=device,
            matmul_precision=matmul_precision,
        )
