"""Well-known architectures, and the blocks that networks are built of, as lists of layers.

Each function returns (name, layer) pairs for
:class:`~sknn.NetworkClassifier`, which appends the output layer. They are made for images of 28
to 64 pixels; the sizes are those of the papers where these are as small, and smaller ones where
the papers have images of 224 pixels.
"""

from numbers import Integral

from sknn.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAveragePool,
    LayerNorm,
    MaxPool,
    Residual,
)

__all__ = ["alexnet", "lenet5", "resnet", "vgg"]

NORMALIZATIONS = {"batch": BatchNorm, "layer": LayerNorm}


def block(name, layer, activation="relu", normalization=None, dropout=0.0):
    """A layer of sums with what follows them, as (name, layer) pairs.

    Parameters
    ----------
    name : str
        Of the layer; what follows is called after it.
    layer : Dense, Conv or Residual
        It has no activation of its own.
    activation : str, default='relu'
    normalization : {'batch', 'layer'} or None, default=None
        What is done to the sums before the activation.
    dropout : float, default=0.0
        Rate after the activation.
    """
    pairs = [(name, layer), *_normalized(name, normalization)]
    if normalization is None and isinstance(layer, (Dense, Conv)):
        layer.set_params(activation=activation)
    else:
        pairs.append((f"{name}_activation", Activation(activation)))
    return [*pairs, (f"{name}_dropout", Dropout(dropout))] if dropout else pairs


def _normalized(name, normalization):
    """What a normalisation puts behind the layer of this name."""
    if normalization is None:
        return []
    known = isinstance(normalization, str) and normalization in NORMALIZATIONS
    _check(known, "normalization", f"one of {sorted(NORMALIZATIONS)} or None", normalization)
    return [(f"{name}_norm", NORMALIZATIONS[normalization]())]


def _dense(units, dropout):
    """Dense layers, each with an activation and dropout."""
    numbers, layers = _positive_integers(units), []
    _check(
        numbers is not None, "units", "positive integers, one for each dense layer, such as "
        "(256, 128), or () for none", units,
    )  # fmt: skip
    for i, n in enumerate(numbers, start=1):
        layers += block(f"dense{i}", Dense(n), dropout=dropout)
    return layers


def _positive_integers(values):
    """As a list; None if they are something else."""
    values = list(values) if hasattr(values, "__iter__") else [None]
    good = all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in values)
    return values if good else None


def _check(fits, name, accepted, value):
    if not fits:
        raise ValueError(f"{name} must be {accepted}, got {value!r}.")


def lenet5(activation="tanh"):
    """LeNet-5, for grey images of 28 pixels (with padding, as the paper's 32) and more.

    Parameters
    ----------
    activation : str, default='tanh'
        'relu' learns faster; 'tanh' is the paper's.

    Returns
    -------
    layers : list of (name, layer) pairs

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition", 1998; with every map of the second convolution reading all of the first.

    Examples
    --------
    >>> from sknn import NetworkClassifier
    >>> from sknn.architectures import lenet5
    >>> clf = NetworkClassifier(lenet5("relu"), max_iter=5)
    """
    return [
        ("conv1", Conv(6, 5, activation=activation)),
        ("pool1", AveragePool(2)),
        ("conv2", Conv(16, 5, padding="valid", activation=activation)),
        ("pool2", AveragePool(2)),
        ("dense1", Dense(120, activation)),
        ("dense2", Dense(84, activation)),
    ]


def alexnet(filters=(32, 64, 96, 96, 64), units=(256, 256), dropout=0.5):
    """AlexNet in a small form: five convolutions, three poolings of overlapping windows.

    Parameters
    ----------
    filters : tuple of 5 int, default=(32, 64, 96, 96, 64)
    units : tuple of int, default=(256, 256)
        Of the dense layers.
    dropout : float, default=0.5
        Rate after each dense layer.

    Returns
    -------
    layers : list of (name, layer) pairs

    References
    ----------
    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012.

    Examples
    --------
    >>> from sknn import NetworkClassifier
    >>> from sknn.architectures import alexnet
    >>> clf = NetworkClassifier(alexnet(units=(128,)), max_iter=5)
    """
    numbers, layers = _positive_integers(filters), []
    _check(
        numbers and len(numbers) == 5, "filters",
        "5 positive integers, such as (32, 64, 96, 96, 64)", filters,
    )  # fmt: skip
    for i, n in enumerate(numbers, start=1):
        layers.append((f"conv{i}", Conv(n, 5 if i == 1 else 3, activation="relu")))
        if i in (1, 2, 5):
            layers.append((f"pool{i}", MaxPool(3, strides=2)))
    return [*layers, *_dense(units, dropout)]


def vgg(filters=((32, 32), (64, 64), (128, 128)), units=(256,), *, normalization="batch",
        dropout=0.5):  # fmt: skip
    """VGG in a small form: stages of 3 x 3 convolutions, each followed by a pooling.

    Parameters
    ----------
    filters : tuple of tuple of int, default=((32, 32), (64, 64), (128, 128))
        Of the convolutions of each stage.
    units : tuple of int, default=(256,)
        Of the dense layers.
    normalization : {'batch', 'layer'} or None, default='batch'
    dropout : float, default=0.5
        Rate after each dense layer.

    Returns
    -------
    layers : list of (name, layer) pairs

    References
    ----------
    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
    recognition", 2014; the normalisation came later.

    Examples
    --------
    >>> from sknn.architectures import vgg
    >>> [name for name, layer in vgg(((32,), (64, 64)), normalization=None)]
    ['conv1_1', 'pool1', 'conv2_1', 'conv2_2', 'pool2', 'dense1', 'dense1_dropout']
    """
    stages = list(map(_positive_integers, filters)) if hasattr(filters, "__iter__") else []
    _check(
        stages and all(stages), "filters",
        "a tuple of positive integers for each stage, such as ((32, 32), (64, 64))", filters,
    )  # fmt: skip
    layers = []
    for stage, numbers in enumerate(stages, start=1):
        for i, n in enumerate(numbers, start=1):
            layers += block(f"conv{stage}_{i}", Conv(n), normalization=normalization)
        layers.append((f"pool{stage}", MaxPool(2)))
    return [*layers, *_dense(units, dropout)]


def resnet(depth=20, filters=(16, 32, 64)):
    """ResNet for small images: a convolution, then stages of residual pairs of them.

    Where a stage makes the image smaller, a 1 x 1 convolution adapts the shortcut.

    Parameters
    ----------
    depth : int, default=20
        Layers with weights, the shortcuts' not counted: two more than a multiple of six for
        three stages, such as 20, 32, 44 and 56.
    filters : tuple of int, default=(16, 32, 64)
        Of each stage.

    Returns
    -------
    layers : list of (name, layer) pairs

    Raises
    ------
    ValueError
        If there is no such depth.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015, section 4.2;
    with their shortcuts of kind B.

    Examples
    --------
    >>> from sknn.architectures import resnet
    >>> [name for name, layer in resnet(8)]
    ['conv1', 'conv1_norm', 'conv1_activation', 'stage1_1', 'stage1_1_activation', 'stage2_1',
    'stage2_1_activation', 'stage3_1', 'stage3_1_activation', 'pool']
    """
    numbers = _positive_integers(filters)
    _check(
        numbers, "filters", "positive integers, one for each stage, such as (16, 32, 64)", filters
    )
    step = 2 * len(numbers)
    n_blocks, rest = divmod(depth - 2, step) if isinstance(depth, Integral) else (0, 0)
    _check(
        n_blocks >= 1 and not rest, "depth",
        f"2 more than a multiple of {step} for {len(numbers)} stages, such as {2 + step} or "
        f"{2 + 3 * step}", depth,
    )  # fmt: skip
    layers = block("conv1", Conv(numbers[0]), normalization="batch")
    for stage, n in enumerate(numbers, start=1):
        for i in range(1, n_blocks + 1):
            strides = 2 if stage > 1 and i == 1 else 1
            layers += block(f"stage{stage}_{i}", residual_pair(Conv(n, strides=strides), Conv(n)))
    return [*layers, ("pool", GlobalAveragePool())]


def residual_pair(first, second, activation="relu", normalization="batch"):
    """Two convolutions around which their input is led; an activation should follow."""
    return Residual(
        [
            *block("conv1", first, activation, normalization),
            ("conv2", second),
            *_normalized("conv2", normalization),
        ]
    )
