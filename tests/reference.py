"""Every op in plain NumPy, and programs walked with them.

A function has the name of its opcode, activation or optimizer in lower case; a new one without
a function here fails the tests in ``tests/kernels``.
"""

import sys

import numpy as np
from scipy.special import expit, xlogy

from sknn._kernels.cpu import variant
from sknn._kernels.ops import Activation, Arena, Opcode
from sknn._program import shape_of
from sknn.losses import LOSSES

kernels = variant.load("kernels")
LOSS_OPCODES = {loss.opcode for loss in LOSSES}

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


def _activated(op, x):
    return _named(Activation(op["activation"]))(x)[0]


def dense(op, x, weights, biases):
    return _activated(op, x.reshape(len(x), -1) @ weights + biases)


def dense_csr(op, x, weights, biases):
    return _activated(op, x.toarray() @ weights + biases)


def activate(op, x):
    return _activated(op, x)


def add(op, x, x2):
    return _activated(op, x + x2)


def copy(op, x):
    return x


def dropout(op, x, seed, step):
    """Random words of four per block; each sample begins a block."""
    n, *shape = x.shape
    numbered = (1, 1, shape[-1]) if op["dims"][0] else shape
    size = int(np.prod(numbered))
    blocks = -(-size // 4)
    key = seed & 0xFFFFFFFF, seed >> 32
    words = [
        kernels.philox((block, int(op["stream"]), step & 0xFFFFFFFF, step >> 32), key)
        for block in range(n * blocks)
    ]
    words = np.array(words).reshape(n, 4 * blocks)[:, :size].reshape(n, *numbered)
    rate = op["attributes"][0]
    return np.where(words >= int(rate * 2**32), x / (1 - rate), 0)


def philox(counter, key):
    """The first words of blocks: arrays of 32 bits as counter, two integers as key."""
    c, (k0, k1), low = [np.asarray(x, dtype=np.uint64) for x in counter], key, 0xFFFFFFFF
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [b >> 32 ^ c[1] ^ k0, b & low, a >> 32 ^ c[3] ^ k1, a & low]
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c[0]


def draw_order(n, seed, epoch, n_rounds=8):
    """A permutation: Feistel's network over as many bits as n - 1 has, walked back to 0..n - 1."""
    n_bits = max(2, (n - 1).bit_length())
    order = np.arange(n, dtype=np.uint64)
    out = np.ones(n, dtype=bool)
    while out.any():
        n_left, n_right = n_bits // 2, n_bits - n_bits // 2
        left, right = order[out] >> n_right, order[out] & ((1 << n_right) - 1)
        for step in range(n_rounds):
            words = philox((right, step, epoch & 0xFFFFFFFF, epoch >> 32), (seed, seed >> 32))
            left, right = right, left ^ (words & ((1 << n_left) - 1))
            n_left, n_right = n_right, n_left
        order[out] = left << n_right | right
        out = order >= n
    return order.astype(np.int64)


def batch_norm(op, x, *others):
    """With the statistics of the minibatch, or with running ones if there are some."""
    *x2, scales, shifts, weights, running = others
    if running is None:
        axes = tuple(range(x.ndim - 1))
        weights = np.broadcast_to(weights.reshape(-1, *[1] * (x.ndim - 1)), x[..., :1].shape)
        mean = np.average(x, axes, np.broadcast_to(weights, x.shape))
        variance = np.average((x - mean) ** 2, axes, np.broadcast_to(weights, x.shape))
    else:
        mean, variance = running
    z = (x - mean) / np.sqrt(variance + op["attributes"][0])
    return _activated(op, sum(x2, scales * z + shifts))


def layer_norm(op, x, scales, shifts):
    mean = x.mean(axis=-1, keepdims=True)
    variance = x.var(axis=-1, keepdims=True)
    return _activated(op, scales * (x - mean) / np.sqrt(variance + op["attributes"][0]) + shifts)


# ---- images (n, height, width, channels): outputs, and gradients from those of the outputs ---


def _image(operand, rows):
    return rows.reshape(len(rows), operand["height"], operand["width"], operand["channels"])


def _windows(x, size, stride, dilation, top, left, out, fill):
    """Each element of the windows: where in the window, and its value for every output."""
    height = (out[0] - 1) * stride[0] + (size[0] - 1) * dilation[0] + 1
    width = (out[1] - 1) * stride[1] + (size[1] - 1) * dilation[1] + 1
    n, h, w, c = x.shape
    whole = np.full((n, max(height, top + h), max(width, left + w), c), fill, x.dtype)
    whole[:, top : top + h, left : left + w] = x
    for a, b in np.ndindex(*size):
        i, j = a * dilation[0], b * dilation[1]
        rows = slice(i, i + (out[0] - 1) * stride[0] + 1, stride[0])
        columns = slice(j, j + (out[1] - 1) * stride[1] + 1, stride[1])
        yield a * size[1] + b, whole, (slice(None), rows, columns)


def _conv_dims(op):
    d = [int(i) for i in op["dims"]]
    return dict(size=d[:2], stride=d[2:4], dilation=d[4:6], top=d[6], left=d[7], out=d[9:11]), d[8]


def conv(op, x, weights, biases):
    """y; where the row has a pool of 2, the largest of each 2 x 2 of it."""
    dims, groups = _conv_dims(op)
    x = _image(op["inputs"][0], x)
    filters = weights.shape[-1]
    c, k = x.shape[3] // groups, filters // groups
    y = np.zeros((len(x), *dims["out"], filters), x.dtype) + biases
    for tap, whole, at in _windows(x, **dims, fill=0):
        w = weights.reshape(-1, c, filters)[tap]
        for g in range(groups):
            to = slice(g * k, (g + 1) * k)
            y[..., to] += whole[at][..., g * c : (g + 1) * c] @ w[:, to]
    y = _named(Activation(op["activation"]))(y)[0]
    return _pooled(y)[0] if op["dims"][11] == 2 else y


def _pooled(y):
    """The largest of each 2 x 2, and which of the four it is."""
    h, w = y.shape[1:3]
    y = y[:, : h // 2 * 2, : w // 2 * 2]
    parts = np.stack([y[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    return parts.max(axis=0), parts.argmax(axis=0)


def conv_gradients(op, x, weights, biases, dy):
    """dx, dW and db from dy."""
    dims, groups = _conv_dims(op)
    x = _image(op["inputs"][0], x)
    if op["dims"][11] == 2:
        plain = op.copy()
        plain["dims"][11] = 1
        y = conv(plain, x, weights, biases)
        where, whole = _pooled(y)[1], np.zeros_like(y)
        for i, j in np.ndindex(2, 2):
            part = whole[:, i : i + 2 * dy.shape[1] : 2, j : j + 2 * dy.shape[2] : 2]
            part[...] = np.where(where == 2 * i + j, dy, 0)
        dy = whole
    else:
        y = conv(op, x, weights, biases)
    if Activation(op["activation"]) == Activation.RELU:
        dy = dy * (y > 0)
    elif Activation(op["activation"]) == Activation.TANH:
        dy = dy * (1 - y**2)
    c, k = x.shape[3] // groups, weights.shape[-1] // groups
    dw = np.zeros_like(weights).reshape(-1, c, weights.shape[-1])
    dx = None
    for tap, whole, at in _windows(x, **dims, fill=0):
        dx = np.zeros_like(whole) if dx is None else dx
        for g in range(groups):
            ins, to = slice(g * c, (g + 1) * c), slice(g * k, (g + 1) * k)
            dw[tap, :, to] = np.einsum("nijc,nijk->ck", whole[at][..., ins], dy[..., to])
            dx[(*at, ins)] += dy[..., to] @ weights.reshape(dw.shape)[tap, :, to].T
    top, left = dims["top"], dims["left"]
    dx = dx[:, top : top + x.shape[1], left : left + x.shape[2]]
    return dx, dw.reshape(weights.shape), dy.sum(axis=(0, 1, 2))


def _pool_dims(op):
    d, y = [int(i) for i in op["dims"]], op["outputs"][0]
    out = int(y["height"]), int(y["width"])
    return dict(size=d[:2], stride=d[2:4], dilation=(1, 1), top=d[4], left=d[5], out=out)


def _pool_parts(op, x, fill):
    x = _image(op["inputs"][0], x)
    return np.stack([w[at] for _, w, at in _windows(x, **_pool_dims(op), fill=fill)])


def max_pool(op, x):
    return _pool_parts(op, x, -np.inf).max(axis=0)


def average_pool(op, x):
    return np.nanmean(_pool_parts(op, x, np.nan), axis=0)


def pool_gradient(op, x, dy):
    """dx of a MAX_POOL or AVERAGE_POOL from dy."""
    x = _image(op["inputs"][0], x)
    if op["opcode"] == Opcode.MAX_POOL:
        where = _pool_parts(op, x, -np.inf).argmax(axis=0)
        shares = [dy * (where == i) for i in range(where.max() + 1)]
    else:
        inside = ~np.isnan(_pool_parts(op, x * 0, np.nan))
        shares = list(dy * inside / inside.sum(axis=0))
    dx = None
    dims = _pool_dims(op)
    for (_, whole, at), share in zip(_windows(x, **dims, fill=0), shares, strict=False):
        dx = np.zeros_like(whole) if dx is None else dx
        dx[at] += share
    top, left = dims["top"], dims["left"]
    return dx[:, top : top + x.shape[1], left : left + x.shape[2]]


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


class Values:
    """Of a minibatch, each (n, height, width, channels), read and written through operands."""

    def __init__(self, X):
        self.X, self.buffers = X, {}

    def read(self, operand):
        if operand["arena"] == Arena.INPUT and not isinstance(self.X, np.ndarray):
            return self.X
        found = self.X if operand["arena"] == Arena.INPUT else self.buffers[int(operand["offset"])]
        return found.reshape(len(found), *shape_of(operand))

    def write(self, operand, value):
        height, width, channels = shape_of(operand)
        value = value.reshape(len(value), height, width, channels)
        if operand["pixel_stride"] != channels:  # a part of the channels
            whole = np.zeros((len(value), height, width, operand["pixel_stride"]))
            whole = self.buffers.get(int(operand["offset"]), whole)
            whole[..., operand["start"] : operand["start"] + channels] = value
            value = whole
        self.buffers[int(operand["offset"])] = value


def walk(program, vector, X, y=None, weights=None, state=None):
    """Predictions of a program, and the weighted sum of the rows' losses if there are targets.

    With targets it is a step of training over one minibatch: the first, with the seed 0.
    """
    views, values, loss = program.views(vector), Values(X), 0.0
    n = X.shape[0]
    for op in program.ops:
        opcode = Opcode(op["opcode"])
        inputs = [values.read(x) for x in op["inputs"] if x["arena"] != Arena.NONE]
        parameters = [views[i] for i in op["segments"] if i >= 0]
        if opcode in LOSS_OPCODES:
            z = inputs[0].reshape(n, -1)
            placeholder = np.zeros(n, int) if opcode == Opcode.SOFTMAX_LOG_LOSS else z * 0
            out, rows = _named(opcode)(z, placeholder if y is None else y)
            if y is not None:
                rows = rows * op["attributes"][0]
                loss = float(rows.sum() if weights is None else rows @ weights)
        else:
            extra = ()
            if opcode == Opcode.DROPOUT:
                extra = 0, 0
            elif opcode == Opcode.BATCH_NORM:
                running = None if y is not None and n > 1 else _running(op, state)
                extra = (np.ones(n) if weights is None else weights), running
            out = _named(opcode)(op, *inputs, *parameters, *extra)
        values.write(op["outputs"][0], out)
    return values.read(program.output).reshape(n, -1), loss


def _running(op, state):
    """Running means and variances of a normalisation."""
    channels, padded = int(op["inputs"][0]["channels"]), int(op["workspace"]) // 4
    start = int(op["state"])
    return state[start : start + channels], state[start + padded : start + padded + channels]


def reported_factor(program):
    """Of the loss that a program reports; its gradient does not have it."""
    return float(program.ops[-1]["attributes"][0])


def finite_differences(program, vector, X, y, weights=None, step=1e-6, state=None):
    """The gradient of `walk`'s loss, without the reporting factor, by central differences.

    That of what is not trained is zero.
    """
    gradient = np.zeros_like(vector)
    views = program.views(vector), program.views(gradient), program.segments
    for view, slope, segment in zip(*views, strict=True):
        if segment["frozen"]:
            continue
        for i in np.ndindex(view.shape):
            kept = view[i]
            view[i] = kept + step
            above = walk(program, vector, X, y, weights, state)[1]
            view[i] = kept - step
            below = walk(program, vector, X, y, weights, state)[1]
            view[i] = kept
            slope[i] = (above - below) / (2 * step)
    return gradient / reported_factor(program)
