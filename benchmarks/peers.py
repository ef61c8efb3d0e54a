"""The same network trained by sknn, scikit-learn, PyTorch and JAX, each as fast as it goes here.

All take the same arrays, the same number of minibatches (the short one at the end of an epoch
included), ReLU, softmax cross-entropy, Adam, and the L2 penalty as scikit-learn defines it:
`alpha / 2 * sum(weights ** 2)` divided by the rows of the minibatch. They differ in the random
numbers they draw.

A trainer has a `name`, the `module` it needs and a method `fit(X, y, hidden, batch, epochs)`,
which returns the trained weights `[(W, b), ...]` as NumPy arrays. Call it once before timing it:
that compiles.
A framework is imported when its trainer is made, in the worker where it runs (`workers.py`), whose
environment limits its threads. The functions at the end are what the benchmarks call there.
"""

import functools
import importlib.util
import itertools
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from workers import count_threads

ALPHA = 1e-4
LEARNING_RATE = 1e-3
BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-8


class _Estimator:
    """A class with scikit-learn's interface; the whole `fit` counts, validation included."""

    def fit(self, X, y, hidden, batch, epochs):
        model = self.network_class(
            hidden_layer_sizes=hidden,
            alpha=ALPHA,
            batch_size=batch,
            learning_rate_init=LEARNING_RATE,
            max_iter=epochs,
            tol=0,
            n_iter_no_change=epochs + 1,  # never stops early
            random_state=0,
            **self.parameters,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        return list(zip(model.coefs_, model.intercepts_, strict=True))


class Sknn(_Estimator):
    name = "sknn"
    module = "sknn"

    def __init__(self, threads):
        from sknn import MLPClassifier

        self.network_class = MLPClassifier
        self.parameters = {"n_threads": threads}


class SknnNone(Sknn):
    """With as many threads as it chooses."""

    name = "sknn, n_threads=None"

    def __init__(self, threads):
        super().__init__(None)


class ScikitLearn(_Estimator):
    name = "scikit-learn"
    module = "sklearn"

    def __init__(self, threads):
        from sklearn.neural_network import MLPClassifier

        self.network_class = MLPClassifier
        self.parameters = {}  # its threads are those of the BLAS


class PyTorch:
    """Eager. No DataLoader: it would take longer than the training of a small network."""

    name = "PyTorch"
    module = "torch"

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch = torch

    def fit(self, X, y, hidden, batch, epochs):
        torch = self.torch
        torch.manual_seed(0)
        X, y = torch.from_numpy(X), torch.from_numpy(y)
        model = self._network((X.shape[1], *hidden, int(y.max()) + 1))
        optimizer = self._optimizer(model)
        for _ in range(epochs):
            permutation = torch.randperm(len(X))
            for start in range(0, len(X), batch):
                rows = permutation[start : start + batch]
                logits = model(X.index_select(0, rows))
                loss = torch.nn.functional.cross_entropy(logits, y.index_select(0, rows))
                optimizer.zero_grad()
                loss.backward()
                optimizer.param_groups[0]["weight_decay"] = ALPHA / len(rows)
                optimizer.step()
        dense = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
        return [(d.weight.detach().numpy().T, d.bias.detach().numpy()) for d in dense]

    def _network(self, sizes):
        nn = self.torch.nn
        layers = []
        for n_in, n_out in itertools.pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
            nn.init.xavier_uniform_(layers[-2].weight)  # where the others start, too
        return nn.Sequential(*layers[:-1])

    def _optimizer(self, model):
        weights = [p for p in model.parameters() if p.ndim == 2]
        biases = [p for p in model.parameters() if p.ndim == 1]
        return self.torch.optim.Adam(
            # weight_decay costs less than the penalty in the loss, and gives the same gradient
            [{"params": weights, "weight_decay": ALPHA}, {"params": biases}],
            lr=LEARNING_RATE,
            betas=(BETA_1, BETA_2),
            eps=EPSILON,
            fused=True,  # one kernel for all parameters: the fastest on a CPU
        )


class PyTorchCompiled:
    """The training step as a function that is compiled for each shape of the minibatch.

    A small network has its whole step in one graph, update included, since calls cost most of its
    time. The update of a larger one is PyTorch's fused Adam, which reads its memory once.
    """

    name = "PyTorch, compiled"
    module = "torch"
    small = 50_000  # parameters; where the two took the same time

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.step = torch.compile(self._whole_step, dynamic=False, options={"cpp_wrapper": True})
        self.gradient = torch.compile(self._gradient, dynamic=False, options={"cpp_wrapper": True})

    def fit(self, X, y, hidden, batch, epochs):
        torch = self.torch
        torch.manual_seed(0)
        X, y = torch.from_numpy(X), torch.from_numpy(y)
        state = self._start((X.shape[1], *hidden, int(y.max()) + 1), X.dtype)
        small = sum(p.numel() for p in state[0]) < self.small
        step = self.step if small else self._fused_step
        with torch.no_grad():
            for _ in range(epochs):
                permutation = torch.randperm(len(X))
                for start in range(0, len(X), batch):
                    step(state, X, y, permutation[start : start + batch])
        weights, biases = state[0][::2], state[0][1::2]
        return [(W.numpy(), b.numpy()) for W, b in zip(weights, biases, strict=True)]

    def _start(self, sizes, dtype):
        """Return the parameters W1, b1, W2, b2, ..., two zero moments and the step of each."""
        torch = self.torch
        parameters = []
        for n_in, n_out in itertools.pairwise(sizes):
            W = torch.empty(n_in, n_out, dtype=dtype)
            parameters += [torch.nn.init.xavier_uniform_(W), torch.zeros(n_out, dtype=dtype)]
        moments = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
        return parameters, *moments, [torch.zeros(()) for _ in parameters]

    def _loss(self, parameters, x, y):
        torch = self.torch
        *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
        for W, b in hidden:
            x = torch.relu(torch.addmm(b, x, W))
        W, b = last
        return torch.nn.functional.cross_entropy(torch.addmm(b, x, W), y)

    def _gradient(self, parameters, X, y, rows):
        x, y = X.index_select(0, rows), y.index_select(0, rows)
        return self.torch.func.grad(self._loss)(parameters, x, y)

    def _whole_step(self, state, X, y, rows):
        parameters, first, second, (step, *_) = state
        gradient = self._gradient(parameters, X, y, rows)
        step.add_(1)
        rate = LEARNING_RATE / (1 - BETA_1**step)
        scale = (1 - BETA_2**step).sqrt()
        for p, m, v, g in zip(parameters, first, second, gradient, strict=True):
            if p.ndim == 2:
                g = g + ALPHA / len(rows) * p
            m.mul_(BETA_1).add_(g, alpha=1 - BETA_1)
            v.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
            p.sub_(rate * m / (v.sqrt() / scale + EPSILON))

    def _fused_step(self, state, X, y, rows):
        parameters, first, second, steps = state
        gradient = self.gradient(parameters, X, y, rows)
        self.torch._foreach_add_(steps, 1)
        for start, decay in ((0, ALPHA / len(rows)), (1, 0.0)):  # weights, biases
            lists = (parameters, gradient, first, second, (), steps)
            self.torch._fused_adam_(
                *(list(tensors)[start::2] for tensors in lists),
                lr=LEARNING_RATE,
                beta1=BETA_1,
                beta2=BETA_2,
                eps=EPSILON,
                weight_decay=decay,
                amsgrad=False,
                maximize=False,
            )


class JAX:
    """One compiled call per epoch, a scan over its minibatches, parameters updated in place.

    NumPy draws the permutation, since sorting random keys, as JAX does, takes as long as
    training a small network. The rows are gathered in the compiled loop.
    """

    name = "JAX, NumPy shuffles"
    module = "jax"

    def __init__(self, threads):
        import jax

        self.jax = jax
        self.epoch = jax.jit(
            functools.partial(_jax_epoch, jax), static_argnums=0, donate_argnums=1
        )

    def fit(self, X, y, hidden, batch, epochs):
        jnp = self.jax.numpy
        rng = np.random.default_rng(0)
        X, y = jnp.asarray(X), jnp.asarray(y.astype(np.int32))
        state = self._start(rng, (X.shape[1], *hidden, int(y.max()) + 1), X.dtype)
        for _ in range(epochs):
            permutation = rng.permutation(len(X)).astype(np.int32)
            state = self.epoch(batch, state, X, y, permutation)
        return [(np.asarray(W), np.asarray(b)) for W, b in state[0]]

    def _start(self, rng, sizes, dtype):
        """Return parameters as scikit-learn draws them, two zero moments and the step 0."""
        jnp = self.jax.numpy
        parameters = []
        for n_in, n_out in itertools.pairwise(sizes):
            bound = np.sqrt(6 / (n_in + n_out))
            W = rng.uniform(-bound, bound, (n_in, n_out)).astype(dtype)
            parameters.append((jnp.asarray(W), jnp.zeros(n_out, dtype)))
        zeros = functools.partial(self.jax.tree.map, jnp.zeros_like, parameters)
        return parameters, zeros(), zeros(), jnp.zeros((), dtype)


class JAXInside(JAX):
    """The permutations drawn by JAX and all epochs in one compiled call: no Python at all."""

    name = "JAX, it shuffles"

    def __init__(self, threads):
        super().__init__(threads)
        jax = self.jax

        def train(batch, epochs, state, X, y):
            def epoch(state, key):
                permutation = jax.random.permutation(key, jax.numpy.arange(len(X), dtype="int32"))
                return _jax_epoch(jax, batch, state, X, y, permutation), None

            return jax.lax.scan(epoch, state, jax.random.split(jax.random.key(0), epochs))[0]

        self.train = jax.jit(train, static_argnums=(0, 1), donate_argnums=2)

    def fit(self, X, y, hidden, batch, epochs):
        jnp = self.jax.numpy
        rng = np.random.default_rng(0)
        X, y = jnp.asarray(X), jnp.asarray(y.astype(np.int32))
        state = self._start(rng, (X.shape[1], *hidden, int(y.max()) + 1), X.dtype)
        state = self.train(batch, epochs, state, X, y)
        return [(np.asarray(W), np.asarray(b)) for W, b in state[0]]


def _jax_loss(jax, parameters, x, y):
    for W, b in parameters[:-1]:
        x = jax.nn.relu(x @ W + b)
    W, b = parameters[-1]
    log_probabilities = jax.nn.log_softmax(x @ W + b)
    cross_entropy = -jax.numpy.take_along_axis(log_probabilities, y[:, None], axis=1).mean()
    squares = sum((W * W).sum() for W, _ in parameters)
    return cross_entropy + ALPHA / 2 / len(x) * squares


def _jax_step(jax, state, X, y, rows):
    """Return the state after one minibatch: gather, gradient, Adam."""
    parameters, first, second, step = state
    gradient = jax.grad(functools.partial(_jax_loss, jax))(parameters, X[rows], y[rows])
    step = step + 1
    first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, second, gradient)
    rate = LEARNING_RATE * jax.numpy.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
    parameters = jax.tree.map(
        lambda p, m, v: p - rate * m / (jax.numpy.sqrt(v) + EPSILON), parameters, first, second
    )
    return parameters, first, second, step


def _jax_epoch(jax, batch, state, X, y, permutation):
    """Scan over the whole minibatches; the shape of the short one at the end differs."""
    whole = len(X) // batch * batch
    state, _ = jax.lax.scan(
        lambda state, rows: (_jax_step(jax, state, X, y, rows), None),
        state,
        permutation[:whole].reshape(-1, batch),
    )
    return _jax_step(jax, state, X, y, permutation[whole:]) if whole < len(X) else state


TRAINERS = {
    "sknn": Sknn,
    "sknn-none": SknnNone,
    "scikit-learn": ScikitLearn,
    "pytorch": PyTorch,
    "pytorch-compiled": PyTorchCompiled,
    "jax": JAX,
    "jax-inside": JAXInside,
}


def installed(module):
    return importlib.util.find_spec(module) is not None


def available(names):
    """Return those of the trainers whose libraries are installed, and say which are not."""
    missing = [name for name in names if not installed(TRAINERS[name].module)]
    if missing:
        print(f"{', '.join(missing)} left out: not installed.")
    return [name for name in names if name not in missing]


# What runs in a worker.


@functools.cache
def _trainer(name, threads):
    return TRAINERS[name](threads)


def prepare(name, threads, network, dtype):
    """Import, compile, train once, and return the loss that was reached."""
    X, y = network.data(dtype)
    return mean_loss(network.fit(_trainer(name, threads), X, y), X, y)


def train(name, threads, network, dtype):
    """Train; nothing else is left to do here after `prepare`."""
    network.fit(_trainer(name, threads), *network.data(dtype))


def count_training_threads(name, threads, network, dtype):
    return count_threads(train, name, threads, network, dtype)


def mean_loss(parameters, X, y):
    """Return the cross-entropy over all rows, to see that all trainers learned the same."""
    for W, b in parameters[:-1]:
        X = np.maximum(X @ W + b, 0)
    W, b = parameters[-1]
    logits = X @ W + b
    logits -= logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]))
