"""Layers: what a network is made of, each emitting its rows into a program.

A sample is a table row (features,), a signal (length, channels) or an image
(height, width, channels), channels last. A layer infers the shape of its output from that of its
input, and says what it needs where it gets another.
"""

from functools import lru_cache
from math import ceil, prod
from numbers import Integral, Real

from sknn._kernels.ops import Activation as ActivationEnum
from sknn._kernels.ops import Opcode, Phase, Statistic
from sknn._nested import Branch, Layer, LayerOfLayers, emit_chain, emit_layer, named
from sknn._program import LARGEST, Builder, as_table, round_up, shape_of, size_of, slice_channels
from sknn.initializers import BIASES

__all__ = [
    "ACTIVATIONS", "Activation", "AveragePool", "BatchNorm", "Branch", "Concatenate", "Conv",
    "Dense", "Dropout", "Flatten", "GlobalAveragePool", "Layer", "LayerNorm", "MaxPool",
    "Residual", "sequential",
]  # fmt: skip

# option name -> enumeration
ACTIVATIONS = {activation.name.lower(): activation for activation in ActivationEnum}
LARGEST_WINDOW = 255  # elements of a maximum's window: their number is kept in a byte


def _shape_text(shape):
    return " x ".join(map(str, shape))


def refuse(name, x, needs):
    """Say which layer cannot be built, on what, and why."""
    raise ValueError(f"Layer {name!r} got an input of {_shape_text(shape_of(x))} and {needs}")


def _check_count(name, what, value, largest=float("inf")):
    """A positive integer."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= value <= largest:
        raise ValueError(
            f"Layer {name!r}: {what} must be an integer of at least 1{_limit(largest)}, got "
            f"{value!r}."
        )
    return int(value)


def _limit(largest):
    return "" if largest == float("inf") else f" and at most {largest}"


def _check_choice(name, what, value, choices):
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"Layer {name!r}: {what} must be one of {sorted(map(str, choices))}, got {value!r}."
        )
    return value


def _activation(name, value, what="activation"):
    _check_choice(name, what, value, ACTIVATIONS)
    return ACTIVATIONS[value]


def _weights_and_biases(builder, name, initializer, shape, fans, whole=False):
    """The segments of a layer of sums; the last axis of the weights is its outputs."""
    _check_choice(name, "initializer", initializer, BIASES)
    weights = builder.parameter(
        f"{name}.weights", shape, initializer, fans=fans, decayed=True, whole=whole
    )
    biases = builder.parameter(
        f"{name}.biases", shape[-1:], BIASES[initializer], fans=fans, whole=whole
    )
    return [weights, biases]


def _sizes(builder, name, what, value):
    """Sizes along (height, width); along the width alone for signals."""
    values = list(value) if hasattr(value, "__iter__") else [value] * builder.n_spatial
    if len(values) != builder.n_spatial:
        raise ValueError(
            f"Layer {name!r}: {what} must be an integer or {builder.n_spatial} of them, one for "
            f"each axis of the input, got {value!r}."
        )
    return [1] * (2 - len(values)) + [_check_count(name, what, v, LARGEST) for v in values]


def _check_spatial(builder, name, x):
    if builder.is_table(x):
        advice = (
            "Put it before Dense, Flatten and GlobalAveragePool, which make tables of them."
            if builder.n_spatial
            else "Give X with 4 or 3 axes, or set input_shape."
        )
        refuse(
            name, x, "needs images (height, width, channels) or signals (length, channels). "
            f"{advice}",
        )  # fmt: skip


class Dense(Layer):
    """A fully connected layer: ``activation(x W + b)``.

    An image or a signal is flattened first.

    Parameters
    ----------
    units : int
        Width of the output.
    activation : str, default='identity'
        A key of ``ACTIVATIONS``.
    initializer : {'fan_in', 'glorot', 'he', 'lecun'} or None, default=None
        How the weights start; None takes the network's.

    Examples
    --------
    >>> from sknn.layers import Dense
    >>> Dense(100, activation="relu")
    Dense(activation='relu', units=100)
    """

    def __init__(self, units, activation="identity", *, initializer=None):
        self.units = units
        self.activation = activation
        self.initializer = initializer

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        x = as_table(x)
        units = _check_count(name, "units", self.units)
        fans = size_of(x), units
        initializer = builder.initializer if self.initializer is None else self.initializer
        segments = _weights_and_biases(builder, name, initializer, fans, fans)
        y = builder.table(builder.value((1, 1, units)))
        builder.op(
            Opcode.DENSE, [x], [y],
            activation=_activation(name, self.activation), segments=segments,
        )  # fmt: skip
        return y


class Conv(Layer):
    """A convolution over an image or, in one dimension, over a signal.

    Parameters
    ----------
    filters : int
        Channels of the output.
    kernel_size : int or tuple of int, default=3
        Pixels that a filter reads along each axis.
    strides : int or tuple of int, default=1
        Pixels from one place of the filter to the next.
    padding : {'same', 'valid'}, default='same'
        'same' puts zeros around the input, so that a stride of 1 keeps its size; 'valid' does
        not.
    dilation : int or tuple of int, default=1
        Pixels from one that the filter reads to the next.
    groups : int, default=1
        Parts of the channels that are convolved apart; as many as the input has channels is a
        depthwise convolution.
    activation : str, default='identity'
        A key of ``ACTIVATIONS``.
    initializer : {'fan_in', 'glorot', 'he', 'lecun'}, default='he'
        How the weights start.

    Examples
    --------
    >>> from sknn.layers import Conv
    >>> Conv(32, strides=2, activation="relu")
    Conv(activation='relu', filters=32, strides=2)
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        *,
        strides=1,
        padding="same",
        dilation=1,
        groups=1,
        activation="identity",
        initializer="he",
    ):
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.activation = activation
        self.initializer = initializer

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        _check_spatial(builder, name, x)
        filters = _check_count(name, "filters", self.filters)
        groups = _check_count(name, "groups", self.groups)
        *size, channels = shape_of(x)
        if channels % groups or filters % groups:
            refuse(
                name, x, f"cannot divide its {channels} channels and {filters} filters into "
                f"{groups} groups. Choose groups that divides both.",
            )  # fmt: skip
        kernel = _sizes(builder, name, "kernel_size", self.kernel_size)
        strides = _sizes(builder, name, "strides", self.strides)
        dilation = _sizes(builder, name, "dilation", self.dilation)
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        if prod(n + e for n, e in zip(size, extent, strict=True)) > LARGEST:
            refuse(
                name, x, f"reads {_shape_text(extent)} pixels for one output, for which too many "
                "zeros go around the input. Choose a smaller kernel_size or dilation.",
            )  # fmt: skip
        _check_choice(name, "padding", self.padding, ("same", "valid"))
        if self.padding == "valid" and any(n < e for n, e in zip(size, extent, strict=True)):
            refuse(
                name, x, f"needs at least {_shape_text(extent)} pixels with padding='valid'. "
                "Use padding='same' or a smaller kernel_size.",
            )  # fmt: skip
        out, pad = _output_size(size, extent, strides, self.padding)
        fans = tuple(kernel[0] * kernel[1] * c // groups for c in (channels, filters))
        shape = (*kernel, channels // groups, filters)
        segments = _weights_and_biases(builder, name, self.initializer, shape, fans, whole=True)
        y = builder.value((*out, filters))
        builder.op(
            Opcode.CONV, [x], [y],
            activation=_activation(name, self.activation), segments=segments,
            dims=[*kernel, *strides, *dilation, *pad, groups, *out, 1],
        )  # fmt: skip
        return y


def _output_size(size, extent, strides, padding):
    """Of a filter or window of this extent; zeros before the first pixel."""
    if padding == "valid":
        return [(n - e) // s + 1 for n, e, s in zip(size, extent, strides, strict=True)], [0, 0]
    out = [ceil(n / s) for n, s in zip(size, strides, strict=True)]
    missing = [
        max((o - 1) * s + e - n, 0) for o, s, e, n in zip(out, strides, extent, size, strict=True)
    ]
    return out, [m // 2 for m in missing]


class _Pool(Layer):
    """What the two poolings share."""

    def __init__(self, pool_size=2, *, strides=None, padding="valid"):
        self.pool_size = pool_size
        self.strides = strides
        self.padding = padding

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        _check_spatial(builder, name, x)
        *size, channels = shape_of(x)
        window = _sizes(builder, name, "pool_size", self.pool_size)
        strides = window
        if self.strides is not None:
            strides = _sizes(builder, name, "strides", self.strides)
        _check_choice(name, "padding", self.padding, ("same", "valid"))
        # a window is never larger than the image, so that short ones keep one position
        window = [min(w, n) for w, n in zip(window, size, strict=True)]
        out, pad = _output_size(size, window, strides, self.padding)
        y = builder.value((*out, channels))
        outputs = [y]
        if self.opcode == Opcode.MAX_POOL:
            if window[0] * window[1] > LARGEST_WINDOW:
                refuse(
                    name, x, f"a window of {_shape_text(window)}: the maximum is taken of at most "
                    f"{LARGEST_WINDOW} pixels. Choose a smaller pool_size.",
                )  # fmt: skip
            outputs.append(builder.bytes((*out, channels)))
        builder.op(self.opcode, [x], outputs, dims=[*window, *strides, *pad])
        return y


class MaxPool(_Pool):
    """The largest value of each window, channel by channel.

    Parameters
    ----------
    pool_size : int or tuple of int, default=2
        Pixels of a window along each axis; at most the size of the input.
    strides : int, tuple of int or None, default=None
        Pixels from one window to the next; None takes ``pool_size``.
    padding : {'valid', 'same'}, default='valid'
        'same' also takes windows that lie partly outside.

    Examples
    --------
    >>> from sknn.layers import MaxPool
    >>> MaxPool(3, strides=2)
    MaxPool(pool_size=3, strides=2)
    """

    opcode = Opcode.MAX_POOL


class AveragePool(_Pool):
    """The mean of each window, channel by channel; pixels outside the input do not count.

    Parameters
    ----------
    pool_size : int or tuple of int, default=2
        Pixels of a window along each axis; at most the size of the input.
    strides : int, tuple of int or None, default=None
        Pixels from one window to the next; None takes ``pool_size``.
    padding : {'valid', 'same'}, default='valid'
        'same' also takes windows that lie partly outside.

    Examples
    --------
    >>> from sknn.layers import AveragePool
    >>> AveragePool((1, 4))
    AveragePool(pool_size=(1, 4))
    """

    opcode = Opcode.AVERAGE_POOL


class GlobalAveragePool(Layer):
    """The mean of each channel over all pixels.

    Examples
    --------
    >>> from sknn.layers import Conv, Dense, GlobalAveragePool
    >>> layers = [Conv(32, activation="relu"), GlobalAveragePool(), Dense(20, "relu")]
    """

    def __init__(self):
        pass

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        _check_spatial(builder, name, x)
        height, width, channels = shape_of(x)
        y = builder.table(builder.value((1, 1, channels)))
        builder.op(Opcode.AVERAGE_POOL, [x], [y], dims=[height, width, height, width, 0, 0])
        return y


class Flatten(Layer):
    """An image or a signal as one row of numbers; no arithmetic.

    ``Dense`` flattens what it reads by itself.

    Examples
    --------
    >>> from sknn.layers import Conv, Flatten, LayerNorm
    >>> layers = [Conv(8), Flatten(), LayerNorm()]
    """

    def __init__(self):
        pass

    def emit(self, builder, x, name):
        """Return the input as a table."""
        y = as_table(x)
        # what has one pixel stays an image for whatever else reads it
        return y if shape_of(y) == shape_of(x) else builder.table(y)


class Activation(Layer):
    """A function of each element.

    Parameters
    ----------
    function : str, default='relu'
        A key of ``ACTIVATIONS``.

    Examples
    --------
    >>> from sknn.layers import Activation, BatchNorm, Dense
    >>> layers = [Dense(50), BatchNorm(), Activation("tanh")]
    """

    def __init__(self, function="relu"):
        self.function = function

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        y = builder.value(shape_of(x))
        activation = _activation(name, self.function, "function")
        builder.op(Opcode.ACTIVATE, [x], [y], activation=activation)
        return y


class BatchNorm(Layer):
    """Each channel with mean 0 and variance 1 over the minibatch, then scaled and shifted.

    Predictions take running statistics instead, and so does a minibatch of one sample.

    Parameters
    ----------
    momentum : float, default=0.1
        How far the running statistics move towards a minibatch's, in (0, 1].
    epsilon : float, default=1e-5
        Added to the variance.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization", 2015, algorithm 1, with the biased variance
    throughout. Statistics are weighted by the sample weights.

    Examples
    --------
    >>> from sknn.layers import Activation, BatchNorm, Conv
    >>> layers = [Conv(32), BatchNorm(), Activation("relu")]
    """

    def __init__(self, momentum=0.1, epsilon=1e-5):
        self.momentum = momentum
        self.epsilon = epsilon

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        width = round_up(int(x["channels"]))
        return _normalize(
            Opcode.BATCH_NORM, builder, x, name,
            attributes=[
                _positive(name, "epsilon", self.epsilon),
                _positive(name, "momentum", self.momentum, 1),
            ],
            sync=1,
            state=builder.state([0.0] * width + [1.0] * width),
            statistics=builder.statistics(Statistic.N_STATISTICS * width),
            workspace=4 * width,
        )  # fmt: skip


class LayerNorm(Layer):
    """The channels of each pixel with mean 0 and variance 1, then scaled and shifted.

    Parameters
    ----------
    epsilon : float, default=1e-5
        Added to the variance.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> from sknn.layers import Activation, Dense, LayerNorm
    >>> layers = [Dense(50), LayerNorm(), Activation("relu")]
    """

    def __init__(self, epsilon=1e-5):
        self.epsilon = epsilon

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        epsilon = _positive(name, "epsilon", self.epsilon)
        return _normalize(Opcode.LAYER_NORM, builder, x, name, attributes=[epsilon])


def _positive(name, what, value, largest=float("inf")):
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value <= largest:
        raise ValueError(
            f"Layer {name!r}: {what} must be above 0{_limit(largest)}, got {value!r}."
        )
    return float(value)


def _normalize(opcode, builder, x, name, **fields):
    channels = int(x["channels"])
    scales = builder.parameter(f"{name}.scales", (channels,), "ones")
    shifts = builder.parameter(f"{name}.shifts", (channels,), "zeros")
    y = builder.value(shape_of(x))
    builder.op(opcode, [x], [y], segments=[scales, shifts], **fields)
    return y


class Dropout(Layer):
    """In training, a random share of the elements is 0 and the others are scaled up.

    Parameters
    ----------
    rate : float, default=0.5
        The share, in [0, 1).
    spatial : bool, default=False
        Whether to drop whole channels of an image or a signal.

    References
    ----------
    Srivastava et al., "Dropout", 2014, in its inverted form; for ``spatial`` Tompson et al.,
    "Efficient object localization using convolutional networks", 2015.

    Examples
    --------
    >>> from sknn.layers import Dense, Dropout
    >>> layers = [Dense(200, "relu"), Dropout(0.5)]
    """

    def __init__(self, rate=0.5, *, spatial=False):
        self.rate = rate
        self.spatial = spatial

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        if not isinstance(self.rate, Real) or not 0 <= self.rate < 1:
            raise ValueError(f"Layer {name!r}: rate must be in [0, 1), got {self.rate!r}.")
        if self.rate == 0:
            return x
        y = builder.value(shape_of(x))
        builder.op(
            Opcode.DROPOUT, [x], [y], attributes=[self.rate], dims=[bool(self.spatial)],
            stream=builder.stream(), phases=Phase.TRAIN,
        )  # fmt: skip
        return y


class Residual(LayerOfLayers):
    """``x + f(x)``, f being a list of layers.

    Where f changes the shape, x goes through a layer called 'shortcut' that gives it the same
    one: a 1 x 1 convolution or, where f makes a table, a dense layer.

    Parameters
    ----------
    layers : list of layers or (name, layer) pairs

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015, equations 1
    and 2.

    Examples
    --------
    >>> from sknn.layers import Activation, Conv, Residual
    >>> block = Residual([Conv(16, activation="relu"), ("last", Conv(16))])
    >>> layers = [Conv(16, activation="relu"), block, Activation("relu")]
    >>> block.set_params(last__kernel_size=1).layers[1]
    ('last', Conv(filters=16, kernel_size=1))
    """

    def emit(self, builder, x, name):
        """Append the rows of the layers and the sum."""
        y = emit_chain(builder, x, self.layers, f"{name}.")
        if shape_of(x) != shape_of(y):
            shortcut = self._shortcut(builder, x, y, name)
            x = emit_layer(builder, x, shortcut, f"{name}.shortcut")
        total = builder.value(shape_of(y))
        builder.op(Opcode.ADD, [y, x], [total])
        return total

    def _shortcut(self, builder, x, y, name):
        """The layer that gives x the shape of y."""
        if "shortcut" in dict(named(self.layers)):
            raise ValueError(
                f"A layer in {name!r} is called 'shortcut', as the one that is added there to "
                "adapt its input. Rename it."
            )
        (*size, _), (*out, channels) = shape_of(x), shape_of(y)
        if builder.is_table(y):
            return Dense(channels)
        strides = [ceil(n / o) for n, o in zip(size, out, strict=True)]
        if [ceil(n / s) for n, s in zip(size, strides, strict=True)] != out:
            refuse(
                name, x, f"its layers make {_shape_text(shape_of(y))} of it, which no stride of "
                "a 1 x 1 convolution does. Use padding='same' in the layers.",
            )  # fmt: skip
        return Conv(channels, 1, strides=tuple(strides[2 - builder.n_spatial :]))


class Concatenate(LayerOfLayers):
    """The channels of several branches, which all read the same input, side by side.

    Parameters
    ----------
    layers : list of layers or (name, layer) pairs
        The branches; a branch of several layers is a list of them.

    Examples
    --------
    >>> from sknn.layers import Concatenate, Conv, MaxPool
    >>> inception = Concatenate(
    ...     [Conv(8, 1), [Conv(4, 1), Conv(8, 3)], [MaxPool(1), Conv(8, 1)]])
    >>> inception = inception.set_params(branch1__conv1__filters=2)
    """

    def emit(self, builder, x, name):
        """Append the rows of the branches and copies of their outputs."""
        outputs = [
            emit_layer(builder, x, layer, f"{name}.{branch}")
            for branch, layer in named(self.layers, branches=True)
        ]
        sizes = {shape_of(y)[:2] for y in outputs}
        if len(sizes) > 1:
            refuse(
                name, x, "its branches give maps of different sizes: "
                f"{', '.join(_shape_text(shape_of(y)) for y in outputs)}.",
            )  # fmt: skip
        widths = [int(y["channels"]) for y in outputs]
        whole = builder.value((*sizes.pop(), sum(widths)))
        first = 0
        for y, width in zip(outputs, widths, strict=True):
            builder.op(Opcode.COPY, [y], [slice_channels(whole, first, width)])
            first += width
        return whole


@lru_cache(maxsize=64)
def sequential(shape, layers, loss, *, x_scale=1.0, frozen=(), initializer="glorot"):
    """The program of a chain of layers that ends in a loss.

    Parameters
    ----------
    shape : tuple of int
        Of a sample: (features,), (length, channels) or (height, width, channels).
    layers : tuple of layers or (name, layer) pairs
    loss : sknn.losses.Loss
    x_scale : float, default=1.0
        What X is multiplied by when it is read.
    frozen : tuple of str, default=()
        Names of layers whose parameters stay as they are.
    initializer : {'fan_in', 'glorot', 'he', 'lecun'}, default='glorot'
        How dense layers start that do not say it themselves.

    Returns
    -------
    program : sknn._program.Program
        Shared by all who ask for the same network; do not change it.

    Examples
    --------
    >>> from sknn.layers import Dense, sequential
    >>> from sknn.losses import SOFTMAX_LOG_LOSS
    >>> layers = (Dense(100, "relu"), Dense(10))
    >>> print(sequential((20,), layers, SOFTMAX_LOG_LOSS))
    Program 20 -> 10: 3 ops, 3,110 parameters
    pass train: updates dense1.weights, dense2.weights, dense1.biases, dense2.biases
       0 DENSE              input[20] -> value@0[100]  dense1.weights[20x100]  dense1.biases[100]  relu
       1 DENSE              value@0[100] -> value@112[10]  dense2.weights[100x10]  dense2.biases[10]
       2 SOFTMAX_LOG_LOSS   value@112[10] -> value@112[10]
    """  # noqa: E501
    builder = Builder(shape, x_scale=x_scale, frozen=frozen, initializer=initializer)
    x = emit_chain(builder, builder.input(), layers)
    return builder.build(loss.emit(builder, x))
