"""Layers: what a network is made of, each emitting its rows into a program."""

from dataclasses import dataclass
from functools import lru_cache

from sknn._kernels.ops import Activation, Opcode
from sknn._program import Builder

# option name -> enumeration
ACTIVATIONS = {activation.name.lower(): activation for activation in Activation}


@dataclass(frozen=True)
class Dense:
    """A fully connected layer: ``activation(x W + b)``.

    Parameters
    ----------
    units : int
        Width of the output.
    activation : str, default='identity'
        A key of ``ACTIVATIONS``.
    """

    units: int
    activation: str = "identity"

    def emit(self, builder, x, name):
        """Append the layer's row and return its output."""
        weights = builder.parameter(f"{name}.weights", int(x["channels"]), self.units)
        biases = builder.parameter(f"{name}.biases", 1, self.units, is_bias=True)
        y = builder.value(self.units)
        builder.op(
            Opcode.DENSE, [x], [y],
            activation=ACTIVATIONS[self.activation], segments=[weights, biases],
        )  # fmt: skip
        return y


@lru_cache(maxsize=64)
def sequential(n_features, layers, loss):
    """The program of a chain of layers that ends in a loss.

    Parameters
    ----------
    n_features : int
    layers : tuple of layers
    loss : sknn.losses.Loss

    Returns
    -------
    program : sknn._program.Program
        Shared by all who ask for the same network; do not change it.

    Examples
    --------
    >>> from sknn.layers import Dense, sequential
    >>> from sknn.losses import SOFTMAX_LOG_LOSS
    >>> layers = (Dense(100, "relu"), Dense(10))
    >>> print(sequential(20, layers, SOFTMAX_LOG_LOSS))
    Program 20 -> 10: 3 ops, 3,110 parameters
    pass train: updates dense1.weights, dense2.weights, dense1.biases, dense2.biases
       0 DENSE              input[20] -> value@0[100]  dense1.weights[20x100]  dense1.biases[100]  relu
       1 DENSE              value@0[100] -> value@112[10]  dense2.weights[100x10]  dense2.biases[10]
       2 SOFTMAX_LOG_LOSS   value@112[10] -> value@112[10]
    """  # noqa: E501
    builder = Builder(n_features)
    x = builder.input()
    for i, layer in enumerate(layers, start=1):
        x = layer.emit(builder, x, f"{type(layer).__name__.lower()}{i}")
    return builder.build(loss.emit(builder, x))
