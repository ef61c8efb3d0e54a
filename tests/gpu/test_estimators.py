"""Estimators on a GPU: simulated here, real where there is one."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from sknn import MLPClassifier, MLPRegressor
from sknn._kernels.gpu import driver as cuda

from .simulated import Device, DeviceArray, SimulatedDriver

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
DIGITS, LABELS = load_digits(return_X_y=True)
X, Y = DIGITS[:240] / 16, LABELS[:240]
NUMBERS = np.column_stack([X[:, 20:30].sum(axis=1), X[:, 30:40].sum(axis=1)])
ESTIMATORS = {"classifier": (MLPClassifier, Y), "regressor": (MLPRegressor, NUMBERS)}
each_estimator = pytest.mark.parametrize("kind", ESTIMATORS)


def fitted(kind, device, X=X, **options):
    cls, y = ESTIMATORS[kind]
    options = {"hidden_layer_sizes": (20, 7), "max_iter": 20, "random_state": 0} | options
    return cls(device=device, **options).fit(X, y)


@each_estimator
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fit_is_the_cpus(simulated, kind, solver, dtype):
    cpu = fitted(kind, "cpu", solver=solver, dtype=dtype)
    gpu = fitted(kind, "cuda", solver=solver, dtype=dtype)
    assert len(simulated[0]) == 1
    if solver == "lbfgs":  # a rounding error grows from iteration to iteration
        assert gpu.loss_ == pytest.approx(cpu.loss_, rel=2e-2 if dtype == "float32" else 1e-8)
        return
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-4)
    for found, expected in zip(gpu.coefs_, cpu.coefs_, strict=True):
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, expected, atol=1e-3 if dtype == "float32" else 1e-9)
    np.testing.assert_allclose(gpu.predict(X), cpu.predict(X), rtol=1e-2)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_other_element_types(simulated, dtype):
    data = DIGITS[:240].astype(dtype)
    options = {"X": data, "max_iter": 3, "early_stopping": True, "validation_fraction": 0.2}
    cpu, gpu = (fitted("classifier", device, **options) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-4)
    assert gpu.validation_scores_ == cpu.validation_scores_
    np.testing.assert_allclose(gpu.predict_proba(data), cpu.predict_proba(data), atol=1e-4)


def test_binary_multilabel_and_weights(simulated):
    for y in (Y > 4, np.column_stack([Y > 4, Y % 2, Y % 3 == 0]).astype(int)):
        weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
        models = [
            MLPClassifier((9,), max_iter=3, random_state=0, device=device).fit(X, y, weights)
            for device in ("cpu", "cuda")
        ]
        np.testing.assert_allclose(models[0].loss_curve_, models[1].loss_curve_)
        np.testing.assert_array_equal(*(model.predict(X) for model in models))
        np.testing.assert_allclose(*(model.predict_proba(X) for model in models))


def test_partial_fit_goes_on(simulated):
    models = [MLPClassifier((9,), random_state=0, device=d) for d in ("cpu", "cuda")]
    for part in (slice(0, 100), slice(100, 240)):
        for model in models:
            model.partial_fit(X[part], Y[part], classes=range(10))
    np.testing.assert_allclose(models[0].loss_curve_, models[1].loss_curve_)
    np.testing.assert_allclose(models[0]._optimizer.slots, models[1]._optimizer.slots, atol=1e-12)


def test_many_rows_are_drawn_ahead(simulated, monkeypatch):
    monkeypatch.setattr("sknn._orders.AHEAD_ROWS", 100)
    for random_state in (0, np.random.RandomState(0)):
        cpu = fitted("classifier", "cpu", max_iter=5, random_state=random_state)
        if random_state != 0:
            random_state = np.random.RandomState(0)
        gpu = fitted("classifier", "cuda", max_iter=5, random_state=random_state)
        np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-10)


@each_estimator
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_rows_that_come_in_chunks(simulated, kind, solver, monkeypatch):
    """The same bits, scores of held out rows and long predictions included."""
    models = []
    for streams in (False, True):
        if streams:
            monkeypatch.setattr("sknn._kernels.gpu.rows.MOST_OF_FREE", 0)
            monkeypatch.setattr("sknn._kernels.gpu.rows.CHUNK_BYTES", 30 * X[0].nbytes)
        simulated[1]["late_streams"] = ("main", "copies")[:streams]
        options = {"solver": solver, "max_iter": 3, "batch_size": 20, "alpha": 0.1}
        models.append(fitted(kind, "cuda", early_stopping=solver == "adam", **options))
        models[-1].predictions = models[-1].predict(X)
    for name in ("loss_curve_", "validation_scores_") if solver == "adam" else ("loss_",):
        assert getattr(models[0], name) == getattr(models[1], name)
    np.testing.assert_array_equal(*(model._parameters for model in models))
    np.testing.assert_array_equal(*(model.predictions for model in models))


def test_an_interrupted_fit(simulated, monkeypatch):
    """It keeps what was trained, and the device goes on."""
    record, n_records = SimulatedDriver.record, []

    def interrupted(device):
        n_records.append(device)
        if len(n_records) == 4:
            raise KeyboardInterrupt
        return record(device)

    monkeypatch.setattr(SimulatedDriver, "record", interrupted)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = fitted("classifier", "cuda", batch_size=60)
    assert model.n_iter_ == 3
    expected = fitted("classifier", "cpu", batch_size=60, max_iter=4)
    np.testing.assert_allclose(model.coefs_[0], expected.coefs_[0])
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X))


def test_callbacks_see_the_weights(simulated):
    from sklearn.callback import FitCallback  # noqa: F401

    from ..test_callbacks import Recorder

    models = []
    for device in ("cpu", "cuda"):
        model = MLPClassifier((5,), max_iter=3, random_state=0, device=device)
        recorder = Recorder()
        models.append(model.set_callbacks(recorder).fit(X, Y))
    np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0])


# ---- CuPy arrays, for which a stand-in is enough --------------------------------------------


@pytest.fixture
def arrays(simulated):
    """A function that puts arrays on the second device, which is never the current one."""
    simulated[1]["array"] = DeviceArray

    def put(array):
        with Device(1):
            return np.array(array).view(DeviceArray)

    return put


@each_estimator
def test_arrays_of_the_device(simulated, arrays, kind):
    """They train there without being asked, and predictions stay there."""
    cls, y = ESTIMATORS[kind]
    model = cls(hidden_layer_sizes=(9,), max_iter=3, random_state=0)
    gpu = clone(model).fit(arrays(X), arrays(y))
    cpu = clone(model).fit(X, y)
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_)
    predictions = gpu.predict(arrays(X))
    assert isinstance(predictions, DeviceArray) and predictions.device.id == 1
    assert kind == "classifier" or predictions is simulated[0][-1].for_caller
    np.testing.assert_allclose(predictions.get(), cpu.predict(X))
    assert type(gpu.predict(X)) is np.ndarray
    assert all(type(a) is np.ndarray for a in (*gpu.coefs_, *gpu.intercepts_))
    assert gpu.n_features_in_ == X.shape[1]
    if kind == "classifier":
        assert type(gpu.classes_) is np.ndarray
        for name in ("predict_proba", "predict_log_proba"):
            found = getattr(gpu, name)(arrays(X))
            assert isinstance(found, DeviceArray) and found.device.id == 1
            np.testing.assert_allclose(found.get(), getattr(cpu, name)(X))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.float16, np.int32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_element_types_of_the_device(arrays, dtype, order):
    data = np.array(DIGITS[:240], dtype, order=order)
    model = MLPClassifier((9,), max_iter=3, random_state=0, dtype="float32")
    with Device(1):
        on_device = np.array(data, order=order).view(DeviceArray)
    gpu, cpu = clone(model).fit(on_device, Y > 4), clone(model).fit(data, Y > 4)
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-4)
    for name in ("predict_proba", "predict_log_proba"):
        found = getattr(gpu, name)(on_device)
        np.testing.assert_allclose(found.get(), getattr(cpu, name)(data), atol=1e-4)


def test_partial_fit_of_arrays_of_the_device(arrays):
    model = MLPClassifier((9,), random_state=0)
    gpu = clone(model).partial_fit(arrays(X), Guarded(Y), classes=range(10))
    cpu = clone(model).partial_fit(X, Y, classes=range(10))
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_)


@pytest.mark.parametrize("labels", [Y > 4, np.array(["a", "b", "c"])[Y % 3], np.eye(3)[Y % 3]])
def test_labels_of_the_device(arrays, labels):
    model = MLPClassifier((9,), max_iter=3, random_state=0)
    expected = clone(model).fit(X, labels).predict(X)
    found = model.fit(arrays(X), labels).predict(arrays(X))
    is_array = isinstance(found, DeviceArray)
    assert is_array == (labels.dtype.kind != "U")
    assert not is_array or found.device.id == 1
    np.testing.assert_array_equal(found.get() if is_array else found, expected)


class Guarded:
    """As CuPy's arrays, none of NumPy's unless asked with ``get``."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def get(self):
        return self.array

    def __array__(self, *arguments, **keywords):
        raise TypeError("implicit conversion")


Guarded.__module__ = "cupy"


@each_estimator
def test_scores_of_arrays_of_the_device(arrays, kind):
    cls, y = ESTIMATORS[kind]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    model = cls(hidden_layer_sizes=(9,), max_iter=3, random_state=0)
    cpu = clone(model).fit(X, y, weights)
    gpu = clone(model).fit(arrays(X), arrays(y), Guarded(weights))
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_)
    for given in (None, weights):
        expected = cpu.score(X, y, given)
        on_device = None if given is None else Guarded(given)
        for rows, labels in ((arrays(X), Guarded(y)), (X, arrays(y)), (arrays(X), y)):
            score = gpu.score(rows, labels, on_device)
            assert isinstance(score, float) and score == pytest.approx(expected)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (X[0], "2D array"),
        (np.where(X > 0.5, np.nan, X), "NaN or infinity"),
        (X[:100], "inconsistent numbers of samples"),
    ],
)
def test_bad_arrays_of_the_device(arrays, bad, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier().fit(arrays(bad), Y)


def test_another_number_of_features(arrays):
    model = MLPClassifier((3,), max_iter=1).fit(arrays(X), Y)
    with pytest.raises(ValueError, match="features"):
        model.predict(arrays(X[:, :5]))


def test_an_array_of_the_device_on_the_cpu(arrays):
    with pytest.raises(ValueError, match="CuPy array, but device='cpu'"):
        MLPClassifier(device="cpu").fit(arrays(X), Y)


# ---- errors, pickles ------------------------------------------------------------------------


@each_estimator
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix])
def test_sparse_fits(simulated, kind, solver, form):
    options = {"solver": solver, "max_iter": 5, "momentum": 0, "early_stopping": solver == "adam"}
    cpu = fitted(kind, "cpu", form(X), **options)
    gpu = fitted(kind, "cuda", form(X), **options)
    assert len(simulated[0]) == 1
    np.testing.assert_allclose(gpu.coefs_[0], cpu.coefs_[0], atol=1e-8)
    np.testing.assert_allclose(gpu.loss_, cpu.loss_, rtol=1e-8)
    np.testing.assert_allclose(gpu.predict(form(X)), cpu.predict(X), rtol=1e-6)
    assert len(simulated[0]) == 2, "predicted on the CPU"


def test_long_sparse_predictions_are_cut(simulated, monkeypatch):
    rows = sparse.csr_array(X)
    model = fitted("classifier", "cuda", max_iter=1)
    expected = model.predict_proba(X)
    monkeypatch.setattr("sknn._device.BLOCK_BYTES", rows.data.nbytes // 4)
    np.testing.assert_allclose(model.predict_proba(rows), expected)


def test_few_sparse_rows_are_predicted_on_the_cpu(simulated, monkeypatch):
    """What counts is what is not zero."""
    model = fitted("classifier", "cuda", max_iter=1)
    made = len(simulated[0])
    monkeypatch.setattr("sknn._device.FEW_FLOPS", len(X) * 2 * (20 * 8 + 20 * 7 + 7 * 10))
    few = np.where(np.arange(64) < 7, 1.0, 0.0) * np.ones((len(X), 1))
    for rows, n in ((few, 0), (np.ones_like(X), 1)):
        model.predict(sparse.csr_array(rows))
        assert len(simulated[0]) == made + n


def test_sparse_rows_of_the_device(simulated):
    class Matrix(sparse.csr_array):
        """Stands for CuPy's."""

    Matrix.__module__ = "cupyx.scipy.sparse._csr"
    model = fitted("classifier", "cuda", max_iter=1)
    for call in (lambda: model.fit(Matrix(X), Y), lambda: model.predict(Matrix(X))):
        with pytest.raises(ValueError, match=r"sparse matrix of CuPy's.*X.get\(\)"):
            call()


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:one", "CUDA", ""])
def test_no_such_device(device):
    with pytest.raises(ValueError, match="device must be None, 'cpu', 'cuda' or 'cuda:N'"):
        MLPClassifier(device=device).fit(X, Y)


def test_pickles_and_copies_predict_without_a_gpu(simulated, monkeypatch):
    model = fitted("classifier", "cuda", max_iter=2)
    expected = model.predict_proba(X)
    data = pickle.dumps(model)
    assert len(data) < len(pickle.dumps(fitted("classifier", "cpu", max_iter=2))) + 100
    monkeypatch.undo()  # no GPU any more
    monkeypatch.setattr("sknn._device.find_spec", lambda name: None)
    for other in (pickle.loads(data), copy.deepcopy(model)):
        assert other.device == "cuda"
        np.testing.assert_allclose(other.predict_proba(X), expected)


def test_weights_changed_by_hand(simulated):
    model = fitted("regressor", "cuda", max_iter=2)
    model.coefs_[-1][...] = 0
    model.intercepts_[-1] = np.array([1.0, 2.0])
    np.testing.assert_allclose(model.predict(X), np.tile([1.0, 2.0], (len(X), 1)))


def test_long_predictions_are_cut(simulated, monkeypatch):
    model = fitted("classifier", "cuda", max_iter=1)
    expected = model.predict_proba(X)
    monkeypatch.setattr("sknn._device.BLOCK_BYTES", 50 * X[0].nbytes)
    monkeypatch.setattr("sknn._device.GPU_ROWS", 32)
    np.testing.assert_allclose(model.predict_proba(X), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_batch_normalization(simulated, dtype, early_stopping):
    """Of minibatches, and of one row that is left over; the best statistics are kept.

    Adam would move biases, which have no gradient, by rounding alone, and means with them.
    """
    options = {"normalization": "batch", "early_stopping": early_stopping, "dtype": dtype,
               "batch_size": 53, "solver": "sgd", "learning_rate_init": 0.02}  # fmt: skip
    cpu, gpu = (fitted("classifier", device, **options) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-4)
    close = {"atol": 1e-3 if dtype == "float32" else 1e-9}
    np.testing.assert_allclose(gpu._state, cpu._state, **close)
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), **close)
    for model in (cpu, gpu):
        if not early_stopping:
            model.partial_fit(X, Y)
    np.testing.assert_allclose(gpu._state, cpu._state, **close)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_dropout_and_normalization(simulated, early_stopping):
    options = {
        "dropout": 0.3,
        "normalization": "layer",
        "max_iter": 4,
        "early_stopping": early_stopping,
    }
    cpu, gpu = (fitted("classifier", device, **options) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_)
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X))


def test_few_rows_are_predicted_on_the_cpu(simulated, monkeypatch):
    model = fitted("classifier", "cuda", max_iter=1)
    made = len(simulated[0])
    monkeypatch.setattr("sknn._device.FEW_FLOPS", 1e5)
    model.predict(X[:1])
    assert len(simulated[0]) == made
    model.predict(X)
    assert len(simulated[0]) == made + 1


# ---- on a real GPU --------------------------------------------------------------------------


@pytest.fixture
def cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        cuda.check_device(0)
    except RuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    return cupy


@each_estimator
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_real_fits(cupy, kind, solver):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        cpu, gpu = (fitted(kind, device, solver=solver) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-6)
    device_X = cupy.asarray(X)
    assert isinstance(gpu.predict(device_X), cupy.ndarray)
    np.testing.assert_allclose(gpu.predict(device_X).get(), cpu.predict(X), rtol=1e-6)
