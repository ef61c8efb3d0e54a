"""The rate of a large float32 matrix product, which bounds what a training can reach."""

import functools

import numpy as np
from measure import compare
from peers import installed
from workers import Worker

SIZE = 2048
FLOPS = 2 * SIZE**3


@functools.cache
def _scipy(threads):
    from scipy.linalg.blas import sgemm

    a, b, c = (np.asfortranarray(m) for m in _matrices(3))
    return functools.partial(sgemm, 1.0, a, b, c=c, overwrite_c=True)


@functools.cache
def _pytorch(threads):
    import torch

    torch.set_num_threads(threads)
    a, b, out = map(torch.from_numpy, _matrices(3))
    return functools.partial(torch.mm, a, b, out=out)


def _matrices(n):
    return np.random.default_rng(0).random((n, SIZE, SIZE), dtype=np.float32)


PRODUCTS = {"SciPy": ("scipy", _scipy), "PyTorch": ("torch", _pytorch)}


def _multiply(library, threads):
    PRODUCTS[library][1](threads)()


def product_rates(threads, cores):
    """Return {library: floating-point operations per second}, each at its best."""
    workers = {
        name: Worker(threads, cores) for name, (module, _) in PRODUCTS.items() if installed(module)
    }
    try:
        tasks = {name: worker.task(_multiply, name, threads) for name, worker in workers.items()}
        timings = compare(tasks, repeats=8)
    finally:
        for worker in workers.values():
            worker.close()
    return {name: FLOPS / timing["best"] for name, timing in timings.items()}
