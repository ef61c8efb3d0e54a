"""The same numbers as scikit-learn: both are fitted and everything they show is compared.

Another order of summation moves a float64 loss by some 1e-14, so 1e-10 is asked for: whatever
differs by more computes something else.
"""

import copy
import warnings

import numpy as np
import pytest
import sklearn.neural_network
from scipy import sparse
from sklearn.base import clone, is_classifier

import sknn

ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
SCHEDULES = ["constant", "invscaling", "adaptive"]
CLASSIFICATION = ["binary", "multiclass", "multilabel"]
REGRESSION = ["squared_error", "squared_error_2", "poisson", "poisson_2"]
TASKS = CLASSIFICATION + REGRESSION

PARAMS = {
    "hidden_layer_sizes": (8,),
    "batch_size": 16,  # 70 rows: the last minibatch has 6
    "max_iter": 25,
    "learning_rate_init": 0.01,
    "random_state": 7,
}


def make_task(task, n_samples=70, n_features=6):
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n_samples, n_features))
    Z = X @ rng.standard_normal((n_features, 3)) + 0.3 * rng.standard_normal((n_samples, 3))
    y = {
        "binary": lambda: (Z[:, 0] > 0).astype(int),
        "multiclass": lambda: np.array(["red", "green", "blue"])[Z.argmax(axis=1)],
        "multilabel": lambda: (Z > 0.5).astype(int),
        "squared_error": lambda: Z[:, 0],
        "squared_error_2": lambda: Z[:, :2],
        "poisson": lambda: rng.poisson(np.exp(Z[:, 0] / 3)).astype(float),
        "poisson_2": lambda: np.abs(Z[:, :2]),
    }[task]()
    return X, y


def make_pair(task, **params):
    """Our estimator and scikit-learn's with the same parameters (and their own RandomState)."""
    params = {**PARAMS, **params}
    name = "MLPClassifier" if task in CLASSIFICATION else "MLPRegressor"
    if task not in CLASSIFICATION:
        params.setdefault("loss", "poisson" if task.startswith("poisson") else "squared_error")
    modules = sknn, sklearn.neural_network
    return tuple(getattr(module, name)(**copy.deepcopy(params)) for module in modules)


def call(estimator, method, *args, **kwargs):
    """Run one method; return the text of the warnings that a user would see."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        getattr(estimator, method)(*args, **kwargs)
    seen = [w for w in caught if issubclass(w.category, UserWarning)]
    return [(w.category, str(w.message)) for w in seen]


def call_both(ours, theirs, method, *args, **kwargs):
    """Call both and compare the warnings; ours may say more after scikit-learn's words."""
    ours, theirs = (call(estimator, method, *args, **kwargs) for estimator in (ours, theirs))
    assert [category for category, _ in ours] == [category for category, _ in theirs]
    for (_, text), (_, expected) in zip(ours, theirs, strict=True):
        assert text.startswith(expected)


def fitted_names(estimator):
    """The public names that fit has added."""
    unfitted = clone(estimator)
    return {
        name
        for name in {*dir(estimator), *vars(estimator)}
        if not name.startswith("_") and hasattr(estimator, name) and not hasattr(unfitted, name)
    }


def assert_equal(ours, theirs, name, rtol):
    if isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs), name
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b, name, rtol)
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, name
        if theirs.dtype.kind == "f":
            atol = rtol * np.abs(theirs[np.isfinite(theirs)]).max(initial=0)
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=name)
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    elif isinstance(theirs, float):
        assert isinstance(ours, float), name
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-14, err_msg=name)
    else:
        assert type(ours) is type(theirs) and ours == theirs, name


def assert_same(ours, theirs, X, rtol=1e-10):
    """Every fitted attribute and every kind of prediction agrees."""
    names = fitted_names(theirs)
    assert fitted_names(ours) == names | {"parameters_"}
    assert {name for name in vars(ours) if not name.startswith("_")} >= {"coefs_", "intercepts_"}
    if theirs.solver != "lbfgs":
        names.add("_no_improvement_count")
        assert ours._optimizer.learning_rate == pytest.approx(theirs._optimizer.learning_rate)
    for name in sorted(names):
        assert_equal(getattr(ours, name), getattr(theirs, name), name, rtol)

    with np.errstate(over="ignore"):
        ours_y, theirs_y = ours.predict(X), theirs.predict(X)
    assert type(ours_y) is type(theirs_y)
    if sparse.issparse(theirs_y):
        ours_y, theirs_y = ours_y.toarray(), theirs_y.toarray()
    assert_equal(ours_y, theirs_y, "predict", rtol)
    if is_classifier(theirs):
        p, q = ours.predict_proba(X), theirs.predict_proba(X)
        assert p.dtype == q.dtype and p.shape == q.shape
        assert p.flags.f_contiguous == q.flags.f_contiguous
        np.testing.assert_allclose(p, q, rtol=rtol, atol=1e-14)


def check_fit(task, X=None, y=None, sample_weight=None, rtol=1e-10, **params):
    """Fit both, compare them, return scikit-learn's."""
    ours, theirs = make_pair(task, **params)
    if X is None:
        X, y = make_task(task)
    call_both(ours, theirs, "fit", X, y, sample_weight=sample_weight)
    assert_same(ours, theirs, X, rtol)
    return theirs


def weights_for(n_samples):
    """Uneven sample weights, some of them zero."""
    weights = np.random.RandomState(1).uniform(0, 3, n_samples)
    weights[::9] = 0
    return weights


# Optimizers


@pytest.mark.parametrize("task", ["multiclass", "squared_error"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("momentum", [0, 0.9, 1.0])
@pytest.mark.parametrize("nesterovs_momentum", [True, False])
def test_sgd(task, schedule, momentum, nesterovs_momentum):
    check_fit(
        task,
        solver="sgd",
        learning_rate=schedule,
        momentum=momentum,
        nesterovs_momentum=nesterovs_momentum,
    )


@pytest.mark.parametrize("task", ["binary", "squared_error_2"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_adaptive_divides_the_rate(task, early_stopping):
    theirs = check_fit(
        task,
        solver="sgd",
        learning_rate="adaptive",
        tol=1.0,
        n_iter_no_change=5,
        early_stopping=early_stopping,
        validation_fraction=0.3,
    )
    assert theirs.n_iter_ == 25 and theirs._optimizer.learning_rate < 0.01 / 4


def test_adaptive_stops_when_the_rate_is_small():
    theirs = check_fit(
        "binary",
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=1e-4,
        tol=0.5,
        n_iter_no_change=1,
    )
    assert theirs.n_iter_ < 25 and theirs._optimizer.learning_rate <= 1e-6


@pytest.mark.parametrize("power_t", [0, 0.1, 1.0])
def test_power_t(power_t):
    check_fit("multiclass", solver="sgd", learning_rate="invscaling", power_t=power_t)


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate_init": 0.05},
        {"beta_1": 0},
        {"beta_1": 0.5, "beta_2": 0.9},
        {"epsilon": 1e-2},
        {"learning_rate": "invscaling"},  # Adam ignores the schedule
        {"learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", ["multilabel", "poisson"])
def test_adam(task, params):
    check_fit(task, **params)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("alpha", [0, 0.1, 10])
def test_alpha(solver, alpha):
    check_fit("multiclass", solver=solver, alpha=alpha, rtol=1e-8 if solver == "lbfgs" else 1e-10)


# Networks and targets


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_activations_and_targets(task, activation, solver):
    check_fit(task, activation=activation, solver=solver)


@pytest.mark.parametrize("task", ["multiclass", "squared_error_2"])
@pytest.mark.parametrize("sizes", [(), [], 5, (1,), [6, 4], np.array([6, 5]), (7, 6, 5)], ids=str)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_hidden_layers(task, sizes, solver):
    theirs = check_fit(
        task,
        hidden_layer_sizes=sizes,
        solver=solver,
        max_iter=10,
        rtol=1e-8 if solver == "lbfgs" else 1e-10,
    )
    assert theirs.n_layers_ == 2 + np.size(sizes)


@pytest.mark.parametrize(
    "labels",
    [
        [-1, 1],
        [False, True],
        [2.0, 3.0],
        [7, -3, 100],
        [3, 10**12, -(10**12)],
        np.array([-128, 127, 5], dtype=np.int8),
        np.array([2**63 + 5, 4], dtype=np.uint64),
        np.array([2, 70_000, 5], dtype=">i4"),
        ["no", "yes"],
        ["a", "bb", "ccc", "d"],
        np.array(["no", "yes"], dtype=object),
        np.array(["a", "bb", "ccc"], dtype=object),
    ],
    ids=repr,
)
def test_labels(labels):
    X, _ = make_task("binary")
    check_fit("binary", X, np.asarray(labels)[np.arange(len(X)) % len(labels)])


@pytest.mark.parametrize("task", ["binary", "squared_error"])
def test_column_of_targets(task):
    X, y = make_task(task)
    check_fit(task, X, y.reshape(-1, 1))


@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csr_matrix])
def test_sparse_multilabel_targets(container):
    X, y = make_task("multilabel")
    check_fit("multilabel", X, container(y))


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("task", ["binary", "squared_error", "poisson"])
@pytest.mark.parametrize(
    "case", ["one row", "one feature", "one target value", "two rows and one feature"]
)
def test_small_data(task, case, solver):
    X, y = make_task(task)
    if "row" in case:
        n = 1 if case == "one row" else 2
        X, y = X[:n], y[:n]
    if "feature" in case:
        X = X[:, :1]
    if "target" in case:
        y = np.full_like(y, 2)
    check_fit(task, X, y, solver=solver, max_iter=10, rtol=1e-8 if solver == "lbfgs" else 1e-10)


def test_constant_multilabel_columns():
    X, y = make_task("multilabel")
    y[:, 0], y[:, 1] = 0, 1
    check_fit("multilabel", X, y)


@pytest.mark.parametrize("task", CLASSIFICATION)
def test_saturated_probabilities(task):
    """Far out, probabilities are 0 and 1, and the loss is what clipping makes of them."""
    X, y = make_task(task)
    theirs = check_fit(task, 1e4 * X, y, max_iter=3)
    assert theirs.loss_ > 1 and np.isin(theirs.predict_proba(1e4 * X), [0, 1]).mean() > 0.9


@pytest.mark.parametrize("task", CLASSIFICATION)
@pytest.mark.parametrize("scale", [1, 1e5])
def test_log_probabilities(task, scale):
    X, y = make_task(task)
    ours, theirs = make_pair(task)
    call_both(ours, theirs, "fit", X, y)
    with np.errstate(divide="ignore"):
        q = theirs.predict_log_proba(scale * X)
        np.testing.assert_allclose(ours.predict_log_proba(scale * X), q, rtol=1e-10, atol=1e-12)
    assert np.isneginf(q).any() == (scale > 1)


# Input


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_sample_weight(task, solver):
    check_fit(task, sample_weight=weights_for(70), solver=solver)


@pytest.mark.parametrize("weight", [3, 0.25, np.ones(70, dtype=int), [2] * 70], ids=type)
def test_kinds_of_sample_weight(weight):
    check_fit("squared_error", sample_weight=weight)


def untidy_csr(X):
    """Column indices in no order, a column twice, a stored zero, and long indices."""
    X = sparse.csr_array(X)
    for start, stop in zip(X.indptr, X.indptr[1:], strict=False):
        X.indices[start:stop] = X.indices[start:stop][::-1].copy()
        X.data[start:stop] = X.data[start:stop][::-1].copy()
    X.data[0] = 0
    start = X.indptr[np.diff(X.indptr).argmax()]
    X.indices[start + 1] = X.indices[start]
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    X.has_sorted_indices = X.has_canonical_format = False
    return X


CONTAINERS = {
    "fortran": np.asfortranarray,
    "list": np.ndarray.tolist,
    "csr_array": sparse.csr_array,
    "csr_matrix": sparse.csr_matrix,
    "csc_array": sparse.csc_array,
    "coo_array": sparse.coo_array,
    "untidy_csr": untidy_csr,
    "integers": lambda X: (10 * X).astype(np.int16),
    "big_endian": lambda X: X.astype(">f8"),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("task", ["multiclass", "squared_error_2"])
@pytest.mark.parametrize("params", [{}, {"shuffle": False}, {"early_stopping": True}], ids=str)
def test_containers(container, task, params):
    X, y = make_task(task)
    X[np.random.RandomState(2).uniform(size=X.shape) < 0.6] = 0
    X[4] = 0
    check_fit(task, CONTAINERS[container](X), y, sample_weight=weights_for(70), **params)


@pytest.mark.parametrize("container", ["csr_array", "csc_array", "fortran"])
def test_containers_lbfgs(container):
    X, y = make_task("multiclass")
    X[X < 0] = 0
    check_fit("multiclass", CONTAINERS[container](X), y, solver="lbfgs", max_iter=20, rtol=1e-8)


@pytest.mark.parametrize("task", ["binary", "multiclass", "squared_error"])
def test_float32_is_close(task):
    """No bitwise parity in float32, but the same types and nearly the same numbers."""
    X, y = make_task(task)
    check_fit(task, X.astype(np.float32), y, rtol=2e-3, hidden_layer_sizes=4, max_iter=5)


# Epochs


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 10, 69, 70, 100, "auto"])
@pytest.mark.parametrize("task", ["binary", "squared_error"])
def test_batch_size(task, batch_size, shuffle):
    """1 to all rows; 100 is clipped with a warning; 69 leaves a last minibatch of one row."""
    check_fit(task, batch_size=batch_size, shuffle=shuffle, max_iter=10)


def test_automatic_batch_size_with_a_tail():
    X, y = make_task("multiclass", n_samples=230)
    check_fit("multiclass", X, y, batch_size="auto")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_early_stopping(task, weighted, solver):
    theirs = check_fit(
        task,
        sample_weight=weights_for(70) if weighted else None,
        solver=solver,
        early_stopping=True,
        validation_fraction=0.3,
        batch_size=20,
        n_iter_no_change=4,
        learning_rate_init=0.05,
        random_state=np.random.RandomState(3),
    )
    assert len(theirs.validation_scores_) == theirs.n_iter_


def test_early_stopping_restores_the_best_weights():
    theirs = check_fit("binary", early_stopping=True, learning_rate_init=0.3, n_iter_no_change=3)
    assert theirs.n_iter_ < 25
    assert theirs.validation_scores_[-1] < theirs.best_validation_score_


@pytest.mark.parametrize("task", TASKS)
def test_divergence_with_early_stopping(task):
    """A score that is not a number counts for nothing, and does not raise."""
    X, y = make_task(task)
    theirs = check_fit(
        task, 1e3 * X, y, solver="sgd", learning_rate_init=1, alpha=1e3, early_stopping=True
    )
    assert not theirs.loss_ < 1e6


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("n_threads, container", [(1, np.asarray), (2, sparse.csr_array)])
def test_long_epochs(solver, n_threads, container):
    """So long that the compiled loop comes back to Python several times."""
    X, y = make_task("multiclass", n_samples=20_000, n_features=50)
    X = container(X)
    ours, theirs = make_pair(
        "multiclass",
        solver=solver,
        hidden_layer_sizes=(300, 100),
        max_iter=1,
        batch_size=500,
        max_fun=2,
    )
    ours.set_params(n_threads=n_threads)
    call_both(ours, theirs, "fit", X, y)
    assert_same(ours, theirs, X, rtol=1e-8 if solver == "lbfgs" else 1e-10)


@pytest.mark.parametrize("n_iter_no_change", [1, 3, np.inf])
@pytest.mark.parametrize("tol", [0, 1e-2, 10])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_stopping(n_iter_no_change, tol, early_stopping):
    theirs = check_fit(
        "multiclass",
        n_iter_no_change=n_iter_no_change,
        tol=tol,
        early_stopping=early_stopping,
        validation_fraction=0.2,
    )
    if tol == 10:
        assert theirs.n_iter_ == min(25, n_iter_no_change + 2)


def test_no_warning_when_stopped_in_the_last_epoch():
    """Without a difference in warnings, too: call_both compares them."""
    theirs = check_fit("binary", tol=10, n_iter_no_change=3, max_iter=5)
    assert theirs.n_iter_ == 5
    assert call(clone(theirs), "fit", *make_task("binary")) == []


# Several calls


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("random_state", [7, np.random.RandomState(7)], ids=["int", "instance"])
@pytest.mark.parametrize("methods", ["ppppp", "fppp", "ppfpp"])
def test_partial_fit(task, solver, random_state, methods):
    """f: fit, p: partial_fit, each on other rows, weighted from the third call on."""
    X, y = make_task(task, n_samples=150)
    ours, theirs = make_pair(task, solver=solver, random_state=random_state, max_iter=5)
    for i, method in enumerate(methods):
        rows = slice(30 * i, 30 * i + 30)
        kwargs = {"sample_weight": weights_for(30)} if i > 1 else {}
        if method == "p" and i == 0 and task in CLASSIFICATION:
            kwargs["classes"] = np.arange(3) if task == "multilabel" else np.unique(y)
        name = {"f": "fit", "p": "partial_fit"}[method]
        call_both(ours, theirs, name, X[rows], y[rows], **kwargs)
        assert_same(ours, theirs, X)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_in_partial_fit(schedule):
    X, y = make_task("binary")
    ours, theirs = make_pair(
        "binary", solver="sgd", learning_rate=schedule, tol=0.1, n_iter_no_change=2
    )
    for _ in range(15):
        call_both(ours, theirs, "partial_fit", X, y, classes=[0, 1])
        assert_same(ours, theirs, X)
    assert (theirs._optimizer.learning_rate < 0.01) == (schedule != "constant")


def test_partial_fit_with_classes_that_come_later():
    X, y = make_task("multiclass")
    ours, theirs = make_pair("multiclass")
    for rows in y == "red", y == "blue", y == "green":
        call_both(ours, theirs, "partial_fit", X[rows], y[rows], classes=np.unique(y))
        assert_same(ours, theirs, X)


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate_init": 0.02},
        {"momentum": 0.1},
        {"alpha": 5.0},
        {"batch_size": 7},
        {"shuffle": False},
        {"random_state": 1},
        {"learning_rate": "invscaling"},
        {"solver": "adam"},
        {"activation": "tanh"},
        {"hidden_layer_sizes": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_set_params_between_calls(params, method):
    """partial_fit goes on with its optimizer, and both with their layers, whatever is set."""
    X, y = make_task("squared_error")
    ours, theirs = make_pair("squared_error", solver="sgd", warm_start=method == "fit")
    call_both(ours, theirs, method, X, y)
    ours.set_params(**params)
    theirs.set_params(**params)
    call_both(ours, theirs, method, X, y)
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("task", ["multiclass", "squared_error"])
@pytest.mark.parametrize(
    "method, early_stopping", [("fit", True), ("fit", False), ("partial_fit", False)]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_change_of_early_stopping_between_calls(task, method, early_stopping):
    """What was best before is no measure of what is watched now. (scikit-learn fails here.)"""
    X, y = make_task(task)
    ours, _ = make_pair(task, early_stopping=not early_stopping, warm_start=method == "fit")
    n_before = len(ours.fit(X, y).loss_curve_)
    ours.set_params(early_stopping=early_stopping)
    n_epochs = getattr(ours, method)(X, y).n_iter_
    assert len(ours.loss_curve_) == n_before + n_epochs
    if early_stopping:
        assert len(ours.validation_scores_) == n_epochs
        assert ours.best_validation_score_ == max(ours.validation_scores_)
        assert ours.best_loss_ is None
    else:
        assert ours.validation_scores_ is ours.best_validation_score_ is None
        assert ours.best_loss_ == min(ours.loss_curve_[n_before:])


@pytest.mark.parametrize("method", ["partial_fit", "fit"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_from_lbfgs_to_adam(method):
    """The weights are where it goes on from. (scikit-learn has no loss_curve_ to add to.)"""
    X, y = make_task("multiclass")
    ours, theirs = make_pair("multiclass", solver="lbfgs", warm_start=method == "fit")
    ours.fit(X, y)
    theirs.fit(X, y)
    for estimator in ours, theirs:
        estimator.set_params(solver="adam")
    theirs.loss_curve_, theirs.best_loss_, theirs._no_improvement_count = [], np.inf, 0
    theirs.validation_scores_ = theirs.best_validation_score_ = None
    call_both(ours, theirs, method, X, y)
    assert len(ours.loss_curve_) == ours.n_iter_
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_lbfgs_drops_what_adam_left():
    """A network of another width has other moments and no curve. (scikit-learn keeps them.)"""
    X, y = make_task("multiclass")
    ours, _ = make_pair("multiclass", solver="adam")
    ours.fit(X, y).set_params(solver="lbfgs").fit(np.tile(X, 2), y)
    assert not hasattr(ours, "loss_curve_")
    ours.set_params(solver="adam").partial_fit(np.tile(X, 2), y)
    assert ours.loss_curve_ == [ours.loss_]


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "squared_error"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("random_state", [7, np.random.RandomState(7)], ids=["int", "instance"])
def test_warm_start(task, solver, early_stopping, random_state):
    X, y = make_task(task)
    ours, theirs = make_pair(
        task,
        solver=solver,
        warm_start=True,
        early_stopping=early_stopping,
        validation_fraction=0.2,
        random_state=random_state,
        learning_rate="invscaling",
    )
    for max_iter in 5, 3, 8:
        ours.set_params(max_iter=max_iter)
        theirs.set_params(max_iter=max_iter)
        call_both(ours, theirs, "fit", X, y)
        assert_same(ours, theirs, X, rtol=1e-8 if solver == "lbfgs" else 1e-10)
    if solver != "lbfgs":
        assert len(theirs.loss_curve_) > theirs.n_iter_


def test_warm_start_then_partial_fit():
    X, y = make_task("binary")
    ours, theirs = make_pair("binary", warm_start=True, max_iter=5)
    for method in "fit", "partial_fit", "fit":
        call_both(ours, theirs, method, X, y)
        assert_same(ours, theirs, X)


def test_refit_on_other_data_forgets_the_first():
    ours, theirs = make_pair("binary")
    for task in "binary", "multiclass", "multilabel":
        X, y = make_task(task, n_features=4 + len(task) % 3)
        call_both(ours, theirs, "fit", X, y)
        assert_same(ours, theirs, X)


# Random numbers


@pytest.mark.parametrize("task", ["multiclass", "squared_error"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"shuffle": False},
        {"early_stopping": True},
        {"solver": "lbfgs"},
        {"activation": "logistic", "hidden_layer_sizes": (4, 3)},
        {"tol": 10, "n_iter_no_change": 2},
        {"tol": 10, "n_iter_no_change": 2, "early_stopping": True},
        {"warm_start": True, "max_iter": 2},
    ],
    ids=str,
)
def test_random_state_is_left_alike(task, params):
    X, y = make_task(task)
    pair = make_pair(task, random_state=np.random.RandomState(5), **params)
    for _ in range(2):
        for estimator in pair:
            call(estimator, "fit", X, y)
        assert_same_random_state(*pair)


def assert_same_random_state(*pair):
    ours, theirs = (estimator.random_state.get_state(legacy=False) for estimator in pair)
    np.testing.assert_equal(ours, theirs)


@pytest.mark.parametrize("generator", [np.random.MT19937, np.random.PCG64])
def test_random_state_is_left_alike_by_partial_fit(generator):
    X, y = make_task("squared_error")
    pair = make_pair("squared_error", random_state=np.random.RandomState(generator(5)))
    for method in "partial_fit", "partial_fit", "fit":
        call_both(*pair, method, X, y)
        assert_same_random_state(*pair)
    assert_same(*pair, X)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_random_state_is_left_alike_by_a_fit_that_ends_in(error, early_stopping, monkeypatch):
    """Both show each epoch; the third one's line raises."""

    def show(text):
        if text.startswith("Iteration 3"):
            raise error

    X, y = make_task("binary")
    pair = make_pair(
        "binary",
        random_state=np.random.RandomState(5),
        early_stopping=early_stopping,
        validation_fraction=0.2,
        verbose=True,
    )
    monkeypatch.setattr("builtins.print", show)
    for estimator in pair:
        if error is KeyboardInterrupt:
            seen = call(estimator, "fit", X, y)
            assert seen == [(UserWarning, "Training interrupted by user.")]
        else:
            with pytest.raises(error):
                estimator.fit(X, y)
        assert estimator.n_iter_ == 3
    assert_same_random_state(*pair)


def test_global_random_state(monkeypatch):
    X, y = make_task("binary")
    pair = make_pair("binary", random_state=None)
    draws = []
    for estimator in pair:
        monkeypatch.setattr(np.random.mtrand, "_rand", np.random.RandomState(11))
        call(estimator, "fit", X, y)
        draws.append(np.random.mtrand._rand.uniform())
    assert draws[0] == draws[1]
    assert_same(*pair, X)


# L-BFGS


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lbfgs(task, activation):
    check_fit(task, solver="lbfgs", activation=activation, max_iter=20, rtol=1e-8)


@pytest.mark.parametrize("task", ["multiclass", "squared_error_2", "poisson"])
def test_lbfgs_sample_weight(task):
    check_fit(task, sample_weight=weights_for(70), solver="lbfgs", max_iter=20, rtol=1e-8)


@pytest.mark.parametrize(
    "params", [{"max_fun": 5}, {"tol": 1.0}, {"early_stopping": True}], ids=str
)
def test_lbfgs_options(params):
    check_fit("binary", solver="lbfgs", max_iter=20, rtol=1e-8, **params)


def test_lbfgs_float32():
    X, y = make_task("squared_error")
    theirs = check_fit(
        "squared_error", X.astype(np.float32), y, solver="lbfgs", max_iter=3, rtol=2e-3
    )
    assert theirs.coefs_[0].dtype == np.float64


# Verbose


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("task", ["multiclass", "squared_error"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"tol": 1.0, "n_iter_no_change": 2},
        {"early_stopping": True, "tol": 1.0, "n_iter_no_change": 2},
        {"learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 2},
        {"learning_rate": "adaptive", "tol": 1.0, "learning_rate_init": 1e-5},
        {"learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 2, "early_stopping": True},
    ],
    ids=str,
)
def test_verbose(capsys, solver, task, params):
    texts = []
    X, y = make_task(task)
    for estimator in make_pair(task, solver=solver, verbose=True, **params):
        call(estimator, "fit", X, y)
        if not estimator.early_stopping:
            call(estimator, "partial_fit", X, y)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[1].count("Iteration") >= 4


def test_silent(capsys):
    check_fit("binary")
    assert capsys.readouterr().out == ""
