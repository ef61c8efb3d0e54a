"""Documentation that several estimators share, written once."""

import inspect
from textwrap import indent

TRAINING = """
solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
    How the loss is minimised:

    - 'lbfgs': a quasi-Newton method over the whole data; often best below some thousand
      samples. Not for networks with dropout or batch normalisation.
    - 'sgd': stochastic gradient descent with momentum.
    - 'adam': steps scaled by running moments of the gradient; a good default for
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
    Draws the initial weights, the validation split, the shuffles and what dropout drops. The
    same number gives the same network.

tol : float, default=1e-4
    An epoch counts as improvement if the loss falls, or the validation score rises, by
    this much. 'lbfgs' ends where no component of the gradient is larger.

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
"""

DTYPE = """
dtype : {'float32', 'float64'} or None, default=None
    What the network computes in. None takes float32 for X of float32 or uint8, else float64.
    'float32' is about twice as fast, takes half the memory, and is recommended.
"""

MLP_DTYPE = """
dtype : {'float32', 'float64'} or None, default=None
    What the network computes in. None follows X as scikit-learn does: float32 stays,
    all else becomes float64. 'float32' is about twice as fast, takes half the memory,
    and is recommended unless numbers must equal scikit-learn's.
"""

N_THREADS = """
n_threads : int or None, default=None
    Threads of a fit or a prediction. None takes as many as the work is worth, at most
    the cores this process may use. Results are the same from run to run for the same
    number of threads, and differ by rounding between numbers.
"""

DEVICE = """
device : {'cpu', 'cuda', 'cuda:N'} or None, default=None
    Where the network trains and predicts: on the CPU, on the first GPU of NVIDIA, or on
    GPU N. None follows X: a CuPy array trains on its GPU, all else on the CPU. A GPU needs
    CuPy (``pip install 'sknn[cuda13]'`` or ``'sknn[cuda12]'``). Fitted attributes are NumPy
    arrays, and a model trained on a GPU predicts on a machine without one.

matmul_precision : {'float32', 'tf32', 'bfloat16'}, default='float32'
    How matrix products are computed on a GPU when computing in float32: in full, or with
    factors that may be rounded to 11 ('tf32') or 8 bits ('bfloat16') on their way into the
    product, which is several times as fast. Sums and all arrays stay float32.
"""

CLASS_WEIGHT = """
class_weight : dict, 'balanced' or None, default=None
    Weights of the classes, multiplied into the sample weights. 'balanced' weighs a class
    by ``n_samples / (n_classes * its samples)``; `partial_fit` refuses it, since it does
    not see all samples. A label indicator matrix takes 'balanced' alone: the weights of a
    row's columns are multiplied.
"""

INPUT_SHAPE = """
input_shape : tuple of int or None, default=None
    (height, width, channels), (length, channels) or (features,) of a sample; None takes it
    from X. With it, X may have its samples flattened.
"""

INITIALIZER = """
initializer : {'fan_in', 'glorot', 'he', 'lecun'}, default='glorot'
    How dense layers that do not say it themselves start, the output layer among them. Weights
    are drawn uniformly within

    - 'fan_in': ``1 / sqrt(n)`` for n inputs, and so are the biases. Outputs start small, which
      helps where many maps are flattened, and where there is much to learn.
    - 'glorot': ``sqrt(6 / (n + m))`` for m outputs, and so are the biases, as scikit-learn's
      multilayer perceptrons start; often faster at first.
    - 'he': ``sqrt(6 / n)``, which keeps the variance through rectifiers, as convolutions start.
    - 'lecun': ``sqrt(3 / n)``, which keeps the variance through sums alone.

    With the last two, biases start at 0.
"""

MLP_LAYERS = """
hidden_layer_sizes : array-like of shape (n_layers - 2,), default=(100,)
    Units of each hidden layer; ``()`` for none.

activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
    What hidden layers apply to their sums:

    - 'identity': x
    - 'logistic': 1 / (1 + exp(-x))
    - 'tanh': the hyperbolic tangent
    - 'relu': max(0, x)
"""

MLP_REGULARIZATION = """
dropout : float or array-like of shape (n_layers - 2,), default=0.0
    Share of a hidden layer's outputs that is 0 at random in a training step, in [0, 1): one
    rate for all hidden layers or one for each. It makes large networks generalise
    better. Not for ``solver='lbfgs'``.

normalization : {'batch', 'layer'} or None, default=None
    What is done to the sums of a hidden layer before its activation. It lets deep networks
    learn faster and at higher learning rates.

    - 'batch': mean 0 and variance 1 over the minibatch, then a scale and a shift that are
      learned. Predictions take running statistics (0.9 times the old, 0.1 times the
      minibatch's), and so does a minibatch of one sample. Not for ``solver='lbfgs'``.
    - 'layer': the same over the units of the layer, sample by sample.
"""

MLP_REFERENCES = """
Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep
learning", 2013.

Kingma and Ba, "Adam: A method for stochastic optimization", 2014, arXiv:1412.6980.

Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to prevent
neural networks from overfitting", 2014.

Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal
covariate shift", 2015, arXiv:1502.03167.

Ba, Kiros and Hinton, "Layer normalization", 2016, arXiv:1607.06450.
"""

CONVOLUTIONS = """
kernel_size : int or tuple of int, default=3
    Pixels that a filter reads along each axis.

strides : int or tuple of int, default=1
    Pixels from one place of a filter to the next.

padding : {'same', 'valid'}, default='same'
    'same' puts zeros around the maps, so that a stride of 1 keeps their size.

pooling : {'max', 'average'} or None, default='max'
    What is taken of each window of ``pool_size`` pixels.

pool_size : int or tuple of int, default=2
    Pixels of a window along each axis; a window is never larger than the map, so that
    short signals and small images keep one position.

hidden_layer_sizes : int or tuple of int, default=(128,)
    Units of the dense layers after the convolutions; ``()`` for none.

activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
    What hidden layers apply to their sums.

normalization : {'batch', 'layer'} or None, default=None
    What is done to the sums of hidden layers before their activation. 'batch' lets deep
    networks learn faster and at higher learning rates.

dropout : float or list of float, default=0.0
    Share of the outputs of a dense layer that is 0 at random in a training step: one rate
    for all or one for each.

residual : bool, default=False
    Whether each convolution is followed by a second one, and the input of both is added to
    what they make. It lets deep networks learn; normalise with it.

global_pooling : bool, default=False
    Whether the dense layers read the mean of each map rather than all pixels: far fewer
    parameters, and no matter where in the image something is.
"""

LOSS = """
loss : {'squared_error', 'poisson'}, default='squared_error'
    What is minimised: half the mean squared error, or half the Poisson deviance, which
    predicts ``exp`` of the outputs and takes no negative targets.
"""

TRANSFER = """
transform_layer : str or None, default=None
    The layer whose output `transform` gives; None is the last before the output layer.

pretrained : FrozenEstimator, dict or None, default=None
    What the network starts from: a fitted network in a
    :class:`sklearn.frozen.FrozenEstimator`, whose layers are taken where their names are the
    same (but for the output layer), or a dict of arrays, as ``parameters_`` has them.

frozen_layers : list of str, default=()
    Names of layers that are not trained. The running statistics of a frozen batch
    normalisation still follow the data. A warm start and `partial_fit` go by what it is then,
    so that layers can be frozen at first and trained later.
"""

MLP_ATTRIBUTES = """
coefs_ : list of ndarray of shape (n_units, n_units_of_next_layer)
    Weights of each layer: views of one vector, which may be changed in place.

n_layers_ : int
    Layers, the input and the output among them.
"""

LAYERED_ATTRIBUTES = """
coefs_ : list of ndarray
    Weights of the layers that have some, in the order of the network: (units before, units) of
    a dense layer, (height, width, channels, filters) of a convolution. Views of one vector,
    which may be changed in place.

input_scale_ : float
    What X is multiplied by, here and in predictions: 1/255 if the network was fitted with
    bytes (uint8), else 1.

input_shape_ : tuple of int
    The shape of a sample.

statistics_ : dict
    Running means and variances of batch normalisations by name: views of one vector.
"""

ATTRIBUTES = """
best_loss_ : float or None
    The lowest loss of an epoch; None with ``early_stopping``. Not set by 'lbfgs'.

best_validation_score_ : float or None
    The highest of ``validation_scores_``; None without ``early_stopping``. Not set by 'lbfgs'.

feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of the features, if X had names that are all strings.

intercepts_ : list of ndarray of shape (n_units,)
    Biases of the same layers: views of the same vector.

loss_ : float
    The last epoch's loss.

loss_curve_ : list of float
    The loss of each epoch. Not set by 'lbfgs'.

n_features_in_ : int
    Number of features: all numbers of a sample.

n_iter_ : int
    Epochs or iterations of the last fit.

n_outputs_ : int
    Width of the output layer.

out_activation_ : {'softmax', 'logistic', 'identity', 'exp'}
    What the output layer applies to its sums: 'softmax' for several classes, 'logistic' for two
    and for multilabel targets; in regression 'identity', or 'exp' for the Poisson deviance.

parameters_ : dict
    All parameters by name, such as 'dense1.weights': views of the same vector.

t_ : int
    Training samples seen, over all epochs.

validation_scores_ : list of float or None
    The accuracy or the coefficient of determination of each epoch on the samples held out; None
    without ``early_stopping``. Not set by 'lbfgs'.
"""

SAMPLES = """
X : {array-like, sparse matrix} of shape (n_samples, ...)
    Samples. For networks that begin with a dense layer, as multilayer perceptrons do, a table of
    shape (n_samples, n_features), which may be sparse. For those that begin with a convolution
    images, (n_samples, height, width, channels), or signals, (n_samples, length, channels); also
    flattened, if the estimator has an ``input_shape``.
"""

SAMPLE_WEIGHT = """
sample_weight : array-like of shape (n_samples,), default=None
    Weights of the samples in the loss.
"""

PREDICTION_RAISES = """
Raises
------
NotFittedError
    If the network was not fitted.
ValueError
    If the samples have another shape than in `fit`, if a number is NaN or infinite, or if
    ``n_threads`` or an array that was put into ``coefs_`` is not accepted.
"""

SHARED = {
    "training": TRAINING,
    "dtype": DTYPE,
    "n_threads": N_THREADS,
    "class_weight": CLASS_WEIGHT,
    "loss": LOSS,
    "device": DEVICE,
    "mlp_layers": MLP_LAYERS,
    "mlp_dtype": MLP_DTYPE,
    "mlp_regularization": MLP_REGULARIZATION,
    "mlp_attributes": MLP_ATTRIBUTES,
    "mlp_references": MLP_REFERENCES,
    "input_shape": INPUT_SHAPE,
    "initializer": INITIALIZER,
    "convolutions": CONVOLUTIONS,
    "transfer": TRANSFER,
    "layered_attributes": LAYERED_ATTRIBUTES,
    "attributes": ATTRIBUTES,
    "samples": SAMPLES,
    "sample_weight": SAMPLE_WEIGHT,
    "prediction_raises": PREDICTION_RAISES,
}


def documented(item):
    """Fill ``{training}`` and the like in the docstring of a class or function."""
    if item.__doc__ is not None:  # python -OO
        text = inspect.getdoc(item)
        for name, shared in SHARED.items():
            text = text.replace(f"{{{name}}}", shared.strip())
        item.__doc__ = indent(text, "    ").strip()
    return item
