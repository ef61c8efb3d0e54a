"""The Perceptron against scikit-learn's, and against what Rosenblatt's rule promises."""

import _thread
import pickle
import threading
import warnings
from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron as Reference
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sknn import Perceptron

PENALTIES = [None, "l2", "l1", "elasticnet"]
ATTRIBUTES = ["coef_", "intercept_", "n_iter_", "t_", "classes_"]


def classes(n_classes, sparse=False, n_samples=200, n_features=21, seed=0):
    X, y = make_classification(
        n_samples,
        n_features,
        n_informative=12,
        n_classes=n_classes,
        flip_y=0.1,
        random_state=seed,
    )
    if sparse:
        X[np.random.RandomState(seed).random_sample(X.shape) < 0.7] = 0.0
        X = sp.csr_matrix(X)
    return X, y


def fit(estimator, *arguments, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*arguments, **keywords)


def assert_same(ours, reference, rtol=0, atol=1e-10):
    for name in ATTRIBUTES:
        assert_allclose(
            getattr(ours, name), getattr(reference, name), rtol=rtol, atol=atol, err_msg=name
        )


@parametrize_with_checks(
    [Perceptron()],
    expected_failed_checks=lambda _: {
        check: "a sample of weight 2 moves the weights once, a repeated one twice"
        for check in (
            "check_sample_weight_equivalence_on_dense_data",
            "check_sample_weight_equivalence_on_sparse_data",
        )
    },
)
def test_estimator_checks(estimator, check):
    check(estimator)


def test_parameters_are_those_of_scikit_learn():
    ours, reference = Perceptron().get_params(), Reference().get_params()
    assert ours == reference
    assert list(Perceptron.__init__.__kwdefaults__) == list(Reference.__init__.__kwdefaults__)


# ---------------------------------------------------------------------------------------
# scikit-learn's numbers
# ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 0.5, 1: 3}])
def test_same_as_scikit_learn(n_classes, sparse, penalty, class_weight):
    X, y = classes(n_classes, sparse)
    sample_weight = np.random.RandomState(1).random_sample(len(y))
    for weight, tol, fit_intercept in product([None, sample_weight], [None, 1e-3], [True, False]):
        parameters = dict(
            penalty=penalty,
            alpha=3e-3,
            class_weight=class_weight,
            fit_intercept=fit_intercept,
            eta0=0.7,
            shuffle=False,
            tol=tol,
            max_iter=9,
        )
        ours = fit(Perceptron(**parameters), X, y, sample_weight=weight)
        reference = fit(Reference(**parameters), X, y, sample_weight=weight)
        assert_same(ours, reference)
        assert_array_equal(ours.predict(X), reference.predict(X))
        assert_allclose(ours.decision_function(X), reference.decision_function(X), atol=1e-9)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("sparse", [False, True])
def test_two_classes_are_the_same_even_shuffled(sparse, penalty):
    X, y = classes(2, sparse)
    ours = Perceptron(penalty=penalty, random_state=3).fit(X, y)
    assert_same(ours, Reference(penalty=penalty, random_state=3).fit(X, y))


@pytest.mark.parametrize("penalty", [None, "l1"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_early_stopping_is_the_same(n_classes, penalty):
    X, y = classes(n_classes)
    parameters = dict(penalty=penalty, early_stopping=True, shuffle=False, n_iter_no_change=3)
    weight = np.random.RandomState(1).random_sample(len(y))
    ours = Perceptron(**parameters).fit(X, y, sample_weight=weight)
    assert_same(ours, Reference(**parameters).fit(X, y, sample_weight=weight))
    assert ours.n_iter_ < 100


def test_steps_that_cancel():
    """An intercept that goes up and down by what is no power of two is exactly where it was."""
    X, y = sp.csr_array([[1.0, 0], [0, 0], [0, 0], [0, 2]]), [0, 1, 1, 0]
    parameters = dict(eta0=0.1, shuffle=False, tol=None, max_iter=4)
    ours, theirs = (fit(estimator(**parameters), X, y) for estimator in (Perceptron, Reference))
    np.testing.assert_array_equal(ours.intercept_, theirs.intercept_)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_classes", [2, 9])
def test_strong_l2_penalty(n_classes, sparse, alpha):
    # the common factor of the weights underflows within an epoch, or is zero at once
    X, y = classes(n_classes, sparse)
    parameters = dict(penalty="l2", alpha=alpha, shuffle=False, tol=None, max_iter=3)
    ours = fit(Perceptron(**parameters), X, y)
    assert_same(ours, fit(Reference(**parameters), X, y))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_partial_fit_is_the_same(n_classes, sparse, penalty):
    X, y = classes(n_classes, sparse)
    pair = [estimator(penalty=penalty, shuffle=False) for estimator in (Perceptron, Reference)]
    labels = np.unique(y)
    for start in range(0, 200, 40):
        part = slice(start, start + 40)
        for estimator in pair:
            estimator.partial_fit(X[part], y[part], classes=labels)
        assert_same(*pair)
    assert pair[0].t_ == 201
    assert pair[0].n_mistakes_.shape == (1, 1 if n_classes == 2 else n_classes)


def test_partial_fit_of_few_rows_of_many_features():
    # these are not worth the layout for sparse rows
    rng = np.random.RandomState(0)
    X = sp.random(60, 3000, 0.004, "csr", random_state=0)
    y = rng.randint(4, size=60)
    pair = Perceptron(shuffle=False), Reference(shuffle=False)
    for estimator in pair:
        for start in range(0, 60, 20):
            estimator.partial_fit(X[start : start + 20], y[start : start + 20], classes=range(4))
    assert_same(*pair)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_warm_start_and_initial_weights_are_the_same(n_classes, sparse):
    X, y = classes(n_classes, sparse)
    parameters = dict(shuffle=False, tol=None, max_iter=2, warm_start=True, penalty="l2")
    n_learners = 1 if n_classes == 2 else n_classes
    rng = np.random.RandomState(0)
    coef, intercept = rng.standard_normal((n_learners, 21)), rng.standard_normal(n_learners)
    pair = Perceptron(**parameters), Reference(**parameters)
    for estimator in pair:
        fit(estimator, X, y, coef_init=coef.copy(), intercept_init=intercept.copy())
    assert_same(*pair)
    for estimator in pair:
        fit(estimator, X, y)
    assert_same(*pair)
    for estimator in pair:
        estimator.partial_fit(X, y)
    assert_same(*pair)


@pytest.mark.parametrize("sparse", [False, True])
def test_float32_stays(sparse):
    X, y = classes(3, sparse)
    for penalty in PENALTIES:
        model = fit(Perceptron(penalty=penalty, max_iter=5), X.astype(np.float32), y)
        assert model.coef_.dtype == model.intercept_.dtype == np.float32
        assert model.decision_function(X.astype(np.float32)).dtype == np.float32
        double = fit(Perceptron(penalty=penalty, max_iter=1, shuffle=False), X, y)
        single = fit(Perceptron(penalty=penalty, max_iter=1, shuffle=False), X.astype("f"), y)
        assert_allclose(single.coef_, double.coef_, atol=1e-3)


@pytest.mark.parametrize("stop", [{}, {"early_stopping": True}], ids=["tol", "early_stopping"])
def test_accuracy_is_scikit_learns(stop):
    """Over data sets and seeds, the mean difference lies within its noise."""
    sets = [load_digits(return_X_y=True), load_breast_cancer(return_X_y=True)]
    sets += [classes(2 + i % 5, n_samples=300, seed=i) for i in range(20)]
    differences = []
    for i, (X, y) in enumerate(sets):
        for seed in range(3):
            train, test, y_train, y_test = train_test_split(X, y, random_state=seed)
            scaler = StandardScaler().fit(train)
            scores = [
                fit(
                    estimator(random_state=seed + 10 * i, **stop), scaler.transform(train), y_train
                ).score(scaler.transform(test), y_test)
                for estimator in (Perceptron, Reference)
            ]
            differences.append(scores[0] - scores[1])
    error = np.std(differences) / np.sqrt(len(differences))
    assert abs(np.mean(differences)) < 3 * error


# ---------------------------------------------------------------------------------------
# the rule
# ---------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    n_samples=st.integers(4, 60),
    n_features=st.integers(1, 40),
    n_classes=st.integers(2, 4),
    sparse=st.booleans(),
    shuffle=st.booleans(),
    single=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_separable_data_end_without_mistakes(
    n_samples, n_features, n_classes, sparse, shuffle, single, seed
):
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    # Each class has a coordinate to itself, so that x[k] - 1/2 separates class k with a
    # margin of 1/2; the other coordinates are noise.
    X = np.hstack([np.eye(n_classes)[y], rng.uniform(-1, 1, (n_samples, n_features))])
    # Novikoff: at most R² |u|² / margin² mistakes, and every epoch before the last has one.
    # The intercept of sparse data moves by a hundredth, as if its feature were 1/10.
    feature = 0.1 if sparse else 1.0
    radius = np.square(X).sum(axis=1).max() + feature**2
    bound = radius * (1 + (0.5 / feature) ** 2) / 0.5**2
    X = sp.csr_array(X) if sparse else X
    X = X.astype(np.float32 if single else np.float64)

    model = Perceptron(tol=None, shuffle=shuffle, max_iter=int(bound) + 2, random_state=0)
    model.fit(X, y)
    assert model.score(X, y) == 1.0
    assert_array_equal(model.n_mistakes_[-1], 0)
    assert model.n_mistakes_.sum(axis=0).max() <= bound


def test_mistakes_are_those_of_the_rule():
    X, y = classes(3)
    model = fit(Perceptron(shuffle=False, tol=None, max_iter=4), X, y)
    weights = np.zeros((3, X.shape[1] + 1))
    mistakes = np.zeros((4, 3), dtype=int)
    for epoch in range(4):
        for x, label in zip(np.hstack([X, np.ones((len(X), 1))]), y, strict=True):
            for k in range(3):
                target = 1 if k == label else -1
                if target * (weights[k] @ x) <= 0:
                    weights[k] += target * x
                    mistakes[epoch, k] += 1
    assert_array_equal(model.n_mistakes_, mistakes)
    assert_allclose(np.column_stack([model.coef_, model.intercept_]), weights, atol=1e-10)


def test_xor_cycles():
    X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    model = Perceptron(max_iter=200, tol=None).fit(X, y)
    assert model.n_mistakes_.shape == (200, 1)
    assert model.n_mistakes_.min() > 0
    assert model.score(X, y) < 1


def test_classes_that_stopped_have_no_count():
    X, y = load_digits(return_X_y=True)
    model = Perceptron().fit(X, y)
    run = model.n_mistakes_ >= 0
    epochs = run.sum(axis=0)
    assert epochs.max() == model.n_iter_ == len(model.n_mistakes_)
    assert epochs.min() < epochs.max()
    assert all(run[: epochs[k], k].all() for k in range(10))


def test_samples_without_weight_make_no_mistakes():
    X, y = classes(3)
    weight = (np.arange(len(y)) % 2).astype(float)
    parameters = dict(shuffle=False, tol=None, max_iter=5)
    weighted = fit(Perceptron(**parameters), X, y, sample_weight=weight)
    half = fit(Perceptron(**parameters), X[1::2], y[1::2])
    assert_allclose(weighted.coef_, half.coef_, atol=1e-12)
    assert_array_equal(weighted.n_mistakes_, half.n_mistakes_)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("penalty", [None, "elasticnet"])
@pytest.mark.parametrize("n_classes", [3, 10, 19])
def test_result_does_not_depend_on_n_jobs(n_classes, penalty, sparse):
    X, y = classes(n_classes, sparse, n_samples=400)
    models = [Perceptron(n_jobs=n_jobs, penalty=penalty).fit(X, y) for n_jobs in (None, 2, 3, 40)]
    for model in models[1:]:
        assert_array_equal(model.coef_, models[0].coef_)
        assert_array_equal(model.intercept_, models[0].intercept_)
        assert_array_equal(model.n_mistakes_, models[0].n_mistakes_)


@pytest.mark.parametrize("sparse", [False, True])
def test_result_does_not_depend_on_the_size_of_a_call(sparse, monkeypatch):
    X, y = classes(4, sparse)
    whole = Perceptron(penalty="elasticnet").fit(X, y)
    monkeypatch.setattr("sknn._team.CALL_SIZE", 1000)
    assert_same(Perceptron(penalty="elasticnet").fit(X, y), whole)


# ---------------------------------------------------------------------------------------
# scikit-learn's protocols
# ---------------------------------------------------------------------------------------


def test_callbacks(capsys):
    X, y = load_digits(return_X_y=True)
    monitor = ScoringMonitor(scoring="accuracy")
    model = Perceptron(max_iter=7, tol=None).set_callbacks(ProgressBar(), monitor).fit(X, y)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(scores) == 7
    assert scores[-1] == model.score(X, y)
    assert_array_equal(model.coef_, Perceptron(max_iter=7, tol=None).fit(X, y).coef_)


def test_callback_stops_the_fit():
    class StopAtThird:
        epochs = 0

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "epoch":
                assert fitted_estimator.coef_.shape == (10, 64)
                self.epochs += 1
            return self.epochs == 3

    X, y = load_digits(return_X_y=True)
    assert Perceptron().set_callbacks(StopAtThird()).fit(X, y).n_iter_ == 3


def test_partial_fit_with_callbacks():
    """They are told of fits only."""
    X, y = classes(3)
    model = Perceptron().set_callbacks(ScoringMonitor(scoring="accuracy"))
    model.partial_fit(X, y, classes=[0, 1, 2])
    expected = Perceptron().partial_fit(X, y, classes=[0, 1, 2])
    assert_array_equal(model.coef_, expected.coef_)


def test_callbacks_in_a_search():
    X, y = classes(3)
    search = GridSearchCV(make_pipeline(StandardScaler(), Perceptron()), {}, cv=2)
    search.set_callbacks(ProgressBar())
    assert search.fit(X, y).score(X, y) > 0.4


def test_metadata_routing():
    X, y = classes(3)
    weight = np.random.RandomState(0).random_sample(len(y))
    with config_context(enable_metadata_routing=True):
        model = Perceptron().set_fit_request(sample_weight=True)
        scorer = get_scorer("accuracy").set_score_request(sample_weight=False)
        search = GridSearchCV(model, {"alpha": [1.0]}, cv=2, scoring=scorer)
        search.fit(X, y, sample_weight=weight)
    expected = Perceptron().fit(X, y, sample_weight=weight).coef_
    assert_array_equal(search.best_estimator_.coef_, expected)


def test_clone_pickle_and_sparsify():
    X, y = classes(3)
    model = Perceptron(penalty="l1", alpha=0.01).fit(X, y)
    scores = model.decision_function(X)
    assert_array_equal(pickle.loads(pickle.dumps(model)).decision_function(X), scores)
    assert not hasattr(clone(model), "coef_")
    model.sparsify()
    assert sp.issparse(model.coef_)
    assert_allclose(model.decision_function(X), scores)
    model.partial_fit(X, y)  # makes the weights dense again
    assert isinstance(model.coef_, np.ndarray)


def test_labels_and_names(capsys):
    pd = pytest.importorskip("pandas")
    X, y = classes(3)
    names = np.array(["one", "three", "two"])
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    model = Perceptron(verbose=1).fit(frame, names[y])
    assert_array_equal(model.feature_names_in_, frame.columns)
    assert set(model.predict(frame)) <= set(names)
    assert_array_equal(model.coef_, Perceptron().fit(X, y).coef_)
    assert "Epoch 1: 3 of 3 hyperplanes running" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------
# awkward input
# ---------------------------------------------------------------------------------------


def test_memory_layouts(tmp_path):
    X, y = classes(3)
    expected = Perceptron().fit(X, y).coef_
    np.save(tmp_path / "X.npy", X)
    read_only = X.copy()
    read_only.flags.writeable = False
    variants = [
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        X[::-1][::-1],
        read_only,
        np.load(tmp_path / "X.npy", mmap_mode="r"),
    ]
    for variant in variants:
        weight = np.ones(len(y))
        weight.flags.writeable = False
        assert_array_equal(Perceptron().fit(variant, y, sample_weight=weight).coef_, expected)


@pytest.mark.parametrize("format", ["csc", "coo", "lil"])
def test_sparse_formats(format):
    X, y = classes(3, sparse=True)
    expected = Perceptron().fit(X, y).coef_
    assert_array_equal(Perceptron().fit(X.asformat(format), y).coef_, expected)


def test_sparse_rows_without_values():
    X, y = sp.csr_matrix((6, 3)), [0, 1, 2] * 2
    model = fit(Perceptron(max_iter=2, penalty="l1"), X, y)
    assert_array_equal(model.coef_, 0)


def test_unsorted_and_repeated_indices():
    data, indices, indptr = [1.0, 2.0, 3.0, 4.0, 5.0], [2, 0, 1, 1, 0], [0, 2, 4, 5]
    X, y = sp.csr_matrix((data, indices, indptr), shape=(3, 3)), [0, 1, 2]
    parameters = dict(shuffle=False, tol=None, max_iter=3)
    for penalty in PENALTIES:
        ours = fit(Perceptron(penalty=penalty, **parameters), X, y)
        assert_same(ours, fit(Reference(penalty=penalty, **parameters), X, y))


def test_int64_indices():
    X, y = classes(3, sparse=True)
    expected = Perceptron().fit(X, y).partial_fit(X, y)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    model = Perceptron().fit(X, y).partial_fit(X, y)
    assert_array_equal(model.coef_, expected.coef_)
    assert_array_equal(model.predict(X), expected.predict(X))
    assert X.indices.dtype == np.int64


@pytest.mark.parametrize("n_features", [1, 2, 7, 8, 9, 15, 16, 17, 33])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_width(n_features, dtype):
    rng = np.random.RandomState(0)
    X = rng.randint(-3, 4, size=(50, n_features)).astype(dtype)  # exact in both types
    y = rng.randint(5, size=50)
    parameters = dict(shuffle=False, tol=None, max_iter=3)
    assert_same(fit(Perceptron(**parameters), X, y), fit(Reference(**parameters), X, y))


def test_one_row():
    model = Perceptron().partial_fit([[1.0, 2.0]], ["b"], classes=["a", "b", "c"])
    assert_array_equal(model.coef_, [[-1, -2], [1, 2], [-1, -2]])
    assert_array_equal(model.n_mistakes_, [[1, 1, 1]])


def test_one_class():
    for call in (Perceptron().fit, Reference().fit):
        with pytest.raises(ValueError, match="greater than one; got 1 class"):
            call([[1.0], [2.0]], [1, 1])


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("dtype, size", [(np.float64, 1e300), (np.float32, 1e37)])
def test_overflow(convert, dtype, size):
    X = convert((np.random.RandomState(0).standard_normal((50, 4)) * size).astype(dtype))
    y = np.arange(50) % 3
    with pytest.raises(ValueError, match=r"overflow occurred at epoch #\d+. Scaling"):
        Perceptron(eta0=1e8).fit(X, y)


def test_unseen_labels():
    model = Perceptron().partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1])
    for label in (2, -1):
        with pytest.raises(ValueError, match=r"classes not in `self\.classes_`"):
            model.partial_fit([[0.0], [1.0]], [0, label])
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 2])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        Perceptron().partial_fit([[0.0], [1.0]], [0, 1])


def test_classes_of_a_failed_partial_fit_are_forgotten():
    X, y = classes(3)
    model = Perceptron()
    with pytest.raises(ValueError, match=r"classes not in `self\.classes_`.*'y' has \[0 1 2\]"):
        model.partial_fit(X, y, classes=[0, 1])
    assert_array_equal(model.partial_fit(X, y, classes=[0, 1, 2]).classes_, [0, 1, 2])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_failed_call_leaves_the_model(method):
    """Weights, classes and the number of features belong together."""
    X, y = classes(3)
    model = fit(Perceptron(), X, y)
    before = model.predict(X)
    n_features = X.shape[1] - (method == "fit")
    with pytest.raises(ValueError, match="sample_weight"):
        getattr(model, method)(X[:, :n_features], y, sample_weight=[1.0])
    with pytest.raises(ValueError, match="overflow"):
        getattr(model.set_params(eta0=1e308), method)(X[:, :n_features], y)
    assert_array_equal(model.predict(X), before)


def test_what_partial_fit_does_not_support():
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for"):
        Perceptron(class_weight="balanced").partial_fit([[0.0]], [0], classes=[0, 1])
    with pytest.raises(ValueError, match=r"early_stopping should be False with.*or use fit\."):
        Perceptron(early_stopping=True).partial_fit([[0.0]], [0], classes=[0, 1])


@pytest.mark.parametrize(
    "keywords",
    [
        {"coef_init": np.zeros((3, 5))},
        {"coef_init": np.zeros((2, 21))},
        {"coef_init": np.zeros(20)},
        {"intercept_init": np.zeros(2)},
        {"intercept_init": np.zeros((3, 1))},
    ],
)
def test_initial_weights_of_the_wrong_shape(keywords):
    with pytest.raises(ValueError, match="does not match dataset"):
        Perceptron().fit(*classes(3), **keywords)


@pytest.mark.parametrize(
    "keywords, says",
    [
        ({"coef_init": np.full((3, 21), np.nan)}, "^coef_init.* not finite in float64"),
        ({"coef_init": sp.csr_array(np.full((3, 21), np.inf))}, "^coef_init.* not finite"),
        ({"coef_init": [["a"] * 21] * 3}, "^coef_init must be an array of numbers"),
        ({"intercept_init": [0, 1, np.inf]}, "^intercept_init.* not finite in float64"),
        ({"intercept_init": "a"}, "^intercept_init must be an array of numbers"),
    ],
    ids=str,
)
def test_initial_weights_that_are_no_numbers(keywords, says):
    with pytest.raises(ValueError, match=says):
        Perceptron().fit(*classes(3), **keywords)


def test_weights_that_are_not_finite_are_not_trained():
    X, y = classes(3)
    model = fit(Perceptron(), X, y)
    model.coef_[0, 0] = np.nan
    with pytest.raises(ValueError, match="or coef_ where training goes on, has numbers that"):
        model.partial_fit(X, y)


def test_labels_of_objects():
    """The classes have the type of scikit-learn's."""
    X, y = classes(3)
    for names in (np.array(["one", "three", "two"], object), np.array([0.0, 2.0, 3.0])):
        ours, theirs = (fit(estimator(), X, names[y]) for estimator in (Perceptron, Reference))
        assert_array_equal(ours.classes_, theirs.classes_)
        assert ours.classes_.dtype == theirs.classes_.dtype


def test_the_shape_that_came_is_named():
    X, y = classes(3)
    model = fit(Perceptron(warm_start=True), X, y)
    with pytest.raises(ValueError, match=r"shape \(1, 21\), not \(3, 21\)"):
        model.fit(X, y > 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(bad):
    X, y = classes(3)
    X[3, 4] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        Perceptron().fit(X, y)


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": -1.0},
        {"eta0": 0.0},
        {"l1_ratio": 1.5},
        {"max_iter": 0},
        {"tol": -1e-3},
        {"n_iter_no_change": 0},
        {"validation_fraction": 1.0},
        {"penalty": "l3"},
        {"n_jobs": 1.5},
    ],
)
def test_parameters_out_of_range(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"The '{name}' parameter of Perceptron must be"):
        Perceptron(**parameters).fit(*classes(3))


def test_validation_data_without_weight():
    X, y = classes(2)
    with pytest.raises(ValueError, match="sample weights for validation set are all zero"):
        Perceptron(early_stopping=True).fit(X, y, sample_weight=np.zeros(len(y)))


def test_warning_at_the_last_epoch():
    X, y = classes(3)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        Perceptron(max_iter=2).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Perceptron(max_iter=2, tol=None).fit(X, y)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_interrupt(container):
    """Ctrl-C stops soon, warns, and leaves an estimator that predicts."""
    X, y = classes(3, n_samples=20_000)
    X = container(X)
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = Perceptron(tol=None, max_iter=10**6).fit(X, y)
    assert 0 < model.n_iter_ < 10**6  # which would take hours
    assert model.n_mistakes_.shape == (model.n_iter_, 3)
    assert model.predict(X).shape == y.shape
