"""How near each kernel is to what the processor can do, on one core.

python benchmarks/bench_kernels.py                          # the best variant
SKNN_CPU_VARIANT=v3 python benchmarks/bench_kernels.py      # another one

In cache it counts elements per cycle, out of cache bytes per second beside memcpy;
README.md says how.
"""

import argparse
import ctypes
import os
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from measure import limit_threads, pin
from report import ROOT, Report
from scipy.linalg.blas import dgemm, sgemm

from sknn import losses
from sknn._kernels.cpu import variant
from sknn._kernels.cpu.executor import aligned_empty
from sknn._kernels.ops import Activation, ElementType, Optimizer
from sknn._program import row_stride

# in cache: the first lies in the first level, the next two in the second; then short rows
SHAPES = {
    f"{n} x {m}": (n, m) for n, m in ((16, 128), (160, 128), (200, 100), (200, 10), (200, 1))
}
WIDTH = 112  # of a row out of cache
MINIBATCH = 200  # rows that a gather writes again and again
SOURCES = {"float32": np.float32, "float64": np.float64, "uint8": np.uint8}
# coefficients of a step, see optimizers.py
OPTIMIZERS = {Optimizer.SGD: (0.9, 1.0), Optimizer.ADAM: (0.9, 0.999, 1e-8)}
N_SLOTS = {Optimizer.SGD: 1, Optimizer.ADAM: 2}

# direct convolutions, 'same': height = width, channels, filters, kernel, stride
CONVOLUTIONS = (
    (32, 16, 32, 3, 2), (32, 32, 64, 3, 2), (32, 64, 64, 3, 2), (32, 64, 128, 3, 2),
    (28, 16, 32, 3, 2), (28, 64, 64, 3, 2), (16, 16, 32, 3, 2), (16, 64, 64, 3, 2),
    (32, 16, 16, 3, 1), (32, 64, 64, 3, 1), (28, 10, 20, 3, 1), (28, 10, 20, 3, 2),
    (32, 16, 32, 1, 1), (32, 16, 32, 1, 2), (32, 64, 64, 1, 1), (32, 64, 64, 1, 2),
    (28, 1, 32, 3, 1), (28, 1, 32, 3, 2), (32, 32, 32, 5, 2), (32, 3, 64, 7, 2),
)  # fmt: skip
IMAGES_BYTES = 1 << 20  # of x and y: what a thread takes through a network at a time

CHAIN = 100_000  # dependent multiply-adds
CYCLES_OF_A_LINK = 4  # Intel since Skylake, AMD since Zen 3, Arm Neoverse
SAMPLE_SECONDS = 4e-4
SAMPLES = 15
SAMPLES_OUT_OF_CACHE = 3
STEADY = 1.05  # at most, one of the chains before and after a sample over the other


def build_timer():
    """Compile kernel_timer.pyx for the chosen variant, as setup.py does; return the module."""
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    os.chdir(ROOT)
    import setup as project

    name = f"kernel_timer_{variant.chosen()}"
    wanted = [
        extension
        for extension in project.variants(Path("benchmarks/kernel_timer.pyx"))
        if extension.name.endswith(name)
    ]
    project.setup(
        script_args=["--quiet", "build_ext", "--inplace"],
        ext_modules=project.cythonized(wanted),
    )
    return import_module(name)


# ---- what is measured ---------------------------------------------------------------------


@dataclass
class Kernel:
    """A kernel over n rows of m elements.

    `reads`, `updates` and `writes` are bytes per element of what it only reads, reads and
    writes back, and only writes. `make` takes a function that gives arrays, one
    that gives rows of values, n and m, and returns what to call with the number of repetitions.
    """

    name: str
    dtype: np.dtype
    make: callable
    reads: int = 0
    updates: int = 0
    writes: int = 0

    @property
    def footprint(self):
        """Bytes of memory per element."""
        return self.reads + self.updates + self.writes

    @property
    def traffic(self):
        """Bytes moved per element: a line that is only written is fetched first, too."""
        return self.reads + 2 * self.updates + 2 * self.writes


def activation_kernels(timer, dtype):
    size = dtype.itemsize
    for kind in Activation:
        name = kind.name.lower()

        def forward(array, rows, n, m, kind=kind):
            return partial(timer.forward, int(kind), rows(n, m), array(m))

        def backward(array, rows, n, m, kind=kind):
            g, y = rows(n, m), rows(n, m)
            g[:] = 0  # or it would shrink to subnormal numbers
            return partial(timer.backward, int(kind), g, y)

        yield Kernel(f"bias and {name}", dtype, forward, updates=size)
        if kind != Activation.IDENTITY:  # its gradient is left as it is
            yield Kernel(f"{name} backward", dtype, backward, reads=size, updates=size)


def loss_kernels(timer, dtype):
    size = dtype.itemsize
    for loss in losses.LOSSES:
        opcode, name = int(loss.opcode), loss.name
        classes = loss is losses.SOFTMAX_LOG_LOSS

        def targets(array, rows, n, m, classes=classes):
            return np.zeros(n, np.int32) if classes else array((n, m))

        def link(array, rows, n, m, opcode=opcode):
            return partial(timer.link, opcode, rows(n, m))

        def row_loss(array, rows, n, m, opcode=opcode, targets=targets):
            y = targets(array, rows, n, m)
            return partial(timer.row_loss, opcode, np.empty(n), rows(n, m), y, np.arange(n))

        def gradient(array, rows, n, m, opcode=opcode, targets=targets):
            y = targets(array, rows, n, m)
            arrays = rows(n, m), rows(n, m)
            return partial(timer.loss_gradient, opcode, *arrays, y, np.arange(n))

        target_size = 0 if classes else size
        if loss.out_activation != "identity":
            yield Kernel(f"{name} link", dtype, link, updates=size)
        yield Kernel(f"{name} of rows", dtype, row_loss, reads=size + target_size)
        yield Kernel(f"{name} backward", dtype, gradient, reads=size + target_size, writes=size)


def gather_kernels(timer, dtype):
    for name, source in SOURCES.items():

        def take(array, rows, n, m, name=name, source=source):
            kind = int(ElementType[name.upper()])
            order = np.random.default_rng(0).permutation(n)
            out = np.empty((min(n, MINIBATCH), m), dtype)
            return partial(timer.take, kind, out, array((n, m), source), order)

        yield Kernel(f"gather {name}", dtype, take, reads=np.dtype(source).itemsize)


def vector_kernels(timer, dtype):
    size = dtype.itemsize

    def column_sum(array, rows, n, m):
        return partial(timer.sum_of_columns, np.zeros(m, dtype), rows(n, m))

    def axpy(array, rows, n, m):
        return partial(timer.add_scaled, array(n * m), array(n * m))

    yield Kernel("column sum", dtype, column_sum, reads=size)
    yield Kernel("axpy", dtype, axpy, reads=size, updates=size)
    for kind in Optimizer:

        def step(array, rows, n, m, kind=kind):
            slots = array((N_SLOTS[kind], n * m))
            vectors = array(n * m), array(n * m), slots
            return partial(timer.step, int(kind), OPTIMIZERS[kind], *vectors)

        name = f"{kind.name.lower()} update"
        yield Kernel(name, dtype, step, reads=size, updates=(1 + N_SLOTS[kind]) * size)


def kernels(timer):
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        for group in (activation_kernels, loss_kernels, gather_kernels, vector_kernels):
            yield from group(timer, dtype)


# ---- in cache: cycles ---------------------------------------------------------------------


class Clock:
    """Cycles, which are not those of the time stamp counter, by a chain of known length."""

    def __init__(self, timer):
        self.chain = partial(timer.multiply_adds, CHAIN)

    def cycles(self, call):
        """Cycles that `call` takes, or None if the core did not run steadily."""
        before = timed(self.chain)
        seconds = timed(call)
        after = timed(self.chain)
        if max(before, after) > STEADY * min(before, after):
            return None
        return seconds * CHAIN * CYCLES_OF_A_LINK / ((before + after) / 2)


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_cycles(call, clock):
    """Cycles that `call` takes, the median of good samples."""
    samples = []
    for _ in range(20 * SAMPLES):
        cycles = clock.cycles(call)
        if cycles is not None:
            samples.append(cycles)
        if len(samples) == SAMPLES:
            break
    if not samples:
        raise RuntimeError("The core never ran steadily: is something else running?")
    return statistics.median(samples)


def in_cache(kernel, shape, clock):
    """Cycles of one element: the median of good samples."""

    def array(shape, dtype=kernel.dtype):
        vector = aligned_empty(int(np.prod(shape)), np.dtype(dtype))
        vector[:] = 1 if dtype == np.uint8 else 0.5
        return vector.reshape(shape)

    def rows(n, m):
        """Rows that begin on cache lines, as those of a value do."""
        return array((n, row_stride(m)))[:, :m]

    call = kernel.make(array, rows, *shape)
    call(3)
    repeats = max(1, int(SAMPLE_SECONDS / timed(partial(call, 1))))
    return median_cycles(partial(call, repeats), clock) / (repeats * shape[0] * shape[1])


# ---- out of cache: bytes per second -------------------------------------------------------


class Pool:
    """Memory that every kernel out of cache takes its arrays from."""

    SKEW = 33 * 64  # bytes between two arrays, that their ends do not meet in one cache set

    def __init__(self, megabytes):
        self.bytes = np.empty(megabytes << 20, np.uint8)
        self.refill()

    def refill(self):
        """Half in float32, a small number in float64, no subnormal number in either."""
        self.bytes.view(np.float32).fill(0.5)
        self.used = 0

    def array(self, shape, dtype):
        dtype = np.dtype(dtype)
        begin = self.used
        size = int(np.prod(shape)) * dtype.itemsize
        self.used = begin + -(-size // 64) * 64 + self.SKEW
        return self.bytes[begin : begin + size].view(dtype).reshape(shape)

    def copy(self):
        """memcpy of one half to the other; bytes moved."""
        half = self.bytes.size // 2
        address = self.bytes.ctypes.data
        ctypes.memmove(address, address + half, half)
        return 2 * half


def out_of_cache(kernel, pool):
    """Bytes per second of the kernel and of memcpy, in turns; the best of each."""
    pool.refill()
    n = int((pool.bytes.size - 8 * pool.SKEW) / (kernel.footprint * WIDTH))

    def array(shape, dtype=kernel.dtype):
        return pool.array(shape, dtype)

    call = kernel.make(array, lambda *shape: array(shape), n, WIDTH)
    moved = kernel.traffic * n * WIDTH
    ours, copies = [], []
    for _ in range(SAMPLES_OUT_OF_CACHE):
        ours.append(moved / timed(partial(call, 1)))
        start = time.perf_counter()
        copied = pool.copy()
        copies.append(copied / (time.perf_counter() - start))
    return max(ours), max(copies)


def product(clock, dtype, n=2048):
    """Multiply-adds per cycle of a large matrix product."""
    a, b = np.random.default_rng(0).random((2, n, n)).astype(dtype)
    gemm = partial(sgemm if dtype == np.float32 else dgemm, 1.0, a.T, b.T)
    gemm()
    cycles = [c for _ in range(15) if (c := clock.cycles(gemm)) is not None]
    return n**3 / statistics.median(cycles) if cycles else float("nan")


# ---- convolutions -------------------------------------------------------------------------


def convolution(timer, dims, role, clock):
    """Multiply-adds per cycle of a direct convolution or one of its gradients."""
    size, channels, filters, kernel, stride = dims
    out = -(-size // stride)
    x_image, y_image = size * size * channels, out * out * filters
    n = max(1, IMAGES_BYTES // (4 * (x_image + y_image)))
    arrays = [
        aligned_empty(length, np.dtype(np.float32))
        for length in (n * x_image, kernel**2 * channels * filters, n * y_image)
    ]
    for array in arrays:
        array[:] = np.random.default_rng(0).random(array.size) - 0.5
    x, w, y = arrays
    workspace = aligned_empty(timer.square_conv_workspace(dims), np.dtype(np.float32))
    images = x.reshape(n, -1), w, y.reshape(n, -1)
    call = partial(timer.convolve, role, dims, *images, workspace)
    call(1)
    repeats = max(1, int(SAMPLE_SECONDS / timed(partial(call, 1))))
    multiply_adds = repeats * n * y_image * kernel**2 * channels
    return multiply_adds / median_cycles(partial(call, repeats), clock)


# ---- the report ---------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="only kernels with this in their name")
    parser.add_argument("--megabytes", type=int, default=2048, help="memory for out of cache")
    parser.add_argument("--part", choices=["all", "in", "conv", "out"], default="all")
    arguments = parser.parse_args()
    timer = build_timer()
    cores = pin(1)
    limit_threads(1)
    report = Report(
        f"Kernels on 1 thread, variant {variant.chosen()}",
        pinned_to=cores,
        megabytes=arguments.megabytes,
    )
    clock = Clock(timer)
    chosen = [kernel for kernel in kernels(timer) if arguments.only in kernel.name]
    if arguments.part in ("all", "in"):
        report_in_cache(report, chosen, clock)
    if arguments.part in ("all", "conv"):
        report_convolutions(report, timer, clock)
    if arguments.part in ("all", "out"):
        report_out_of_cache(report, chosen, Pool(arguments.megabytes))
    if not arguments.only and arguments.part == "all":
        print(f"Written: {report.write('kernels')}.json and .md")


def report_in_cache(report, chosen, clock):
    rows, data = [], {}
    for kernel in chosen:
        cycles = {name: in_cache(kernel, shape, clock) for name, shape in SHAPES.items()}
        key = f"{kernel.name}, {kernel.dtype}"
        data[key] = {name: {"cycles_per_element": value} for name, value in cycles.items()}
        rows.append([kernel.name, str(kernel.dtype), *(f"{1 / c:.2f}" for c in cycles.values())])
    for dtype in (np.float32, np.float64):
        name, rate = np.dtype(dtype).name, product(clock, dtype)
        data[f"product, {name}"] = {"multiply_adds_per_cycle": rate}
        empty = [""] * (len(SHAPES) - 1)
        rows.append(["2048³ product, multiply-adds", name, f"{rate:.1f}", *empty])
    note = "The first shape lies in the first level of the cache, the next two in the second."
    report.add("in_cache", "Elements per cycle", ["kernel", "type", *SHAPES], rows, data, note)


def report_convolutions(report, timer, clock):
    roles = ("forward", "dx", "dw")
    rows, data = [], {}
    for dims in CONVOLUTIONS:
        name = "{0} x {0} x {1} -> {2}, {3} x {3}, stride {4}".format(*dims)
        data[name] = {role: convolution(timer, dims, role, clock) for role in roles}
        rows.append([name, *(f"{rate:.1f}" for rate in data[name].values())])
    columns = ["direct convolution", *roles]
    report.add("convolutions", "Multiply-adds per cycle, float32", columns, rows, data)


def report_out_of_cache(report, chosen, pool):
    rows, data = [], {}
    for kernel in chosen:
        ours, memcpy = out_of_cache(kernel, pool)
        data[f"{kernel.name}, {kernel.dtype}"] = {"bytes_per_second": ours, "memcpy": memcpy}
        cells = [f"{ours / 1e9:.1f}", f"{memcpy / 1e9:.1f}", f"{ours / memcpy:.0%}"]
        rows.append([kernel.name, str(kernel.dtype), *cells])
    columns = ["kernel", "type", "GB/s", "memcpy", "share"]
    report.add("out_of_cache", "Bytes moved per second", columns, rows, data)


if __name__ == "__main__":
    main()
