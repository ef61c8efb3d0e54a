"""Convolutional networks trained by sknn, PyTorch and JAX, each as fast as it goes here.

All take the same images, labels, minibatches and settings of Adam, ReLU after each convolution,
and softmax cross-entropy. A trainer has a `name`, the `module` it needs, `start(network)`,
`train()`, all epochs of the network, and `predict()`, the probabilities of all rows. Of sknn the
whole `fit` counts, with validation and everything it makes; the others have made theirs before.
The functions at the end are what the benchmark calls in the workers.
"""

import functools
import warnings
from dataclasses import dataclass

import numpy as np
from peers import BETA_1, BETA_2, EPSILON, LEARNING_RATE
from sklearn.exceptions import ConvergenceWarning

N_CLASSES = 10


@dataclass(frozen=True)
class ConvNetwork:
    """A network: ``blocks`` are filters of 3 x 3 convolutions, each with a 2 x 2 maximum after.

    Without ``dense`` it is the residual network of He et al. (2015) with three stages of these
    filters, three blocks each, and batch normalisation.
    """

    name: str
    shape: tuple
    blocks: tuple
    dense: int
    batch: int
    steps: int  # of an epoch
    epochs: int
    goals: tuple  # times as fast as the best peer: training, inference

    @property
    def rows(self):
        return self.batch * self.steps

    def __str__(self):
        size = " x ".join(map(str, self.shape))
        return f"{self.name} {size}: {', '.join(map(str, self.blocks))}; {self.batch}"

    @functools.cached_property
    def data(self):
        rng = np.random.default_rng(0)
        X = rng.random((self.rows, *self.shape), dtype=np.float32)
        return X, rng.integers(N_CLASSES, size=self.rows)


NETWORKS = [
    ConvNetwork("A", (28, 28, 1), (32, 64), 128, 128, 8, 5, (2.4, 1.7)),
    ConvNetwork("B", (32, 32, 3), (32, 64, 128), 128, 128, 4, 5, (2.5, 2.0)),
    ConvNetwork("C", (8, 8, 1), (16, 32), 64, 64, 40, 20, (3.5, 3.0)),
    ConvNetwork("D", (32, 32, 3), (16, 32, 64), 0, 128, 2, 24, (1.3, 1.25)),
]


class Sknn:
    name = "sknn"
    module = "sknn"

    def __init__(self, threads):
        self.threads = threads

    def start(self, network):
        from sknn import NetworkClassifier

        self.X, self.y = network.data
        self.model = NetworkClassifier(
            _sknn_layers(network),
            alpha=0,
            batch_size=network.batch,
            learning_rate_init=LEARNING_RATE,
            max_iter=network.epochs,
            tol=0,
            n_iter_no_change=network.epochs + 1,  # never stops early
            random_state=0,
            n_threads=self.threads,
        )

    def train(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self.model.fit(self.X, self.y).loss_

    def predict(self):
        return self.model.predict_proba(self.X)


def _sknn_layers(network):
    from sknn.layers import (
        Activation,
        BatchNorm,
        Conv,
        Dense,
        GlobalAveragePool,
        MaxPool,
        Residual,
    )  # fmt: skip

    if network.dense:
        layers = [
            layer for k in network.blocks for layer in (Conv(k, activation="relu"), MaxPool())
        ]
        return [*layers, Dense(network.dense, "relu")]
    layers = [Conv(network.blocks[0]), BatchNorm(), Activation("relu")]
    for stage, k in enumerate(network.blocks):
        for block in range(3):
            first = Conv(k, strides=2 if stage and not block else 1)
            chain = [first, BatchNorm(), Activation("relu"), Conv(k), BatchNorm()]
            layers += [Residual(chain), Activation("relu")]
    return [*layers, GlobalAveragePool()]


class PyTorch:
    """Eager; predictions of the frozen graph."""

    name = "PyTorch"
    module = "torch"
    channels_last = False

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch = torch

    def start(self, network):
        torch = self.torch
        torch.manual_seed(0)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        X, y = network.data
        X = torch.from_numpy(X).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        self.X, self.y = X, torch.from_numpy(y)
        self.batch, self.epochs = network.batch, network.epochs
        self.model = _torch_model(torch, network).to(memory_format=layout)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=LEARNING_RATE, betas=(BETA_1, BETA_2), eps=EPSILON,
            fused=True,
        )  # fmt: skip
        self.frozen = None

    def train(self):
        torch = self.torch
        self.model.train()
        for _ in range(self.epochs):
            permutation = torch.randperm(len(self.X))
            for start in range(0, len(self.X), self.batch):
                rows = permutation[start : start + self.batch]
                logits = self.model(self.X.index_select(0, rows))
                loss = torch.nn.functional.cross_entropy(logits, self.y.index_select(0, rows))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return float(loss.detach())

    def predict(self):
        torch = self.torch
        with torch.inference_mode():
            if self.frozen is None:
                self.model.eval()
                self.frozen = torch.jit.freeze(torch.jit.script(self.model))
            parts = [
                torch.softmax(self.frozen(self.X[i : i + self.batch]), 1)
                for i in range(0, len(self.X), self.batch)
            ]
            return torch.cat(parts).numpy()


class PyTorchChannelsLast(PyTorch):
    name = "PyTorch, channels last"
    channels_last = True


def _torch_model(torch, network):
    nn = torch.nn
    height, width, channels = network.shape
    layers = []
    if network.dense:
        for k in network.blocks:
            layers += [nn.Conv2d(channels, k, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            height, width, channels = height // 2, width // 2, k
        layers += [nn.Flatten(), nn.Linear(height * width * channels, network.dense), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(network.dense, N_CLASSES))

    class Block(nn.Module):
        def __init__(self, channels, k, stride):
            super().__init__()
            self.chain = nn.Sequential(
                nn.Conv2d(channels, k, 3, stride, 1), nn.BatchNorm2d(k), nn.ReLU(),
                nn.Conv2d(k, k, 3, 1, 1), nn.BatchNorm2d(k),
            )  # fmt: skip
            same = channels == k and stride == 1
            self.shortcut = nn.Identity() if same else nn.Conv2d(channels, k, 1, stride)

        def forward(self, x):
            return torch.relu(self.chain(x) + self.shortcut(x))

    k = network.blocks[0]
    layers = [nn.Conv2d(channels, k, 3, 1, 1), nn.BatchNorm2d(k), nn.ReLU()]
    channels = k
    for stage, k in enumerate(network.blocks):
        for block in range(3):
            layers.append(Block(channels, k, 2 if stage and not block else 1))
            channels = k
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, N_CLASSES)
    )


class JAX:
    """One compiled call for each minibatch, parameters updated in place.

    In a scan over the minibatches, XLA's convolutions on a CPU are many times slower.
    """

    name = "JAX"
    module = "jax"

    def __init__(self, threads):
        import jax

        self.jax = jax

    def start(self, network):
        jax = self.jax
        X, y = network.data
        self.X, self.y = jax.numpy.asarray(X), jax.numpy.asarray(y.astype(np.int32))
        self.rng, self.shape = np.random.default_rng(0), (network.steps, network.batch)
        self.epochs = network.epochs
        model = _JaxModel(jax, network)
        parameters = model.start(self.rng)
        zeros = functools.partial(jax.tree.map, jax.numpy.zeros_like, parameters)
        self.state = parameters, zeros(), zeros(), jax.numpy.zeros(())
        self.step = jax.jit(functools.partial(_jax_step, jax, model), donate_argnums=0)
        self.probabilities = jax.jit(
            lambda parameters, x: jax.nn.softmax(model.logits(parameters, x, training=False)[0])
        )

    def train(self):
        for _ in range(self.epochs):
            order = self.rng.permutation(len(self.X)).astype(np.int32).reshape(self.shape)
            for rows in order:
                self.state, loss = self.step(self.state, self.X, self.y, rows)
        return float(loss)

    def predict(self):
        batch = self.shape[1]
        parts = [
            self.probabilities(self.state[0], self.X[i : i + batch])
            for i in range(0, len(self.X), batch)
        ]
        return np.concatenate([np.asarray(part) for part in parts])


class _JaxModel:
    """Parameters are a list; running statistics stand among them with no gradient."""

    def __init__(self, jax, network):
        self.jax, self.network = jax, network

    def start(self, rng):
        """Return the parameters, in the order in which `logits` takes them."""
        self.rng, self.parameters, self.taking = rng, [], None
        self.jax.eval_shape(
            lambda x: self.logits(None, x, training=True)[0],
            np.zeros((1, *self.network.shape), np.float32),
        )
        return [self.jax.numpy.asarray(p) for p in self.parameters]

    def logits(self, parameters, x, training):
        """Return the logits and the running statistics after them."""
        jax, jnp, network = self.jax, self.jax.numpy, self.network
        self.taking, self.training, self.running = iter(parameters or ()), training, []
        self.making = parameters is None
        if network.dense:
            for k in network.blocks:
                x = jax.nn.relu(self._conv(x, k, 3))
                n, height, width, _ = x.shape
                x = x.reshape(n, height // 2, 2, width // 2, 2, k).max(axis=(2, 4))
            x = jax.nn.relu(self._dense(x.reshape(len(x), -1), network.dense))
        else:
            x = jax.nn.relu(self._norm(self._conv(x, network.blocks[0], 3)))
            for stage, k in enumerate(network.blocks):
                for block in range(3):
                    stride = 2 if stage and not block else 1
                    y = jax.nn.relu(self._norm(self._conv(x, k, 3, stride)))
                    y = self._norm(self._conv(y, k, 3))
                    same = x.shape[-1] == k and stride == 1
                    x = jax.nn.relu(y + (x if same else self._conv(x, k, 1, stride)))
            x = jnp.mean(x, axis=(1, 2))
        return self._dense(x, N_CLASSES), self.running

    def _take(self, shape, value=None):
        if not self.making:
            return next(self.taking)
        bound = np.sqrt(6 / np.prod(shape[:-1]))
        new = self.rng.uniform(-bound, bound, shape) if value is None else np.full(shape, value)
        self.parameters.append(new.astype(np.float32))
        return self.parameters[-1]

    def _conv(self, x, k, size, stride=1):
        w, b = self._take((size, size, x.shape[-1], k)), self._take((k,), 0.0)
        y = self.jax.lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y + b

    def _dense(self, x, units):
        return x @ self._take((x.shape[-1], units)) + self._take((units,), 0.0)

    def _norm(self, x):
        k = x.shape[-1]
        scale, shift = self._take((k,), 1.0), self._take((k,), 0.0)
        running = self._take((k,), 0.0), self._take((k,), 1.0)
        mean, variance = running
        if self.training:
            mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
            pairs = zip(running, (mean, variance), strict=True)
            self.running += [0.9 * old + 0.1 * new for old, new in pairs]
        return (x - mean) * (scale / self.jax.numpy.sqrt(variance + 1e-5)) + shift


def _jax_step(jax, model, state, X, y, rows):
    jnp = jax.numpy

    def loss(parameters):
        logits, running = model.logits(parameters, X[rows], training=True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), y[rows][:, None], axis=1)
        return -chosen.mean(), running

    parameters, first, second, n = state
    (value, running), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
    n = n + 1
    first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, second, gradient)
    rate = LEARNING_RATE * jnp.sqrt(1 - BETA_2**n) / (1 - BETA_1**n)
    parameters = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, first, second
    )
    return (_with_running(parameters, running), first, second, n), value


def _with_running(parameters, running):
    """The running statistics follow the scale and the shift of their normalisation."""
    if not running:
        return parameters
    parameters, i, left = list(parameters), 2, iter(running)
    while i < len(parameters) - 2:
        if parameters[i].ndim == 1 and parameters[i - 1].ndim == 1:  # a scale after a bias
            parameters[i + 2], parameters[i + 3] = next(left), next(left)
            i += 4
        else:
            i += 1
    return parameters


TRAINERS = {
    "sknn": Sknn,
    "pytorch": PyTorch,
    "pytorch-channels-last": PyTorchChannelsLast,
    "jax": JAX,
}

# What runs in a worker.


@functools.cache
def _started(name, threads, network):
    trainer = TRAINERS[name](threads)
    trainer.start(network)
    return trainer


def prepare(name, threads, network):
    """Import, compile, train and predict once; the loss of the last epoch or minibatch."""
    trainer = _started(name, threads, network)
    loss = trainer.train()
    trainer.predict()
    return float(loss)


def train(name, threads, network):
    _started(name, threads, network).train()


def predict(name, threads, network):
    _started(name, threads, network).predict()
