"""How long does a prediction take, beside scikit-learn, ONNX Runtime and PyTorch?

python benchmarks/bench_predict.py                 on one thread, and on two
python benchmarks/bench_predict.py --threads 1

All have the weights of the same network, and must predict the same probabilities.
"""

import argparse
import functools
import importlib.util
import itertools
import time
import warnings

import numpy as np
from measure import compare_latencies, limit_threads, pin
from report import Report
from workers import Worker

# with the calls of a burst for many rows
NETWORKS = {(20, 100, 10): 50, (784, 256, 128, 10): 5}
ROWS = 10_000
BURSTS = 9
# of the small network on one thread: p50 and p99 of one row are at most ONNX Runtime's, and
# many rows go so many times as fast
GOALS = {"ONNX Runtime": 1.2, "scikit-learn": 3.0}
LIBRARIES = {
    "sknn": ["sknn"],
    "scikit-learn": ["sklearn"],
    "ONNX Runtime": ["onnx", "onnxruntime"],
    "PyTorch": ["torch"],
}


def make_data(sizes):
    """X, labels and the weights that all take."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, sizes[0]), dtype=np.float32)
    y = rng.integers(sizes[-1], size=ROWS)
    shapes = list(itertools.pairwise(sizes))
    coefs = [rng.standard_normal(shape, dtype=np.float32) / shape[0] ** 0.5 for shape in shapes]
    intercepts = [rng.standard_normal(width, dtype=np.float32) for width in sizes[1:]]
    return X, y, [W.astype(np.float32) for W in coefs], intercepts


def onnx_session(coefs, intercepts, threads):
    """A session of ONNX Runtime for a network with ReLU and softmax."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    nodes, weights, value = [], [], "X"
    for i, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        weights += [
            numpy_helper.from_array(np.ascontiguousarray(W), f"W{i}"),
            numpy_helper.from_array(np.ascontiguousarray(b), f"b{i}"),
        ]
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [f"z{i}"]))
        last = i == len(coefs) - 1
        value = "p" if last else f"a{i}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"z{i}"], [value]))
    tensor = functools.partial(helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "mlp",
        [tensor("X", shape=[None, coefs[0].shape[0]])],
        [tensor("p", shape=[None, coefs[-1].shape[1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def torch_module(coefs, intercepts, threads):
    """The same network for PyTorch's eager mode."""
    import torch

    torch.set_num_threads(threads)
    layers = []
    for W, b in zip(coefs, intercepts, strict=True):
        layer = torch.nn.Linear(*W.shape)
        layer.weight.data = torch.tensor(W.T).contiguous()
        layer.bias.data = torch.tensor(b)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1], torch.nn.Softmax(dim=1)).eval()


def fitted(network_class, X, y, coefs, intercepts, **parameters):
    """An estimator with these weights."""
    hidden = [len(b) for b in intercepts[:-1]]
    model = network_class(hidden_layer_sizes=hidden, max_iter=1, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        model.fit(X[:1000], y[:1000])
    model.coefs_[: len(coefs) - 1] = coefs[:-1]
    model.intercepts_[: len(coefs) - 1] = intercepts[:-1]
    if len(model.intercepts_[-1]) == len(intercepts[-1]):  # a regressor has one output
        model.coefs_[-1], model.intercepts_[-1] = coefs[-1], intercepts[-1]
    return model


def make_predictors(library, sizes, threads):
    """{name: function of X}, and X."""
    X, y, *weights = make_data(sizes)
    if library == "sknn":
        from sknn import MLPClassifier, MLPRegressor

        classifier = fitted(MLPClassifier, X, y, *weights, n_threads=threads)
        regressor = fitted(MLPRegressor, X, X[:, 0], *weights, n_threads=threads)
        return {
            "sknn": classifier.predict_proba,
            "sknn predict": classifier.predict,
            "sknn regressor": regressor.predict,
        }, X
    if library == "scikit-learn":
        from sklearn.neural_network import MLPClassifier

        return {library: fitted(MLPClassifier, X, y, *weights).predict_proba}, X
    if library == "ONNX Runtime":
        session = onnx_session(*weights, threads)
        return {library: lambda X: session.run(None, {"X": X})[0]}, X
    import torch

    module = torch_module(*weights, threads)

    def predict(X):
        with torch.inference_mode():
            return module(torch.from_numpy(X)).numpy()

    return {library: predict}, X


# what a worker holds
HELD = {}


def prepare(*args):
    """Make the predictors in a worker; return what each says of some rows."""
    HELD["predictors"], HELD["X"] = make_predictors(*args)
    return {name: predict(HELD["X"][:100]) for name, predict in HELD["predictors"].items()}


def burst(name, n_rows, calls):
    """The seconds of each of so many calls in a worker."""
    predict, X, clock = HELD["predictors"][name], HELD["X"][:n_rows].copy(), time.perf_counter_ns
    for _ in range(3):
        predict(X)
    times = np.empty(calls)
    for i in range(calls):
        start = clock()
        predict(X)
        times[i] = clock() - start
    return times / 1e9


def measure(sizes, threads, cores, calls):
    """The percentiles of one row and of many, {name: {"p50": seconds, ...}}."""
    workers, of_name, expected = {}, {}, None
    try:
        for library, modules in LIBRARIES.items():
            if missing := [m for m in modules if importlib.util.find_spec(m) is None]:
                print(f"{library} is left out: {', '.join(missing)} is not installed.")
                continue
            workers[library] = worker = Worker(threads, cores)
            predictions = worker.call(prepare, library, sizes, threads)
            of_name |= dict.fromkeys(predictions, worker)
            expected = predictions["sknn"] if expected is None else expected
            np.testing.assert_allclose(predictions[library], expected, rtol=1e-3, atol=1e-5)
        return [
            compare_latencies(
                {name: worker.task(burst, name, n, k) for name, worker in of_name.items()}, BURSTS
            )
            for n, k in ((1, 1000), (ROWS, calls))
        ]
    finally:
        for worker in workers.values():
            worker.close()


def one_row_of(network, timings):
    """A row of the table of latencies."""
    cells = (_noisy(t) + f"{t['p50'] * 1e6:.1f} / {t['p99'] * 1e6:.1f}" for t in timings.values())
    return [network, *cells]


def many_rows_of(network, timings):
    """A row of the table of throughput, with ratios to sknn."""
    row = [network]
    for name, timing in timings.items():
        ratio = timing["p50"] / timings["sknn"]["p50"]
        shown = "" if name.startswith("sknn") else f" ({ratio:.2f})"
        row.append(_noisy(timing) + f"{timing['p50'] * 1e6:,.0f}{shown}")
    return row


def _noisy(timing):
    return "" if timing["quiet"] else "~"


def run(threads):
    cores = pin(threads)
    limit_threads(1)  # of this process; a worker has its own limit
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    report = Report(f"Predictions, {count}", **{"cores used": cores, "bursts": BURSTS})
    one, many = {}, {}
    for sizes, calls in NETWORKS.items():
        network = "-".join(map(str, sizes))
        one[network], many[network] = measure(sizes, threads, cores, calls)
    columns = ["network", *next(iter(one.values()))]
    report.add(
        "one row",
        "One row: p50 / p99, microseconds",
        columns,
        [one_row_of(*item) for item in one.items()],
        one,
        "20-100-10 is held to at most ONNX Runtime's, both of them.",
    )
    goals = ", ".join(f"{goal:g} for {name}" for name, goal in GOALS.items())
    report.add(
        "many rows",
        f"{ROWS:,} rows: p50, microseconds (times as long as sknn's probabilities)",
        columns,
        [many_rows_of(*item) for item in many.items()],
        many,
        f"20-100-10 is held to {goals}, on one thread. ~ marks a noisy figure.",
    )
    stem = "predict" if threads == 1 else f"predict-{threads}threads"
    print(f"Written: {report.write(stem)}.json and .md")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    for threads in parser.parse_args().threads:
        run(threads)


if __name__ == "__main__":
    main()
