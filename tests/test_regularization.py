"""Dropout and normalisation: what they do to a training, and what stays of it."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from sknn import ConvClassifier, MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor
from sknn._kernels.ops import Opcode, Phase
from sknn._lowering import lower_for_cpu
from sknn.layers import Activation, BatchNorm, Conv, Dense, Flatten, MaxPool, Residual

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1 or larger"),
]
BOTH = [MLPClassifier, MLPRegressor]
PARAMS = {"hidden_layer_sizes": (12, 7), "max_iter": 4, "random_state": 0, "batch_size": 16}
rng = np.random.RandomState(0)
X = rng.standard_normal((70, 5))
y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


def assert_same(a, b, rtol=0.0):
    np.testing.assert_allclose(a._parameters, b._parameters, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_statistics_that_overflow(method):
    """The weights may be finite where no prediction would be."""
    clf = NetworkClassifier([BatchNorm(), Dense(4)], max_iter=3, dtype="float32")
    given = {"classes": [0, 1, 2]} if method == "partial_fit" else {}
    with pytest.raises(ValueError, match=r"non-finite.*Scale X"):
        getattr(clf, method)(1e25 * X, y, **given)


# Dropout


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("dropout", [0.3, [0.0, 0.5], (0.2, 0.1)])
def test_dropout_is_the_same_on_any_number_of_threads(cls, dropout):
    fits = [cls(**PARAMS, dropout=dropout, n_threads=n).fit(X, y) for n in (1, 2, 3, None)]
    for fit in fits[1:]:
        assert_same(fit, fits[0], rtol=1e-10)
    assert_same(cls(**PARAMS, dropout=dropout, n_threads=1).fit(X, y), fits[0])
    other_seed = cls(**{**PARAMS, "random_state": 1}, dropout=dropout).fit(X, y)
    assert not np.allclose(other_seed._parameters, fits[0]._parameters)
    without = cls(**PARAMS).fit(X, y)
    assert not np.allclose(without._parameters, fits[0]._parameters)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("params", [{"dropout": 0.3}, {"normalization": "batch"}], ids=str)
def test_training_that_goes_on_does_not_pass_over_a_change(cls, params):
    estimator = cls(**PARAMS, warm_start=True).fit(X, y).set_params(**params)
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match="dropout or normalization was changed"):
            method(X, y)
    estimator.set_params(warm_start=False).fit(X, y)
    assert_same(estimator, cls(**PARAMS, **params).fit(X, y))


@pytest.mark.parametrize("cls", BOTH)
def test_no_dropout_draws_nothing(cls):
    """A rate of 0 leaves the numbers as they are without."""
    assert_same(cls(**PARAMS, dropout=[0.0, 0.0]).fit(X, y), cls(**PARAMS).fit(X, y))


@pytest.mark.parametrize("cls", BOTH)
def test_predictions_drop_nothing(cls):
    estimator = cls(**PARAMS, dropout=0.5).fit(X, y)
    np.testing.assert_array_equal(estimator.predict(X), estimator.predict(X))
    plain = cls(**PARAMS).fit(X, y)
    plain.coefs_, plain.intercepts_ = estimator.coefs_, estimator.intercepts_
    np.testing.assert_allclose(plain.predict(X), estimator.predict(X), rtol=1e-12)


def test_no_two_minibatches_have_the_same_mask():
    """A network that hardly changes has another loss in each partial_fit."""
    regressor = MLPRegressor(
        hidden_layer_sizes=400, solver="sgd", learning_rate_init=1e-9, dropout=0.5, random_state=0
    )
    losses = [regressor.partial_fit(X, 100 * X[:, 0]).loss_ for _ in range(4)]
    assert len(set(losses)) == 4


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("added", [{"dropout": 0.1}, {"normalization": "batch"}])
def test_lbfgs_needs_a_loss_that_stays(cls, added):
    estimator = cls(**PARAMS, solver="lbfgs", **added)
    with pytest.raises(ValueError, match=r"solver='lbfgs'.*Use solver='adam'"):
        estimator.fit(X, y)
    assert not hasattr(estimator, "coefs_")
    estimator.set_params(dropout=0.0, normalization="layer").fit(X, y)
    assert estimator.n_iter_ > 0


@pytest.mark.parametrize(
    "params",
    [{"dropout": 1.0}, {"dropout": -0.1}, {"dropout": [0.5]}, {"dropout": [0.1, 1]},
     {"dropout": "half"}, {"dropout": [0.1, "a"]}, {"normalization": "instance"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("cls", BOTH)
def test_wrong_parameters(cls, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        cls(**PARAMS, **params).fit(X, y)


# Batch normalisation


@pytest.mark.parametrize("cls", BOTH)
def test_running_statistics_follow_the_batches(cls):
    """One epoch of one minibatch moves them by a tenth of the way."""
    params = {**PARAMS, "normalization": "batch", "batch_size": 70, "max_iter": 1}
    estimator = cls(**params).fit(X, y)
    untrained = cls(**{**params, "learning_rate_init": 1e-30}).fit(X, y)
    sums = X @ untrained.coefs_[0] + untrained.intercepts_[0]
    for fit in estimator, untrained:
        np.testing.assert_allclose(fit._state[:12], 0.1 * sums.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(fit._state[16:28], 0.9 + 0.1 * sums.var(axis=0), rtol=1e-9)


@pytest.mark.parametrize("cls", BOTH)
def test_partial_fit_moves_the_statistics(cls):
    estimator = cls(**PARAMS, normalization="batch").fit(X, y)
    before = estimator._state.copy()
    estimator.partial_fit(X + 3, y)
    assert not np.allclose(estimator._state, before)
    # a minibatch of one row uses them and leaves them as they are
    before = estimator._state.copy()
    for row in range(3):
        estimator.partial_fit(X[row : row + 1], y[row : row + 1])
    np.testing.assert_array_equal(estimator._state, before)
    assert np.isfinite(estimator._parameters).all()


@pytest.mark.parametrize("cls", BOTH)
def test_a_short_last_minibatch(cls):
    """71 rows by 10: the last minibatch has one row."""
    rows, targets = np.vstack([X, X[:1]]), np.append(y, y[0])
    estimator = cls(**{**PARAMS, "batch_size": 10}, normalization="batch").fit(rows, targets)
    assert np.isfinite(estimator.loss_curve_).all()
    assert np.isfinite(estimator.predict(rows)).all()


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("n_threads", [2, 3])
def test_statistics_are_those_of_all_threads(cls, n_threads):
    weights = rng.uniform(0.2, 2, 70)
    one, several = (
        cls(**PARAMS, normalization="batch", n_threads=n).fit(X, y, weights)
        for n in (1, n_threads)
    )
    np.testing.assert_allclose(several._state, one._state, rtol=1e-8)
    np.testing.assert_allclose(several._parameters, one._parameters, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("cls", BOTH)
def test_weights_are_counts_to_the_statistics(cls):
    counts = rng.randint(1, 4, 70)
    params = {**PARAMS, "normalization": "batch", "batch_size": 1000, "shuffle": False}
    weighted = cls(**params).fit(X, y, sample_weight=counts.astype(float))
    repeated = cls(
        **params,
    ).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(weighted._state, repeated._state, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("cls", BOTH)
def test_the_best_statistics_come_back(cls):
    """early_stopping ends with the weights and the statistics of the best epoch."""
    estimator = cls(**{**PARAMS, "max_iter": 12}, normalization="batch", early_stopping=True,
                    learning_rate_init=0.3, validation_fraction=0.3).fit(X, y)  # fmt: skip
    best = int(np.argmax(estimator.validation_scores_)) + 1
    assert best < 12
    stopped = cls(**{**PARAMS, "max_iter": best}, normalization="batch", early_stopping=True,
                  learning_rate_init=0.3, validation_fraction=0.3).fit(X, y)  # fmt: skip
    assert_same(estimator, stopped)
    np.testing.assert_array_equal(estimator._state, stopped._state)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("normalization", ["batch", "layer"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pickles_keep_the_statistics(cls, normalization, dtype):
    estimator = cls(**PARAMS, normalization=normalization, dtype=dtype).fit(X, y)
    estimator.partial_fit(X, y)  # after which the optimizer is kept, too
    loaded = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
    assert (estimator._state is None) == (normalization == "layer")
    for fit in estimator, loaded:
        fit.partial_fit(X, y)
    assert_same(loaded, estimator)


@pytest.mark.parametrize("cls", BOTH)
def test_warm_start_goes_on_with_the_statistics(cls):
    estimator = cls(**PARAMS, normalization="batch", warm_start=True).fit(X, y)
    before = estimator._state.copy()
    estimator.fit(X, y)
    assert not np.array_equal(before, estimator._state)
    cold = clone(estimator).set_params(warm_start=False).fit(X, y)
    np.testing.assert_allclose(cold._state, before)


def test_deep_networks_learn_with_normalisation():
    """Twelve layers of rectified units hardly do without."""
    digits, labels = load_digits(return_X_y=True)
    digits, labels = digits[:600] / 16, labels[:600]
    params = {"hidden_layer_sizes": (30,) * 12, "max_iter": 15, "learning_rate_init": 0.003}
    scores = {
        kind: MLPClassifier(**params, normalization=kind, random_state=0)
        .fit(digits, labels)
        .score(digits, labels)
        for kind in (None, "batch", "layer")
    }
    assert min(scores["batch"], scores["layer"]) > scores[None] + 0.1


def test_dropout_generalises_better():
    """A large network learns noisy labels by heart without."""
    digits, labels = load_digits(return_X_y=True)
    noise = np.random.RandomState(0)
    noisy = np.where(noise.uniform(size=300) < 0.3, noise.randint(0, 10, 300), labels[:300])
    plain, dropping = (
        MLPClassifier((200,), max_iter=150, dropout=rate, random_state=0)
        .fit(digits[:300] / 16, noisy)
        .score(digits[300:] / 16, labels[300:])
        for rate in (0.0, 0.5)
    )
    assert dropping > plain + 0.02


# Folded into the weights in predictions


def n_rows(estimator, opcode):
    program = lower_for_cpu(estimator._program(), False, Phase.PREDICT, True)
    return int((program.ops["opcode"] == opcode).sum())


IMAGES = rng.uniform(size=(40, 6, 6, 2))
LABELS = np.arange(40) % 3
FOLDED = {
    "mlp": (MLPClassifier(**PARAMS, normalization="batch"), 0),
    "conv": (ConvClassifier((4, 5), normalization="batch", max_iter=3), 0),
    "residual": (ConvClassifier((4,), normalization="batch", residual=True, max_iter=3), 0),
    "first": (NetworkClassifier([BatchNorm(), Dense(4), BatchNorm(0.5, 0.1)], max_iter=3), 1),
    "after an activation": (NetworkClassifier([Conv(4, activation="relu"), BatchNorm()]), 1),
    "after a pooling": (NetworkClassifier([Conv(4), MaxPool(2), BatchNorm()]), 1),
    "flattened": (NetworkClassifier([Conv(4), Flatten(), BatchNorm()]), 1),
    "read twice": (NetworkClassifier([Conv(4), Residual([BatchNorm(), Activation("tanh")])]), 1),
    "twice": (NetworkRegressor([Conv(4), BatchNorm(), BatchNorm()], loss="poisson"), 1),
}


@pytest.mark.parametrize("kind", FOLDED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_folded_normalisations(kind, dtype):
    """Predictions of many rows fold them, those of few do not."""
    estimator, n_left = FOLDED[kind]
    rows = IMAGES.reshape(40, -1) if isinstance(estimator, MLPClassifier) else IMAGES
    estimator = clone(estimator).set_params(dtype=dtype, random_state=0, max_iter=3)
    estimator.set_params(learning_rate_init=0.05, batch_size=10).fit(rows, LABELS)
    assert n_rows(estimator, Opcode.BATCH_NORM) == n_left
    method = getattr(estimator, "predict_proba", estimator.predict)
    one_by_one = np.concatenate([method(row[None]) for row in rows])
    rtol = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(method(rows), one_by_one, rtol=rtol, atol=rtol / 100)
    # nothing is kept that a change would have to reach
    estimator.coefs_[0][...] *= 0.5
    estimator._state[...] *= 1.5
    changed = np.concatenate([method(row[None]) for row in rows])
    assert not np.allclose(changed, one_by_one)
    np.testing.assert_allclose(method(rows), changed, rtol=rtol, atol=rtol / 100)
