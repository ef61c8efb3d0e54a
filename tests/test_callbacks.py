"""scikit-learn's callbacks, and Ctrl-C, during a fit."""

import _thread
import signal
import threading
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknn import MLPClassifier, MLPRegressor
from sknn._lbfgs import Objective

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

EPOCHS = 6
PARAMS = {"hidden_layer_sizes": 5, "max_iter": EPOCHS, "random_state": 0}
CASES = [
    (MLPClassifier, {}),
    (MLPRegressor, {"solver": "sgd", "batch_size": 7}),
    (MLPClassifier, {"early_stopping": True, "validation_fraction": 0.3}),
    (MLPRegressor, {"early_stopping": True, "shuffle": False}),
    (MLPClassifier, {"solver": "lbfgs"}),
    (MLPRegressor, {"solver": "lbfgs"}),
]
each_case = pytest.mark.parametrize(
    "make",
    [lambda cls=cls, kw=kw: cls(**PARAMS, **kw) for cls, kw in CASES],
    ids=[f"{cls.__name__}-{kw}" for cls, kw in CASES],
)


class Recorder:
    """Notes every call; asks to stop at the end of the epoch `stop`, raises in epoch `fail`."""

    def __init__(self, stop=None, fail=None):
        self.stop, self.fail = stop, fail
        self.calls = []
        self.epochs = []  # of each epoch that ended: its task and the estimator of then

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append("begin" if context.parent is None else "begin epoch")

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        if context.parent is None:
            self.calls.append("end")
            return None
        self.calls.append("end epoch")
        if fitted_estimator is None:  # L-BFGS may begin an iteration that it never runs
            return None
        self.epochs.append((context, X, y, metadata, fitted_estimator))
        if self.fail == len(self.epochs):
            raise RuntimeError("the callback failed")
        return self.stop == len(self.epochs)


@pytest.fixture
def data():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((50, 3))
    return X, (X[:, 0] + X[:, 1] ** 2 > 0.7).astype(int)


def assert_same_weights(a, b):
    for left, right in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-7, atol=1e-12)


@each_case
def test_one_task_per_epoch(make, data):
    recorder = Recorder()
    estimator = make().set_callbacks(recorder).fit(*data)
    spare = estimator.solver == "lbfgs" and recorder.calls.count("end epoch") > estimator.n_iter_
    epochs = ["begin epoch", "end epoch"] * (estimator.n_iter_ + spare)
    assert recorder.calls == ["setup", "begin", *epochs, "end", "teardown"]
    assert [context.task_id for context, *_ in recorder.epochs] == list(range(estimator.n_iter_))
    root = recorder.epochs[0][0].parent
    assert root.max_subtasks in (None, EPOCHS + spare)
    assert root.estimator_name == type(estimator).__name__


@each_case
def test_callbacks_change_nothing(make, data):
    watched = make().set_callbacks(Recorder()).fit(*data)
    plain = make().fit(*data)
    assert vars(watched).keys() - {"_skl_callbacks"} == vars(plain).keys()
    assert_same_weights(watched, plain)


@each_case
def test_a_callback_stops_the_fit(make, data):
    recorder, left = Recorder(stop=3), np.random.RandomState(0)
    stopped = make().set_params(random_state=left).set_callbacks(recorder).fit(*data)
    assert stopped.n_iter_ == len(recorder.epochs) == 3
    assert recorder.calls[-2:] == ["end", "teardown"]
    if stopped.solver != "lbfgs":
        assert len(stopped.loss_curve_) == 3
    expected = np.random.RandomState(0)
    assert_same_weights(stopped, make().set_params(max_iter=3, random_state=expected).fit(*data))
    assert left.randint(1 << 30) == expected.randint(1 << 30)


@each_case
def test_stopped_by_a_callback_is_not_a_failure_to_converge(make, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().set_callbacks(Recorder(stop=2)).fit(*data)


@each_case
def test_fitted_estimator_predicts_as_if_fit_had_stopped(make, data):
    X, _ = data
    recorder = Recorder()
    make().set_callbacks(recorder).fit(*data)
    assert len(recorder.epochs) > 3
    for epoch, (*_, fitted) in enumerate(recorder.epochs, start=1):
        stopped = make().set_params(max_iter=epoch).fit(*data)
        np.testing.assert_allclose(fitted.predict(X), stopped.predict(X), rtol=1e-7)
        if hasattr(fitted, "predict_proba"):
            np.testing.assert_allclose(fitted.predict_proba(X), stopped.predict_proba(X), 1e-7)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_see_the_data(solver, data):
    """Rows, targets as the user gave them, and their weights: enough to compute a score."""
    X, y = data
    labels = np.array(["no", "yes"])[y]
    weights = np.random.RandomState(1).uniform(size=len(y))
    recorder = Recorder()
    MLPClassifier(**PARAMS, solver=solver).set_callbacks(recorder).fit(X, labels, weights)
    assert len(recorder.epochs) == EPOCHS
    for _, X_seen, y_seen, metadata, fitted in recorder.epochs:
        assert 0 < fitted.score(X_seen, y_seen, **metadata) <= 1
        np.testing.assert_array_equal(X_seen, X)
        np.testing.assert_array_equal(y_seen, labels)
        np.testing.assert_array_equal(metadata["sample_weight"], weights)


def test_teardown_after_an_error(data):
    recorder = Recorder(fail=2)
    estimator = MLPClassifier(**PARAMS).set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="the callback failed"):
        estimator.fit(*data)
    assert recorder.calls.count("teardown") == 1
    estimator.set_callbacks().fit(*data)
    assert_same_weights(estimator, MLPClassifier(**PARAMS).fit(*data))
    assert len(recorder.epochs) == 2


def test_teardown_after_lbfgs_has_failed_to_begin(data, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("scipy.optimize.minimize", fail)
    recorder = Recorder()
    estimator = MLPClassifier(**PARAMS | {"solver": "lbfgs"}).set_callbacks(recorder)
    with pytest.raises(MemoryError):
        estimator.fit(*data)
    assert recorder.calls.count("teardown") == 1
    assert not hasattr(estimator, "coefs_")


def test_only_callbacks_are_accepted():
    with pytest.raises(TypeError, match="callbacks must be instances"):
        MLPClassifier().set_callbacks(print)


def test_clone_keeps_callbacks_and_partial_fit_works_with_them(data):
    recorder = Recorder()
    estimator = clone(MLPRegressor(**PARAMS).set_callbacks(recorder)).fit(*data)
    assert len(recorder.epochs) == EPOCHS
    estimator.partial_fit(*data)
    assert len(estimator.loss_curve_) == EPOCHS + 1


# scikit-learn's own callbacks


def scored_epochs(monitor, estimator):
    """The rows that ScoringMonitor has written for epochs, which are the deepest tasks."""
    rows = monitor.get_logs().data
    depth = max(len(row["task_id_path"]) for row in rows)
    assert {row["estimator_name"] for row in rows if len(row["task_id_path"]) == depth} == {
        type(estimator).__name__
    }
    return [row for row in rows if len(row["task_id_path"]) == depth]


@each_case
def test_scoring_monitor(make, data):
    X, y = data
    estimator = make()
    name, metric = ("accuracy", accuracy_score)
    if isinstance(estimator, MLPRegressor):
        name, metric = ("r2", r2_score)
    monitor = ScoringMonitor(scoring=name)
    estimator.set_callbacks(monitor).fit(X, y)
    scores = [row[name] for row in scored_epochs(monitor, estimator)]
    assert len(scores) == estimator.n_iter_ and np.isfinite(scores).all()
    if not estimator.early_stopping:
        assert scores[-1] == pytest.approx(metric(y, estimator.predict(X)))
        first = make().set_params(max_iter=1).fit(X, y)
        assert scores[0] == pytest.approx(metric(y, first.predict(X)))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scoring_monitor_in_a_pipeline(solver, data):
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    network = MLPClassifier(**PARAMS, solver=solver).set_callbacks(monitor)
    pipeline = make_pipeline(StandardScaler(), network).fit(*data)
    rows = scored_epochs(monitor, network)
    assert len(rows) == EPOCHS
    assert rows[-1]["accuracy"] == pytest.approx(pipeline.score(*data))
    assert rows[-1]["neg_log_loss"] < 0


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_scoring_monitor_in_a_grid_search(n_jobs, solver, data):
    monitor = ScoringMonitor(scoring="r2")
    network = MLPRegressor(**PARAMS, solver=solver).set_callbacks(monitor)
    search = GridSearchCV(network, {"alpha": [0.1, 1]}, cv=2, n_jobs=n_jobs).fit(*data)
    rows = monitor.get_logs().data
    fits = {}
    for row in rows:
        if row["estimator_name"] == "MLPRegressor":
            fits.setdefault(row["parent_task_id_path"], []).append(row["r2"])
    epochs = [scores for scores in fits.values() if len(scores) >= EPOCHS]
    assert len(epochs) == 2 * 2 + 1  # each candidate on each fold, and the last fit
    assert any(
        scores[EPOCHS - 1] == pytest.approx(r2_score(data[1], search.predict(data[0])))
        for scores in epochs
    )


@pytest.mark.parametrize("n_jobs", [None, 1, 2])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_progress_bar(n_jobs, solver, data, capsys):
    """Alone (None) or handed down through a search and a pipeline."""
    pytest.importorskip("rich")
    top = MLPClassifier(**PARAMS, solver=solver)
    if n_jobs is not None:
        pipeline = make_pipeline(StandardScaler(), top)
        top = GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.1, 1]}, cv=2, n_jobs=n_jobs)
    top.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*data)
    text = capsys.readouterr().out
    assert "MLPClassifier - fit" in text and "100%" in text
    assert top.score(*data) > 0.3


# Ctrl-C


@pytest.fixture
def press_ctrl_c():
    """A function that has Ctrl-C pressed in some seconds."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timers = []

    def press_in(seconds):
        timers.append(threading.Timer(seconds, _thread.interrupt_main))
        timers[0].start()

    yield press_in
    for timer in timers:
        timer.cancel()
        timer.join()
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_ctrl_c_between_epochs(cls, early_stopping, press_ctrl_c, data):
    X, y = data
    params = {**PARAMS, "early_stopping": early_stopping, "n_iter_no_change": np.inf}
    estimator = cls(**{**params, "max_iter": 1_000_000})
    press_ctrl_c(0.3)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        estimator.fit(X, y)
    assert 0 < estimator.n_iter_ < 1_000_000  # which would take hours
    assert abs(len(estimator.loss_curve_) - estimator.n_iter_) <= 1
    assert np.isfinite(estimator.predict(X)).all()
    if early_stopping:
        best = 1 + int(np.argmax(estimator.validation_scores_))
        stopped = cls(**{**params, "max_iter": best}).fit(X, y)
        assert_same_weights(estimator, stopped)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ctrl_c_within_an_iteration_of_lbfgs(dtype, data, monkeypatch):
    """What stays is the last iteration's, not a point that the next one tries."""
    X, y = data
    evaluate, n_evaluations = Objective.__call__, 0

    def interrupted(objective, vector):
        nonlocal n_evaluations
        n_evaluations += 1
        if n_evaluations == 5:
            raise KeyboardInterrupt
        return evaluate(objective, vector)

    params = {**PARAMS, "solver": "lbfgs", "dtype": dtype}
    estimator = MLPClassifier(**params)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="interrupted by user"):
        patch.setattr(Objective, "__call__", interrupted)
        estimator.fit(X, y)
    assert 0 < estimator.n_iter_ < 5
    stopped = MLPClassifier(**{**params, "max_iter": estimator.n_iter_}).fit(X, y)
    assert_same_weights(estimator, stopped)
    assert estimator.loss_ == stopped.loss_


def test_ctrl_c_within_an_epoch(press_ctrl_c):
    """One epoch takes many seconds here."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((200_000, 50)).astype(np.float32)
    y = X[:, 0] > 0
    estimator = MLPClassifier(hidden_layer_sizes=(1000, 1000), max_iter=1, n_threads=1)
    press_ctrl_c(1)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        estimator.fit(X, y)
    assert 0 < estimator._optimizer.t < 1000  # minibatches of the epoch's 1000
    assert estimator.n_iter_ == 0 and estimator.loss_curve_ == []
    assert np.isfinite(estimator.predict_proba(X[:100])).all()


def test_fit_goes_on_after_ctrl_c(press_ctrl_c, data):
    X, y = data
    params = {**PARAMS, "n_iter_no_change": np.inf}
    estimator = MLPClassifier(**{**params, "max_iter": 1_000_000})
    press_ctrl_c(0.2)
    with pytest.warns(UserWarning, match="Training interrupted"):
        estimator.fit(X, y)
    estimator.set_params(max_iter=EPOCHS).fit(X, y)
    assert_same_weights(estimator, MLPClassifier(**params).fit(X, y))
