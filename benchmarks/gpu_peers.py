"""PyTorch's side of gpu_check.py: the same steps eagerly, compiled, and as a CUDA graph."""

import statistics
import time
from itertools import pairwise

import numpy as np

try:
    import torch
except ImportError:
    torch = None


def network(layers):
    modules = []
    for k, m in pairwise(layers):
        modules += [torch.nn.Linear(k, m), torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1]).cuda()


def image_network(shape, filters, units, n_classes):
    """Convolutions of 3 x 3, each with a rectifier and a 2 x 2 maximum, and a dense layer."""
    height, width, channels = shape
    modules = []
    for m in filters:
        modules += [torch.nn.Conv2d(channels, m, 3, padding=1), torch.nn.ReLU()]
        modules.append(torch.nn.MaxPool2d(2))
        height, width, channels = height // 2, width // 2, m
    modules += [torch.nn.Flatten(), torch.nn.Linear(height * width * channels, units)]
    modules += [torch.nn.ReLU(), torch.nn.Linear(units, n_classes)]
    return torch.nn.Sequential(*modules).cuda().to(memory_format=torch.channels_last)


class Training:
    """One network with its data on the device; a step takes rows of a permutation.

    Images have their channels last.
    """

    def __init__(self, X, y, batch, model, capturable=False):
        self.X, self.y = torch.from_numpy(X).cuda(), torch.from_numpy(y.astype(np.int64)).cuda()
        self.batch, self.model = batch, model
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=1e-3, fused=True, capturable=capturable
        )
        self.rows = torch.zeros(batch, dtype=torch.int64, device="cuda")
        self.total = torch.zeros((), device="cuda")

    def step(self, rows):
        x = self.X[rows]
        if x.ndim == 4:  # as PyTorch names the axes of images whose channels lie last
            x = x.permute(0, 3, 1, 2)
        loss = torch.nn.functional.cross_entropy(self.model(x), self.y[rows])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()

    def epoch(self, step, n_steps=None):
        """Seconds of a step, over whole minibatches."""
        torch.cuda.synchronize()
        begin = time.perf_counter()
        order = torch.randperm(len(self.X), device="cuda")
        n = len(self.X) // self.batch if n_steps is None else n_steps
        for i in range(n):
            step(order[i * self.batch : (i + 1) * self.batch])
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / n

    def graphed(self):
        """The step as a CUDA graph."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step(self.rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self.step(self.rows)

        def step(rows):
            self.rows.copy_(rows)
            graph.replay()

        return step


def step_seconds(X, y, batch, layers, precision):
    """Microseconds of a step of a dense network in each way."""
    return in_each_way(X, y, batch, lambda: network(layers), precision)


def image_step_seconds(X, y, batch, filters, units, n_classes):
    """The same of a convolutional network, in tf32, with the algorithms that cuDNN finds."""
    if torch is not None:
        torch.backends.cudnn.benchmark = True
    return in_each_way(
        X, y, batch, lambda: image_network(X.shape[1:], filters, units, n_classes), "tf32"
    )


def in_each_way(X, y, batch, make_model, precision):
    """Microseconds of a step: eager, compiled, and as a CUDA graph."""
    if torch is None:
        return {"torch": "not installed"}
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    n_steps = min(300, len(X) // batch) if batch < 10_000 else None
    found = {}

    def measure(name, make, capturable=False, repeats=3):
        training = Training(X, y, batch, make_model(), capturable)
        try:
            step = make(training)
            training.epoch(step, min(20, len(X) // batch))
            found[name] = 1e6 * statistics.median(
                training.epoch(step, n_steps) for _ in range(repeats)
            )
        except Exception as error:
            found[name] = f"failed: {type(error).__name__}: {str(error)[:80]}"

    def compiled(training):
        training.model = torch.compile(training.model)
        return training.step

    measure("torch eager", lambda t: t.step)
    measure("torch graph", lambda t: t.graphed(), capturable=True)
    if precision == "tf32":
        measure("torch compiled", compiled)
    return found


def search_seconds(X, y, n_fits, n_rows, options):
    """Seconds of as many fits in a plain loop."""
    if torch is None:
        return {"torch": "not installed"}
    layers = (X.shape[1], *options["hidden_layer_sizes"], int(y.max()) + 1)
    n_measured = max(1, n_fits // 6)
    for _ in range(2):  # the first warms up
        begin = time.perf_counter()
        for _ in range(n_measured):
            training = Training(X[:n_rows], y[:n_rows], options["batch_size"], network(layers))
            for _ in range(options["max_iter"]):
                order = torch.randperm(n_rows, device="cuda")
                for first in range(0, n_rows, options["batch_size"]):
                    training.step(order[first : first + options["batch_size"]])
                training.total.item()
            with torch.no_grad():
                training.model(training.X).argmax(dim=1).cpu()
        seconds = time.perf_counter() - begin
    return {"torch eager": seconds * n_fits / n_measured}
