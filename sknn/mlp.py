"""Multilayer perceptrons: scikit-learn's two estimators on the program core."""

from functools import lru_cache
from numbers import Integral, Real

from sknn import losses
from sknn._base import BaseNetwork
from sknn._compat import Interval, StrOptions
from sknn._docs import documented
from sknn._supervised import Classifier, Regressor
from sknn._validation import check_dropout, check_hidden_layer_sizes
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


class _Perceptron(BaseNetwork):
    """What the two multilayer perceptrons share: their layers."""

    _parameter_constraints: dict = {
        **BaseNetwork._parameter_constraints,
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "normalization": [StrOptions(set(NORMALIZATIONS)), None],
    }

    def _check_design(self):
        sizes = check_hidden_layer_sizes(self.hidden_layer_sizes)
        return sizes, check_dropout(self.dropout, len(sizes)), self.normalization

    def _design(self, asked, X, n_outputs, loss):
        sizes, self._dropout, self._normalization = asked
        self._layer_units = (X.shape[1], *sizes, n_outputs)
        self.n_layers_ = len(self._layer_units)

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
class MLPClassifier(_Perceptron, Classifier):
    """Multilayer perceptron for classification.

    Minimises the log-loss by L-BFGS or by stochastic gradient descent. A drop-in for
    :class:`sklearn.neural_network.MLPClassifier`: the same parameters, the same fitted
    attributes and, for the same ``random_state``, the same numbers. What is added comes
    after scikit-learn's parameters: ``dtype``, ``class_weight``, ``n_threads``, ``dropout``,
    ``normalization``, ``device`` and ``matmul_precision``.

    Parameters
    ----------
    hidden_layer_sizes : array-like of shape (n_layers - 2,), default=(100,)
        Units of each hidden layer; ``()`` for none.

    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
        What hidden layers apply to their sums:

        - 'identity': x
        - 'logistic': 1 / (1 + exp(-x))
        - 'tanh': the hyperbolic tangent
        - 'relu': max(0, x)

    solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
        How the loss is minimised:

        - 'lbfgs': a quasi-Newton method over the whole data; often best below some thousand
          samples.
        - 'sgd': stochastic gradient descent with momentum [1]_.
        - 'adam': steps scaled by running moments of the gradient [2]_; a good default for
          thousands of samples and more.

    alpha : float, default=0.0001
        Strength of the squared penalty on the weights (not the intercepts). It is divided by
        the number of samples of a minibatch when added to the loss.

    batch_size : int, default='auto'
        Samples of a minibatch; 'auto' is ``min(200, n_samples)``. Not used by 'lbfgs'.

    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        Schedule of the learning rate. Only used when ``solver='sgd'``.

        - 'constant': ``learning_rate_init``.
        - 'invscaling': ``learning_rate_init / (t + 1) ** power_t`` after ``t`` samples.
        - 'adaptive': divided by 5 each time that ``n_iter_no_change`` epochs bring no
          improvement of at least ``tol``.

    learning_rate_init : float, default=0.001
        The initial learning rate. Only used when ``solver='sgd'`` or 'adam'.

    power_t : float, default=0.5
        Exponent of 'invscaling'. Only used when ``solver='sgd'``.

    max_iter : int, default=200
        Epochs at most, or iterations of 'lbfgs'.

    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch. Only used when ``solver='sgd'`` or
        'adam'.

    random_state : int, RandomState instance or None, default=None
        Draws the initial weights, the validation split and the shuffles. The same number
        gives the same model as scikit-learn's estimator.

    tol : float, default=1e-4
        An epoch counts as improvement if the loss falls, or the validation score rises, by
        this much.

    verbose : bool or int, default=False
        Whether to print the loss of each epoch.

    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last one.

    momentum : float, default=0.9
        Between 0 and 1. Only used when ``solver='sgd'``. With 0 and a sparse X, a minibatch
        costs in proportion to its nonzeros.

    nesterovs_momentum : bool, default=True
        Whether the momentum is Nesterov's. Only used when ``solver='sgd'`` and momentum > 0.

    early_stopping : bool, default=False
        Whether to hold out ``validation_fraction`` of the samples, stop when the score on
        them no longer improves, and end with the weights that scored best. Only used when
        ``solver='sgd'`` or 'adam'.

    validation_fraction : float, default=0.1
        Share of the samples that is held out. Only used with ``early_stopping``.

    beta_1 : float, default=0.9
        Decay of Adam's mean of the gradient, in [0, 1).

    beta_2 : float, default=0.999
        Decay of Adam's mean of the squared gradient, in [0, 1).

    epsilon : float, default=1e-8
        Added to the denominator of Adam.

    n_iter_no_change : int, default=10
        Epochs without improvement after which the fit stops. Only used when ``solver='sgd'``
        or 'adam'.

    max_fun : int, default=15000
        Evaluations of the loss at most. Only used when ``solver='lbfgs'``.

    dtype : {'float32', 'float64'} or None, default=None
        What the network computes in. None follows X as scikit-learn does: float32 stays,
        all else becomes float64. 'float32' is about twice as fast, takes half the memory,
        and is recommended unless numbers must equal scikit-learn's.

    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, multiplied into the sample weights. 'balanced' weighs a class
        by ``n_samples / (n_classes * its samples)``; `partial_fit` refuses it, since it does
        not see all samples.

    n_threads : int or None, default=None
        Threads of a fit or a prediction. None takes as many as the work is worth, at most
        the cores this process may use. Results are the same from run to run for the same
        number of threads, and differ by rounding between numbers.

    dropout : float or array-like of shape (n_layers - 2,), default=0.0
        Share of a hidden layer's outputs that is 0 at random in a training step, in [0, 1): one
        rate for all hidden layers or one for each [3]_. It makes large networks generalise
        better. Not for ``solver='lbfgs'``.

    normalization : {'batch', 'layer'} or None, default=None
        What is done to the sums of a hidden layer before its activation. It lets deep networks
        learn faster and at higher learning rates.

        - 'batch': mean 0 and variance 1 over the minibatch, then a scale and a shift that are
          learned [4]_. Predictions take running statistics (0.9 times the old, 0.1 times the
          minibatch's), and so does a minibatch of one sample. Not for ``solver='lbfgs'``.
        - 'layer': the same over the units of the layer, sample by sample [5]_.

    {device}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    best_loss_ : float or None
        The lowest loss of an epoch; None with ``early_stopping``.

    coefs_ : list of ndarray of shape (n_units, n_units_of_next_layer)
        Weights of each layer: views of one vector, which may be changed in place.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.

    intercepts_ : list of ndarray of shape (n_units_of_next_layer,)
        Biases of each layer: views of the same vector.

    loss_ : float
        The last epoch's loss.

    loss_curve_ : list of float
        The loss of each epoch. Not set by 'lbfgs'.

    n_features_in_ : int
        Number of features.

    n_iter_ : int
        Epochs or iterations of the last fit.

    n_layers_ : int
        Layers, the input and the output among them.

    n_outputs_ : int
        Width of the output layer.

    out_activation_ : str
        What the output layer applies to its sums: 'softmax' for several
        classes, 'logistic' for two or for multilabel targets.

    t_ : int
        Training samples seen, over all epochs.

    validation_scores_ : list of float or None
        The accuracy of each epoch on the samples held
        out; None without ``early_stopping``.

    best_validation_score_ : float or None
        The highest of them.

    See Also
    --------
    MLPRegressor : The same for numbers.
    Perceptron : A linear classifier by Rosenblatt's rule.

    References
    ----------
    .. [1] Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and
       momentum in deep learning", 2013.
    .. [2] Kingma and Ba, "Adam: A method for stochastic optimization", 2014,
       arXiv:1412.6980.
    .. [3] Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way
       to prevent neural networks from overfitting", 2014.
    .. [4] Ioffe and Szegedy, "Batch normalization: accelerating deep network training by
       reducing internal covariate shift", 2015, arXiv:1502.03167.
    .. [5] Ba, Kiros and Hinton, "Layer normalization", 2016, arXiv:1607.06450.

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
        **_Perceptron._parameter_constraints,
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
class MLPRegressor(_Perceptron, Regressor):
    """Multilayer perceptron for regression.

    Minimises the squared error or the Poisson deviance by L-BFGS or by stochastic gradient
    descent. A drop-in for :class:`sklearn.neural_network.MLPRegressor`: the same parameters,
    the same fitted attributes and, for the same ``random_state``, the same numbers. What is
    added comes after scikit-learn's parameters: ``dtype``, ``n_threads``, ``dropout``,
    ``normalization``, ``device`` and ``matmul_precision``.

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, default='squared_error'
        What is minimised: half the mean squared error, or half the Poisson deviance, which
        predicts ``exp`` of the outputs and takes no negative targets.

    hidden_layer_sizes : array-like of shape (n_layers - 2,), default=(100,)
        Units of each hidden layer; ``()`` for none.

    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
        What hidden layers apply to their sums:

        - 'identity': x
        - 'logistic': 1 / (1 + exp(-x))
        - 'tanh': the hyperbolic tangent
        - 'relu': max(0, x)

    solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
        How the loss is minimised:

        - 'lbfgs': a quasi-Newton method over the whole data; often best below some thousand
          samples.
        - 'sgd': stochastic gradient descent with momentum [1]_.
        - 'adam': steps scaled by running moments of the gradient [2]_; a good default for
          thousands of samples and more.

    alpha : float, default=0.0001
        Strength of the squared penalty on the weights (not the intercepts). It is divided by
        the number of samples of a minibatch when added to the loss.

    batch_size : int, default='auto'
        Samples of a minibatch; 'auto' is ``min(200, n_samples)``. Not used by 'lbfgs'.

    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        Schedule of the learning rate. Only used when ``solver='sgd'``.

        - 'constant': ``learning_rate_init``.
        - 'invscaling': ``learning_rate_init / (t + 1) ** power_t`` after ``t`` samples.
        - 'adaptive': divided by 5 each time that ``n_iter_no_change`` epochs bring no
          improvement of at least ``tol``.

    learning_rate_init : float, default=0.001
        The initial learning rate. Only used when ``solver='sgd'`` or 'adam'.

    power_t : float, default=0.5
        Exponent of 'invscaling'. Only used when ``solver='sgd'``.

    max_iter : int, default=200
        Epochs at most, or iterations of 'lbfgs'.

    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch. Only used when ``solver='sgd'`` or
        'adam'.

    random_state : int, RandomState instance or None, default=None
        Draws the initial weights, the validation split and the shuffles. The same number
        gives the same model as scikit-learn's estimator.

    tol : float, default=1e-4
        An epoch counts as improvement if the loss falls, or the validation score rises, by
        this much.

    verbose : bool or int, default=False
        Whether to print the loss of each epoch.

    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last one.

    momentum : float, default=0.9
        Between 0 and 1. Only used when ``solver='sgd'``. With 0 and a sparse X, a minibatch
        costs in proportion to its nonzeros.

    nesterovs_momentum : bool, default=True
        Whether the momentum is Nesterov's. Only used when ``solver='sgd'`` and momentum > 0.

    early_stopping : bool, default=False
        Whether to hold out ``validation_fraction`` of the samples, stop when the score on
        them no longer improves, and end with the weights that scored best. Only used when
        ``solver='sgd'`` or 'adam'.

    validation_fraction : float, default=0.1
        Share of the samples that is held out. Only used with ``early_stopping``.

    beta_1 : float, default=0.9
        Decay of Adam's mean of the gradient, in [0, 1).

    beta_2 : float, default=0.999
        Decay of Adam's mean of the squared gradient, in [0, 1).

    epsilon : float, default=1e-8
        Added to the denominator of Adam.

    n_iter_no_change : int, default=10
        Epochs without improvement after which the fit stops. Only used when ``solver='sgd'``
        or 'adam'.

    max_fun : int, default=15000
        Evaluations of the loss at most. Only used when ``solver='lbfgs'``.

    dtype : {'float32', 'float64'} or None, default=None
        What the network computes in. None follows X as scikit-learn does: float32 stays,
        all else becomes float64. 'float32' is about twice as fast, takes half the memory,
        and is recommended unless numbers must equal scikit-learn's.

    n_threads : int or None, default=None
        Threads of a fit or a prediction. None takes as many as the work is worth, at most
        the cores this process may use. Results are the same from run to run for the same
        number of threads, and differ by rounding between numbers.

    dropout : float or array-like of shape (n_layers - 2,), default=0.0
        Share of a hidden layer's outputs that is 0 at random in a training step, in [0, 1): one
        rate for all hidden layers or one for each [3]_. It makes large networks generalise
        better. Not for ``solver='lbfgs'``.

    normalization : {'batch', 'layer'} or None, default=None
        What is done to the sums of a hidden layer before its activation. It lets deep networks
        learn faster and at higher learning rates.

        - 'batch': mean 0 and variance 1 over the minibatch, then a scale and a shift that are
          learned [4]_. Predictions take running statistics (0.9 times the old, 0.1 times the
          minibatch's), and so does a minibatch of one sample. Not for ``solver='lbfgs'``.
        - 'layer': the same over the units of the layer, sample by sample [5]_.

    {device}

    Attributes
    ----------
    best_loss_ : float or None
        The lowest loss of an epoch; None with ``early_stopping``.

    coefs_ : list of ndarray of shape (n_units, n_units_of_next_layer)
        Weights of each layer: views of one vector, which may be changed in place.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.

    intercepts_ : list of ndarray of shape (n_units_of_next_layer,)
        Biases of each layer: views of the same vector.

    loss_ : float
        The last epoch's loss.

    loss_curve_ : list of float
        The loss of each epoch. Not set by 'lbfgs'.

    n_features_in_ : int
        Number of features.

    n_iter_ : int
        Epochs or iterations of the last fit.

    n_layers_ : int
        Layers, the input and the output among them.

    n_outputs_ : int
        Width of the output layer.

    out_activation_ : str
        What the output layer applies to its sums: 'identity', or 'exp'
        for the Poisson deviance.

    t_ : int
        Training samples seen, over all epochs.

    validation_scores_ : list of float or None
        The coefficient of determination of each epoch on the samples held
        out; None without ``early_stopping``.

    best_validation_score_ : float or None
        The highest of them.

    See Also
    --------
    MLPClassifier : The same for classes.

    References
    ----------
    .. [1] Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and
       momentum in deep learning", 2013.
    .. [2] Kingma and Ba, "Adam: A method for stochastic optimization", 2014,
       arXiv:1412.6980.
    .. [3] Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way
       to prevent neural networks from overfitting", 2014.
    .. [4] Ioffe and Szegedy, "Batch normalization: accelerating deep network training by
       reducing internal covariate shift", 2015, arXiv:1502.03167.
    .. [5] Ba, Kiros and Hinton, "Layer normalization", 2016, arXiv:1607.06450.

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
        **_Perceptron._parameter_constraints,
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
