"""Every op in plain NumPy, and programs walked with them.

A function has the name of its opcode, activation or optimizer in lower case; a new one without
a function here fails the tests in ``tests/kernels``.
"""

import sys

import numpy as np
from scipy.special import expit, xlogy

from sknn._kernels.ops import Activation, Arena, Opcode

# ---- activations: y = f(x), and f'(x) from y ------------------------------------------------


def identity(x):
    return x, np.ones_like(x)


def logistic(x):
    y = expit(x)
    return y, y * (1 - y)


def tanh(x):
    y = np.tanh(x)
    return y, 1 - y**2


def relu(x):
    y = np.maximum(x, 0)
    return y, (y != 0).astype(x.dtype)


# ---- ops: outputs from inputs and parameters ------------------------------------------------


def dense(op, x, weights, biases):
    return _named(Activation(op["activation"]))(x @ weights + biases)[0]


def dense_csr(op, x, weights, biases):
    return dense(op, x.toarray(), weights, biases)


# ---- losses: predictions, and the loss of each row ------------------------------------------


def _clip(p):
    epsilon = np.finfo(p.dtype).eps
    return np.clip(p, epsilon, 1 - epsilon)


def softmax_log_loss(z, y):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, -np.log(_clip(p)[np.arange(len(z)), y])


def sigmoid_log_loss(z, y):
    p = expit(z)
    q = _clip(p)
    return p, -(xlogy(y, q) + xlogy(1 - y, 1 - q)).sum(axis=1)


def squared_error(z, y):
    return z, 0.5 * ((y - z) ** 2).sum(axis=1)


def poisson_deviance(z, y):
    p = np.exp(z)
    return p, (xlogy(y, y / p) - y + p).sum(axis=1)


# ---- optimizers: parameters and slots after one step ----------------------------------------


def sgd(p, g, slots, learning_rate, coefficients):
    momentum, nesterov = coefficients
    velocity = momentum * slots[0] - learning_rate * g
    step = momentum * velocity - learning_rate * g if nesterov else velocity
    return p + step, [velocity]


def adam(p, g, slots, learning_rate, coefficients):
    beta_1, beta_2, epsilon = coefficients
    mean = beta_1 * slots[0] + (1 - beta_1) * g
    square = beta_2 * slots[1] + (1 - beta_2) * g**2
    return p - learning_rate * mean / (np.sqrt(square) + epsilon), [mean, square]


# ---- programs -------------------------------------------------------------------------------


def _named(member):
    """The function here that bears the name of an enumeration's member."""
    return getattr(sys.modules[__name__], member.name.lower())


def walk(program, vector, X, y=None, weights=None):
    """Predictions of a program, and the weighted sum of the rows' losses if there are targets."""
    views = program.views(vector)
    values, loss = {}, 0.0
    for op in program.ops:
        source = op["inputs"][0]
        x = X if source["arena"] == Arena.INPUT else values[int(source["offset"])]
        out = int(op["outputs"][0]["offset"])
        opcode = Opcode(op["opcode"])
        if opcode.name.startswith("DENSE"):
            parameters = [views[i] for i in op["segments"] if i >= 0]
            values[out] = _named(opcode)(op, x, *parameters)
            continue
        placeholder = np.zeros(len(x), int) if opcode == Opcode.SOFTMAX_LOG_LOSS else x * 0
        values[out], rows = _named(opcode)(x, placeholder if y is None else y)
        if y is not None:
            rows = rows * op["attributes"][0]
            loss = float(rows.sum() if weights is None else rows @ weights)
    return values[int(program.output["offset"])], loss


def reported_factor(program):
    """Of the loss that a program reports; its gradient does not have it."""
    return float(program.ops[-1]["attributes"][0])


def finite_differences(program, vector, X, y, weights=None, step=1e-6):
    """The gradient of `walk`'s loss, without the reporting factor, by central differences."""
    gradient = np.zeros_like(vector)
    for view, slope in zip(program.views(vector), program.views(gradient), strict=True):
        for i in np.ndindex(view.shape):
            kept = view[i]
            view[i] = kept + step
            above = walk(program, vector, X, y, weights)[1]
            view[i] = kept - step
            below = walk(program, vector, X, y, weights)[1]
            view[i] = kept
            slope[i] = (above - below) / (2 * step)
    return gradient / reported_factor(program)
