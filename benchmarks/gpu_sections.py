"""The sections of gpu_check.py: each returns rows for the report, with ``ok`` if it is a check."""

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.base import clone

from sknn import MLPClassifier, MLPRegressor, losses, optimizers, schedules
from sknn._kernels.cpu.executor import Executor as CpuExecutor
from sknn._kernels.cpu.executor import predict as cpu_predict
from sknn._kernels.gpu import product as gated_products
from sknn._kernels.gpu import rows as rows_of_x
from sknn._kernels.gpu.driver import give_back, take_driver
from sknn._kernels.gpu.executor import Executor
from sknn._kernels.gpu.hopper import CAPABILITY, TILE_ROWS, compile_functions, encoder
from sknn._kernels.gpu.kernels import Epilogue, Matrix, draw_order
from sknn._kernels.gpu.rows import DrawnOrder
from sknn._kernels.gpu.source import formula, kernel_name
from sknn._kernels.ops import Activation
from sknn._lowering import lower_for_cpu, read_csr
from sknn.layers import BatchNorm, Conv, Dense, MaxPool, sequential
from tests import reference
from tests.kernels.cases import all_cases, as_dtype, network_cases

PRECISIONS = ("float32", "tf32", "bfloat16")
# relative error of a product: what factors are rounded to, and what sums of them lose
TOLERANCES = {"float64": 1e-14, "float32": 2e-6, "tf32": 1e-3, "bfloat16": 6e-3}
# rows, columns and the length of the sums: whole tiles, parts of them, and less than one
GATED_SHAPES = ((1024, 512, 512), (300, 66, 36), (1024, 64, 20))
# fits on the CPU that round otherwise: in the sums of several threads, and everywhere
ROUNDINGS = ({"n_threads": 2}, {"n_threads": 3}, {"n_threads": 4}, {"dtype": "float64"})
LAYERS = (100, 512, 512, 512, 10)
N_ROWS = 1_000_000


@contextmanager
def driver_of_device():
    driver = take_driver(0)
    try:
        with driver.active():
            yield driver
    finally:
        give_back(driver)


# ---- checks ---------------------------------------------------------------------------------


def device_matrix(driver, array, stride):
    """A host array on the device, with rows ``stride`` apart and NaN between them."""
    padded = np.full((len(array), stride), np.nan, array.dtype)
    padded[:, : array.shape[1]] = array
    memory = driver.to_device(padded)
    return memory, Matrix(driver.address(memory), *array.shape, stride)


def one_product(driver, rng, shape, dtype, precision, epilogue, accumulate, kind, align=16):
    """The relative error of a product with an epilogue; None if there is none."""
    n, m, k = shape
    stride = lambda width: -(-width // align) * align  # noqa: E731
    a, b = rng.standard_normal((n, k)), rng.standard_normal((k, m))
    stored = {"nn": (a, b), "nt": (a, b.T), "tn": (a.T, b)}[kind]
    keep, factors = [], []
    for array, letter in zip(stored, kind, strict=True):
        array = np.ascontiguousarray(array, dtype=dtype)
        memory, matrix = device_matrix(driver, array, stride(array.shape[1]))
        keep.append(memory)
        factors.append(matrix.T if letter == "t" else matrix)
    before = rng.standard_normal((n, m)).astype(dtype)
    if not accumulate:
        before[:] = np.nan
    result, out = device_matrix(driver, before, stride(m))
    bias = rng.standard_normal(m).astype(dtype)
    vector = driver.to_device(bias)
    done = driver.product(
        out, *factors, dtype=np.dtype(dtype), precision=precision, accumulate=accumulate,
        epilogue=epilogue, vector=driver.address(vector) if epilogue else 0,
    )  # fmt: skip
    driver.synchronize()
    if not done:
        return None
    expected = a.astype(dtype).astype(float) @ b.astype(dtype).astype(float)
    scale = np.linalg.norm(expected)
    found = driver.to_host(result)[:, :m].astype(float)
    if accumulate:
        expected += before
    if epilogue != Epilogue.NONE:
        expected += bias
    if epilogue == Epilogue.RELU:
        expected = np.maximum(expected, 0)
    return np.linalg.norm(found - expected) / scale


def products(report):
    """Every kind of product and epilogue, in aligned and odd shapes."""
    rng = np.random.default_rng(0)
    rows = []
    kinds = [*(("nn", epilogue) for epilogue in Epilogue), ("nt", 0), ("tn", 0)]
    with driver_of_device() as driver:
        for (kind, epilogue), precision in itertools.product(kinds, (*PRECISIONS, "float64")):
            dtype = np.float64 if precision == "float64" else np.float32
            epilogue = Epilogue(epilogue)
            worst, refused = 0.0, []
            shapes = ((256, 512, 128), (7, 10, 33), (129, 100, 31), (200, 1, 5), (1, 3, 1))
            # pixels of images have no gaps between them
            for shape, align in itertools.product(shapes, (16, 1)):
                for accumulate in (False, True) if epilogue == Epilogue.NONE else (False,):
                    error = one_product(
                        driver, rng, shape, dtype, precision, epilogue, accumulate, kind, align
                    )
                    if error is None:
                        refused.append("x".join(map(str, shape)))
                    else:
                        worst = max(worst, error)
            ok = worst < TOLERANCES[precision]
            rows.append(
                {"kind": kind, "epilogue": epilogue.name, "precision": precision,
                 "error": worst, "refused": " ".join(refused),
                 "ok": bool(ok)}
            )  # fmt: skip
        rows += [rectified_nan(driver, precision) for precision in PRECISIONS]
    return rows


def gated(report):
    """Products that take in the rectifier's derivative, where the GPU has kernels for that."""
    with driver_of_device() as driver:
        capability = driver.device.compute_capability
        if capability != CAPABILITY:
            return [{"shape": f"none on compute capability {capability}"}]
        encoder()  # a fit does without what fails here
        compile_functions()
        driver.load_kernels(np.float32, "tf32")
        return [gated_product(driver, shape) for shape in GATED_SHAPES]


def gated_product(driver, shape):
    """One of them, and its sums of columns."""
    (n, m, k), rng = shape, np.random.default_rng(0)
    a, b, y = (rng.standard_normal(s).astype(np.float32) for s in ((n, k), (m, k), (n, m)))
    keep = [device_matrix(driver, x, -(-x.shape[1] // 4) * 4) for x in (a, b, np.maximum(y, 0))]
    blocks = -(-n // TILE_ROWS)
    result, out = device_matrix(driver, np.full_like(y, np.nan), keep[2][1].stride)
    sums = driver.to_device(np.full((blocks, m), np.nan, np.float32))
    driver.launch(
        kernel_name("gated_product", formula(Activation.RELU)), blocks * -(-m // TILE_ROWS),
        out.address, *(driver.tiles(matrix, i < 2) for i, (_, matrix) in enumerate(keep)),
        driver.address(sums), n, m, k, out.stride,
    )  # fmt: skip
    driver.synchronize()
    expected = np.where(y > 0, a.astype(float) @ b.astype(float).T, 0)
    found = driver.to_host(result)[:, :m]
    totals = np.add.reduceat(found.astype(float), np.arange(0, n, TILE_ROWS))
    error = max(
        np.linalg.norm(found - expected) / np.linalg.norm(expected),
        np.linalg.norm(driver.to_host(sums) - totals) / np.linalg.norm(totals),
    )
    ok = bool(error < TOLERANCES["tf32"])
    return {"shape": "x".join(map(str, shape)), "error": error, "ok": ok}


def rectified_nan(driver, precision):
    """Whether NaN passes through the rectifier of a product."""
    a = np.ones((16, 16), np.float32)
    a[3, 5] = np.nan
    arrays = [driver.to_device(x) for x in (a * 0, a, np.ones_like(a), np.zeros(16, np.float32))]
    matrices = [Matrix(driver.address(x), 16, 16, 16) for x in arrays[:3]]
    driver.product(*matrices, dtype=np.dtype(np.float32), precision=precision,
                   epilogue=Epilogue.RELU, vector=driver.address(arrays[3]))  # fmt: skip
    driver.synchronize()
    is_nan = np.isnan(driver.to_host(arrays[0]))
    ok = bool(is_nan[3].all() and is_nan.sum() == 16)
    return {"kind": "NaN", "epilogue": "RELU", "precision": precision, "ok": ok}


def run_program(executor, case, dtype, fetch):
    """Epochs, a gradient and predictions, as arrays to compare."""
    n, batch_size = 301, 64
    X, y, weights = case.data(n)
    X, y = as_dtype(case, X, y, dtype)
    order = np.random.default_rng(3).permutation(n)
    parameters = case.parameters().astype(dtype)
    results, kept = {}, getattr(case, "state", lambda: np.zeros(0))().astype(dtype)
    for name, make in (STEADY if kept.size else OPTIMIZERS).items():
        vector, state = parameters.copy(), kept.copy() if kept.size else None
        executor.bind(X, y, weights, state, 5)
        optimizer = make(vector)
        results[f"{name} losses"] = [
            executor.train_epoch(vector, optimizer, order, batch_size, 0.3) for _ in range(3)
        ]
        if fetch:
            executor.fetch()
        results[f"{name} parameters"] = vector
        results[f"{name} slots"] = optimizer.slots
        results[f"{name} state"] = kept if state is None else state
    gradient = np.zeros_like(parameters)
    executor.bind(X, y, weights, kept.copy() if kept.size else None, 5)
    results["evaluate"] = executor.evaluate(parameters, gradient, np.arange(n))
    results["gradient"] = gradient
    if fetch:
        results["predictions"] = executor.driver.to_host(executor.predict(parameters))
    else:
        results["predictions"] = cpu_predict(case.predicts, parameters, X, state=kept)
    return results


OPTIMIZERS = {
    "sgd": lambda p: optimizers.SGD(p, schedules.Constant(0.1), 0.9, True),
    "plain": lambda p: optimizers.SGD(p, schedules.Constant(0.1), 0.0, True),
    "adam": lambda p: optimizers.Adam(p, 0.01, 0.9, 0.999, 1e-8),
}
# where some gradients are zero but for rounding, of which Adam would make steps
STEADY = {"steady": lambda p: optimizers.SGD(p, schedules.Constant(0.02), 0.5, True)}


def worst_difference(found, expected):
    """Relative to the largest number of each array."""
    worst = 0.0
    for name, array in expected.items():
        array = np.asarray(array, dtype=float)
        scale = np.abs(array).max(initial=1e-30)
        worst = max(worst, np.abs(np.asarray(found[name]) - array).max(initial=0) / scale)
        if np.isnan(np.asarray(found[name], dtype=float)).any():
            return np.inf
    return float(worst)


def programs(report):
    """Every op, loss, activation and optimizer through both executors."""
    rows = []
    with driver_of_device() as driver:
        for case in (*all_cases(), *network_cases()):
            for dtype, limit in ((np.float32, 5e-4), (np.float64, 1e-10)):
                cpu = CpuExecutor(case.program, dtype=dtype, capacity=64, n_threads=1)
                program = read_csr(case.logical) if case.sparse else case.logical
                gpu = Executor(program, dtype=dtype, capacity=64, driver=driver)
                expected = run_program(cpu, case, dtype, fetch=False)
                difference = worst_difference(run_program(gpu, case, dtype, True), expected)
                rows.append(
                    {"program": str(case), "dtype": np.dtype(dtype).name,
                     "difference": difference, "ok": difference < limit}
                )  # fmt: skip
    return rows


def classification(n, n_features, n_classes, seed=0):
    """Rows of normal numbers, labelled by a random network."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_features), dtype=np.float32)
    hidden = np.tanh(X @ rng.standard_normal((n_features, 32), dtype=np.float32))
    return X, (hidden @ rng.standard_normal((32, n_classes), dtype=np.float32)).argmax(axis=1)


# shapes of a sample, layers and rows: dense layers of up to 16 units whose weights come in chunks,
# products that take in a rectifier's derivative, more rows than are taken at once where batch
# normalization needs them all, and images
MANY_ROWS = {
    "narrow": ((700,), (Dense(16, "tanh"), Dense(3, "relu"), Dense(11)), 20_000),
    "wide": ((100,), (Dense(512, "relu"), Dense(512, "relu"), Dense(10)), 20_000),
    "normalized": (
        (20,), (Dense(64, "relu"), BatchNorm(), Dense(64, "relu"), Dense(36, "relu"), Dense(10)),
        70_000,
    ),
    "images": (
        (32, 32, 3), (Conv(32, activation="relu"), MaxPool(), Conv(64, activation="tanh"),
                      BatchNorm(), MaxPool(), Dense(10)), 600,
    ),
}  # fmt: skip
# relative norms of a gradient's error. Factors that are rounded turn some rectifiers on or off.
GRADIENT_TOLERANCES = {"float64": 1e-10, "float32": 2e-3, "tf32": 0.1, "bfloat16": 0.2}


def gradient_of(executor, dtype, program, X, y, parameters):
    """Of the loss of all rows, by segments."""
    state = np.array(program.initial_state, dtype) if program.n_state else None
    executor.bind(X.astype(dtype), y, None, state)
    gradient = np.zeros(program.n_parameters, dtype)
    executor.evaluate(parameters.astype(dtype), gradient, np.arange(len(X)))
    return program.views(gradient)


def norm_of_error(found, expected):
    """Relative, over all segments together."""
    a, b = (np.concatenate([np.ravel(part) for part in parts]) for parts in (found, expected))
    return float(np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b.astype(float)))


def gradients(report):
    """Of many rows, against the CPU's in float64; rounded ones without gated products, too."""
    rows = []
    for name, (shape, layers, n) in MANY_ROWS.items():
        program = sequential(shape, layers, losses.SOFTMAX_LOG_LOSS)
        X, y = classification(n, int(np.prod(shape)), layers[-1].units)
        y, rng = y.astype(np.int32), np.random.default_rng(2)
        parameters = np.zeros(program.n_parameters)
        for view in program.views(parameters):
            view[...] = rng.standard_normal(view.shape) / np.sqrt(len(view))
        cpu = CpuExecutor(lower_for_cpu(program, False), dtype=np.float64, capacity=n,
                          n_threads=os.cpu_count())  # fmt: skip
        expected = gradient_of(cpu, np.float64, program, X, y, parameters)
        for precision in (*PRECISIONS, "float64"):
            dtype = np.float64 if precision == "float64" else np.float32
            with driver_of_device() as driver:
                gpu = Executor(program, dtype=dtype, capacity=n, driver=driver,
                               precision=precision)  # fmt: skip
                arguments = gpu, dtype, program, X, y, parameters
                found = gradient_of(*arguments)
                with no_gated_products():
                    plain = gradient_of(*arguments)
            errors = norm_of_error(found, expected), norm_of_error(found, plain)
            ok = errors[0] < GRADIENT_TOLERANCES[precision] and errors[1] < 5e-3
            rows.append({"network": name, "rows": n, "precision": precision, "error": errors[0],
                         "gated or not": errors[1], "ok": ok})  # fmt: skip
    return rows


@contextmanager
def no_gated_products():
    before, gated_products.FEWEST_ROWS = gated_products.FEWEST_ROWS, sys.maxsize
    try:
        yield
    finally:
        gated_products.FEWEST_ROWS = before


def graphs(report):
    """Single launches and graphs, twice each: the same bits."""
    X, y = classification(5000, 40, 10)
    program = sequential((40,), (Dense(96, "relu"), Dense(36, "tanh"), Dense(10)),
                         losses.SOFTMAX_LOG_LOSS)  # fmt: skip
    # of which only the larger minibatches take gated products
    kinds = itertools.product(PRECISIONS, (128, gated_products.FEWEST_ROWS))
    return [
        {"precision": precision, "minibatch": batch}
        | graphs_and_launches(program, X, y, batch, precision)
        for precision, batch in kinds
    ]


def graphs_and_launches(program, X, y, batch, precision):
    """Whether graphs are captured, and leave the bits that single launches leave, twice each."""
    start = np.random.default_rng(1).standard_normal(program.n_parameters).astype(np.float32) / 9
    order = np.random.default_rng(0).permutation(len(X))
    found, captures = [], True
    with driver_of_device() as driver:
        for captured in (True, False, True, False):
            executor = Executor(program, dtype=np.float32, capacity=batch, driver=driver,
                                precision=precision)  # fmt: skip
            if not captured:
                executor._graph = lambda key, launch: launch
            state = np.array(program.initial_state, np.float32)
            executor.bind(X, y.astype(np.int32), None, state, 7)
            parameters, optimizer = start.copy(), OPTIMIZERS["adam"](start)
            for epoch in range(3):
                executor.train_epoch(parameters, optimizer, order, batch, 1e-4,
                                     n_seen=epoch * len(X))  # fmt: skip
            executor.fetch()
            found.append(np.concatenate([parameters, state]))
            captures &= executor.captures  # else single launches were compared with themselves
    same = all(np.array_equal(found[0], other) for other in found[1:])
    return {"captured": captures, "ok": bool(captures and same)}


def loss_curve(estimator, X, y, **options):
    """Of a fit with other options."""
    model = clone(estimator).set_params(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    return np.array(getattr(model, "loss_curve_", [model.loss_]))


def compare_curves(estimator, X, y):
    """How far the GPU's loss curve is from the CPU's, and how far it may be.

    Rounding in float32 grows over the epochs, and by how much is chance: ten times the most of
    several tries on the CPU are allowed.
    """
    cpu = loss_curve(estimator, X, y, device="cpu", n_threads=1)

    def difference(**options):
        return float(np.abs(loss_curve(estimator, X, y, **options) / cpu - 1).max())

    own = max(difference(**{"device": "cpu", "n_threads": 1, **other}) for other in ROUNDINGS)
    found = difference(device="cuda")
    limit = 2e-2 if estimator.get_params().get("solver") == "lbfgs" else max(1e-4, 10 * own)
    return {"difference": found, "most on the CPU": own, "ok": found < limit}


def fits(report):
    """Loss curves of whole fits against the CPU's."""
    X, y = classification(4000, 30, 6)
    rows = []
    mostly_zero = sparse.csr_array(np.where(np.abs(X) > 1.5, X, 0))
    kinds = [(MLPClassifier, X, y), (MLPRegressor, X, X @ X[:3].T / 30),
             (MLPClassifier, mostly_zero, y)]  # fmt: skip
    for solver, dtype in itertools.product(("adam", "sgd", "lbfgs"), ("float32", "float64")):
        for cls, data, target in kinds:
            model = cls(
                hidden_layer_sizes=(64, 33), solver=solver, max_iter=20, random_state=0,
                dtype=dtype, learning_rate_init=0.003,
            )  # fmt: skip
            rows.append(
                {"estimator": cls.__name__, "X": "dense" if data is X else "sparse",
                 "solver": solver, "dtype": dtype} | compare_curves(model, data, target)
            )  # fmt: skip
    return rows


@contextmanager
def chunks_of(n_bytes):
    """No X of the host fits on the device; so much of it comes at a time."""
    before = rows_of_x.MOST_OF_FREE, rows_of_x.CHUNK_BYTES
    rows_of_x.MOST_OF_FREE, rows_of_x.CHUNK_BYTES = 0, n_bytes
    try:
        yield
    finally:
        rows_of_x.MOST_OF_FREE, rows_of_x.CHUNK_BYTES = before


def rows(report):
    """Fits of rows in chunks of several sizes, and of those that are on the device."""
    X, y = classification(300_000, 100, 10)
    sizes = (None, 1 << 18, 1 << 22, rows_of_x.CHUNK_BYTES)
    fitted, found = [], []
    for n_bytes in sizes:
        model = MLPClassifier(
            (256, 256), batch_size=1000, max_iter=4, early_stopping=True, random_state=0,
            device="cuda",
        )  # fmt: skip
        begin = time.perf_counter()
        with warnings.catch_warnings(), chunks_of(n_bytes) if n_bytes else nullcontext():
            warnings.simplefilter("ignore")
            model.fit(X, y)
            seconds = time.perf_counter() - begin
            fitted.append((model.loss_curve_, model.validation_scores_, model.predict_proba(X)))
        same = all(np.array_equal(a, b) for a, b in zip(fitted[0], fitted[-1], strict=True))
        found.append({"chunk bytes": n_bytes, "seconds of the fit": seconds, "ok": same})
    return found


def orders(report):
    """Permutations drawn there and here, and that fits in such orders repeat themselves."""
    found = []
    with driver_of_device() as driver:
        driver.load_kernels(np.float32)
        for n, some in ((1, False), (1000, True), (1 << 20, False), (3_000_001, True)):
            taken = np.arange(5, 5 + 2 * n, 2) if some else None
            memory, places = driver.empty((n,), np.int64), taken
            if some:
                places = driver.to_device(taken)
            order = DrawnOrder(n, taken, 12345, 7)
            draw_order(
                driver, driver.address(memory), driver.address(places) if some else 0, order
            )
            driver.synchronize()
            expected = reference.draw_order(n, 12345, 7)
            expected = expected if taken is None else taken[expected]
            same = np.array_equal(driver.to_host(memory), expected)
            found.append({"rows": n, "of some rows": some, "ok": bool(same)})
    X, y = classification(1_000_000, 8, 2)
    curves = []
    for _ in range(2):
        model = MLPClassifier((8,), batch_size=100_000, max_iter=3, random_state=0, device="cuda")
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            curves.append(model.fit(X, y).loss_curve_)
    seconds = time.perf_counter() - begin
    found.append({"rows": len(X), "seconds of a fit": seconds, "ok": curves[0] == curves[1]})
    return found


SMALL_FIT = """
import numpy as np, warnings
warnings.simplefilter("ignore")
from scipy import sparse
from sknn import MLPClassifier, MLPRegressor
from sknn._kernels.gpu import rows
X = np.random.default_rng(0).standard_normal((77, 5)).astype("f")
y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
for activation in ("relu", "tanh"):
    m = MLPClassifier((17, 14, 9), activation=activation, batch_size=16, max_iter=2, device="cuda")
    m.fit(X, y).predict(X)
m = MLPRegressor(hidden_layer_sizes=(7,), batch_size=16, max_iter=2, device="cuda")
m.fit(X, X[:, :2])
m.fit(sparse.csr_array(np.where(X > 0, X, 0)), X[:, :2])
from sknn import NetworkClassifier
from sknn.layers import (
    Activation, AveragePool, BatchNorm, Concatenate, Conv, Dropout, LayerNorm, MaxPool, Residual,
)
layers = [Conv(8), BatchNorm(), Activation("tanh"), AveragePool(2),
          Residual([Conv(8, 3, groups=8)]), Concatenate([Conv(3, 1), LayerNorm()]), BatchNorm(),
          Dropout(0.2, spatial=True), Conv(5, 2, activation="relu"), MaxPool(2)]
images = np.random.default_rng(0).random((40, 8, 6, 3), dtype="f")
NetworkClassifier(layers, batch_size=16, max_iter=2, device="cuda").fit(images, y[:40])
rows.MOST_OF_FREE, rows.CHUNK_BYTES = 0, 16 * X[0].nbytes
m.fit(X, X[:, :2])
"""


def sanitizer(report):
    """compute-sanitizer over small fits."""
    if shutil.which("compute-sanitizer") is None:
        return [{"tool": "compute-sanitizer is not installed"}]
    rows = []
    # cuBLAS's kernels are not ours to check for races
    for tool, *options in (("memcheck",), ("racecheck", "--kernel-name", "kns=sknn")):
        try:
            done = subprocess.run(
                ["compute-sanitizer", "--tool", tool, *options, "--error-exitcode", "9",
                 sys.executable, "-c", SMALL_FIT],
                capture_output=True, text=True, timeout=100,
                cwd=Path(__file__).resolve().parent.parent,
            )  # fmt: skip
            summary = [line for line in done.stdout.splitlines() if "SUMMARY" in line]
            ok = done.returncode == 0
            text = (summary or [(done.stdout + done.stderr)[-600:]])[0].strip("= ")
        except subprocess.TimeoutExpired:
            ok, text = False, "took more than 100 s"
        rows.append({"tool": tool, "summary": text, "ok": ok})
    return rows


# ---- measurements ---------------------------------------------------------------------------


def device_seconds(driver, launch, n=20):
    """The median of some runs, by events."""
    cuda = driver.cupy.cuda
    for _ in range(3):
        launch()
    times = []
    for _ in range(n):
        begin, end = cuda.Event(), cuda.Event()
        begin.record(driver.stream)
        launch()
        end.record(driver.stream)
        end.synchronize()
        times.append(cuda.get_elapsed_time(begin, end) / 1e3)
    return statistics.median(times)


def copy_rate(driver, n_bytes=1 << 30):
    """Bytes read and written each second by a copy within the device."""
    runtime = driver.cupy.cuda.runtime
    a, b = (driver.cupy.random.randint(0, 255, n_bytes, dtype=np.uint8) for _ in range(2))
    kind, stream = runtime.memcpyDeviceToDevice, driver.stream.ptr
    seconds = device_seconds(
        driver, lambda: runtime.memcpyAsync(a.data.ptr, b.data.ptr, n_bytes, kind, stream)
    )
    return 2 * n_bytes / seconds


def product_rate(driver, precision, n=8192):
    """Floating-point operations each second of a large product."""
    dtype = np.dtype(np.float64 if precision == "float64" else np.float32)
    arrays = [driver.cupy.random.standard_normal((n, n), dtype=dtype) for _ in range(3)]
    matrices = [Matrix(x.data.ptr, n, n, n) for x in arrays]

    def launch():
        driver.product(*matrices, dtype=dtype, precision=precision)

    seconds = [device_seconds(driver, launch, 10)]
    driver.prepare(launch)  # which may take another algorithm
    seconds.append(device_seconds(driver, launch, 10))
    return 2 * n**3 / min(seconds)


def ceilings(report):
    """Copy bandwidth, and the rate of a large product at each precision."""
    with driver_of_device() as driver:
        rows = [{"what": "copy", "rate": copy_rate(driver) / 1e12, "unit": "TB/s"}]
        for precision in (*PRECISIONS, "float64"):
            rate = product_rate(driver, precision) / 1e12
            rows.append({"what": f"product {precision}", "rate": rate, "unit": "TFLOP/s"})
    return rows


def floor_seconds(report, batch, precision):
    """Per op: the larger of its arithmetic and its bytes at the measured ceilings, summed."""
    ceiling = {row["what"]: row["rate"] * 1e12 for row in report["ceilings"]}
    bandwidth, rate = ceiling["copy"], ceiling[f"product {precision}"]

    def product(n, m, k):
        return max(2 * n * m * k / rate, 4 * (n * k + k * m + n * m) / bandwidth)

    total = 2 * 4 * batch * LAYERS[0] / bandwidth  # gather
    pairs = list(itertools.pairwise(LAYERS))
    total += sum(product(batch, m, k) for k, m in pairs)
    total += 3 * 4 * batch * LAYERS[-1] / bandwidth  # loss
    total += sum(product(k, m, batch) for k, m in pairs)
    total += sum(product(batch, k, m) for k, m in pairs[1:])
    return total + 7 * 4 * sum(k * m + m for k, m in pairs) / bandwidth


def fit_step_seconds(model, X, y, batch, precision, n_epochs):
    """Of fits: what further epochs of `fit` take, with all that a user waits for."""
    model.set_params(batch_size=batch, random_state=0, device="cuda",
                     matmul_precision=precision, n_iter_no_change=1000)  # fmt: skip
    times = {}
    for _ in range(2):  # the first warms up
        for n in (1, 1 + n_epochs):
            model.set_params(max_iter=n)
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(X, y)
            times[n] = time.perf_counter() - begin
    return (times[1 + n_epochs] - times[1]) / n_epochs / -(-len(X) // batch)


def executor_step_seconds(X, y, batch, precision, n_epochs):
    """Of epochs of the executor alone: no shuffle, no validation of data."""
    program = sequential(
        LAYERS[:1], (*(Dense(m, "relu") for m in LAYERS[1:-1]), Dense(LAYERS[-1])),
        losses.SOFTMAX_LOG_LOSS,
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(X))
    with driver_of_device() as driver:
        executor = Executor(program, dtype=np.float32, capacity=batch, driver=driver,
                            precision=precision)  # fmt: skip
        executor.bind(X, y.astype(np.int32))
        rng = np.random.default_rng(1)
        parameters = rng.standard_normal(program.n_parameters).astype(np.float32) / 20
        optimizer = OPTIMIZERS["adam"](parameters)
        times = []
        for _ in range(1 + n_epochs):
            begin = time.perf_counter()
            executor.train_epoch(parameters, optimizer, order, batch, 1e-4)
            times.append(time.perf_counter() - begin)
    return statistics.median(times[1:]) / -(-len(X) // batch)


def speed(report):
    """Microseconds of a training step, beside PyTorch's."""
    import gpu_peers

    X, y = classification(N_ROWS, LAYERS[0], LAYERS[-1])
    rows = []
    for batch, precision in ((1024, "tf32"), (65_536, "tf32"), (1024, "float32"),
                             (65_536, "bfloat16")):  # fmt: skip
        n_epochs = 5 if batch == 1024 else 20
        row = {"batch": batch, "precision": precision}
        row["sknn fit"] = (
            fit_step_seconds(MLPClassifier(LAYERS[1:-1]), X, y, batch, precision, n_epochs) * 1e6
        )
        row["sknn executor"] = executor_step_seconds(X, y, batch, precision, n_epochs) * 1e6
        if "ceilings" in report:
            row["floor"] = floor_seconds(report, batch, precision) * 1e6
        if precision != "bfloat16":
            row |= gpu_peers.step_seconds(X, y, batch, LAYERS, precision)
        for other in ("floor", "torch eager", "torch graph"):
            if isinstance(row.get(other), float):
                row[f"{other} / sknn fit"] = row[other] / row["sknn fit"]
        rows.append(row)
        print(row, flush=True)
    return rows


def search(report):
    """A search of 60 small fits on one GPU, beside a loop of PyTorch's."""
    import gpu_peers
    from sklearn.model_selection import GridSearchCV

    X, y = classification(2000, 20, 5)
    network = {"hidden_layer_sizes": (100,), "batch_size": 200, "max_iter": 20}
    grid = {
        "alpha": [1e-5, 1e-4, 1e-3, 1e-2],
        "learning_rate_init": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    }
    times = []
    for _ in range(3):
        search = GridSearchCV(
            MLPClassifier(**network, random_state=0, device="cuda", n_iter_no_change=1000),
            grid, cv=3, n_jobs=1, refit=False,
        )  # fmt: skip
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(X, y)
        times.append(time.perf_counter() - begin)
    row = {"fits": 60, "sknn": statistics.median(times)}
    row |= gpu_peers.search_seconds(X, y, 60, 1333, network)
    if "torch eager" in row:
        row["torch eager / sknn"] = row["torch eager"] / row["sknn"]
    return [row]
