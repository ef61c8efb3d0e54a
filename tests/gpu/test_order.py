"""Orders that the device draws: permutations, the same as in NumPy, and as good as random ones."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from sknn._kernels.cpu import variant
from sknn._kernels.gpu import kernels, rows
from sknn._kernels.gpu.rows import DrawnOrder
from sknn._kernels.gpu.source import kernel_name
from sknn._orders import DrawnOrders, OrdersAhead, takes_longer_than_epoch

from .. import reference
from ..kernels.cases import as_dtype
from .simulated import ORDERS
from .test_estimators import X, Y, fitted
from .test_executor import CASES, MAKE, on_device
from .test_kernels import Device

pytestmark = [
    pytest.mark.usefixtures("compiler"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
SEED = 2**31 - 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 65, 1000, 4099])
def test_the_device_draws_what_numpy_does(order, n):
    device = Device(order)
    for epoch, some in ((1, None), (2, np.arange(7, 7 + 3 * n, 3)), (2**33 + 5, None)):
        out, address = device.put(np.full(n, -1))
        address_of_rows = 0 if some is None else device.put(some)[1]
        kernels.draw_order(
            device.driver, address, address_of_rows, DrawnOrder(n, some, SEED, epoch)
        )
        drawn = reference.draw_order(n, SEED, epoch)
        np.testing.assert_array_equal(np.sort(drawn), np.arange(n))
        np.testing.assert_array_equal(out, drawn if some is None else some[drawn])
    device.check()


def test_numpys_philox_is_the_kernels():
    counter = 3, 7, 11, 2**32 - 1
    expected = variant.load("kernels").philox(counter, (5, 9))
    assert reference.philox([[c] for c in counter], (5, 9))[0] == expected[0]


@pytest.mark.parametrize("n", [37, 1000, 1024])
def test_every_place_is_as_likely(n):
    """Where a row comes, which row comes after it, and how far it moves, over many epochs."""
    n_epochs = 800
    orders = np.array([reference.draw_order(n, 12345, epoch) for epoch in range(n_epochs)])
    n_bins = 20
    for place in (0, 1, n // 2, n - 1):
        counts = np.bincount(orders[:, place] * n_bins // n, minlength=n_bins)
        sizes = np.bincount(np.arange(n) * n_bins // n, minlength=n_bins)
        assert stats.chisquare(counts, sizes / n * n_epochs).pvalue > 1e-4
    for first, second in ((0, 1), (n - 2, n - 1), (0, n // 2)):
        pairs = orders[:, first] * 4 // n * 4 + orders[:, second] * 4 // n
        quarter = np.bincount(np.arange(n) * 4 // n, minlength=4)
        expected = np.outer(quarter, quarter) - np.diag(quarter)
        expected = expected / expected.sum() * n_epochs
        counts = np.bincount(pairs, minlength=16)
        assert stats.chisquare(counts, expected.ravel()).pvalue > 1e-4
    steps = np.diff(orders, axis=1) % n
    counts = np.bincount(steps.ravel() * n_bins // n, minlength=n_bins)
    sizes = np.bincount(np.arange(1, n) * n_bins // n, minlength=n_bins)
    assert stats.chisquare(counts, sizes / sizes.sum() * steps.size).pvalue > 1e-4


def test_all_permutations_of_few_rows_come():
    n_epochs = 4800
    orders = [tuple(reference.draw_order(4, 7, epoch)) for epoch in range(n_epochs)]
    found, counts = np.unique(orders, axis=0, return_counts=True)
    # eight rounds over two bits make 24 permutations about equally often
    assert len(found) == 24 and stats.chisquare(counts).pvalue > 1e-4


def test_no_two_epochs_or_seeds_are_alike():
    n = 1000
    drawn = [reference.draw_order(n, s, e) for s, e in ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2))]
    for one, other in pairwise(drawn):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.15
        assert (one == other).sum() < 10


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("n", "batch"), [(1, 1), (100, 7), (600, 300), (600, 599)])
def test_weight_sums(order, n, batch):
    rng, device = np.random.default_rng(0), Device(order)
    weights, places = rng.uniform(size=2 * n), rng.permutation(2 * n)[:n]
    starts = np.arange(0, n, batch)
    sums, address = device.put(np.full(len(starts), np.nan))
    device.driver.launch(
        kernel_name("weight_sums"), len(starts), address, device.put(weights)[1],
        device.put(places)[1], n, batch,
    )  # fmt: skip
    np.testing.assert_allclose(sums, np.add.reduceat(weights[places], starts))
    device.check()


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("streams", [False, True])
def test_an_epoch_in_a_drawn_order(some, weighted, streams, monkeypatch):
    """Is that in the same order of the host's."""
    case, n = CASES[2], 61
    taken = np.random.default_rng(0).permutation(n)[:40] if some else None
    X, y, weights = case.data(n)
    X, y = as_dtype(case, X, y, np.float64)
    if streams:
        monkeypatch.setattr(rows, "MOST_OF_FREE", 0)
        monkeypatch.setattr(rows, "CHUNK_BYTES", 100)
    results = []
    for on_host in (False, True):
        executor, device = on_device(case.logical, np.float64, 7)
        executor.bind(X, y, weights if weighted else None)
        parameters = case.parameters()
        optimizer, losses = MAKE["adam"](parameters), []
        for epoch in (1, 2, 3):
            order = DrawnOrder(40 if some else n, taken, 99, epoch)
            if on_host:
                order = reference.draw_order(len(order), 99, epoch)
                order = order if taken is None else taken[order]
            losses.append(executor.train_epoch(parameters, optimizer, order, 7, 0.1))
        executor.fetch()
        results.append((losses, parameters))
        device.check()
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_drawn_minibatch_without_weight():
    case, n = CASES[2], 20
    X, y, _ = case.data(n)
    weights = np.zeros(n)
    weights[reference.draw_order(n, 5, 1)[:8]] = 1
    executor, _ = on_device(case.logical, float, 4)
    executor.bind(*as_dtype(case, X, y, np.float64), weights)
    parameters = case.parameters()
    optimizer = MAKE["adam"](parameters)
    with pytest.raises(ZeroDivisionError, match="sum to zero"):
        executor.train_epoch(parameters, optimizer, DrawnOrder(n, None, 5, 1), 4, 0.1)
    assert optimizer.t == 2


def test_who_draws():
    """Many rows of a small network in large minibatches are drawn faster on the device."""
    assert takes_longer_than_epoch(10_000_000, 65_536, 1e4)
    assert not takes_longer_than_epoch(10_000_000, 1024, 1e4)
    assert not takes_longer_than_epoch(10_000_000, 65_536, 3e6)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_fits_in_drawn_orders(simulated, monkeypatch, early_stopping):
    """By the seed alone; a generator that was given and ``partial_fit`` keep the host's orders."""
    made, make = [], DrawnOrders.next
    monkeypatch.setattr(DrawnOrders, "next", lambda self: made.append(self) or make(self))
    monkeypatch.setattr("sknn._orders.AHEAD_ROWS", 100)
    monkeypatch.setattr("sknn._orders.STEP_SECONDS", 0)
    monkeypatch.setattr("sknn._orders.FLOPS", 1e30)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    options = {"max_iter": 6, "early_stopping": early_stopping, "tol": 0}
    models = [fitted("classifier", "cuda", random_state=s, **options) for s in (0, 0, 1)]
    assert len(made) == 18
    assert models[0].loss_curve_ == models[1].loss_curve_ != models[2].loss_curve_
    cpu = fitted("classifier", "cpu", random_state=0, **options)
    assert not np.allclose(models[0].loss_curve_[1:], cpu.loss_curve_[1:], rtol=1e-6)
    np.testing.assert_allclose(models[0].loss_curve_, cpu.loss_curve_, rtol=0.1)
    if not early_stopping:
        for model in models[:2]:
            model.partial_fit(X, Y, weights)
    state = np.random.RandomState(3), np.random.RandomState(3)
    for device, random_state in zip(("cpu", "cuda"), state, strict=True):
        fitted("classifier", device, random_state=random_state, **options)
    assert state[0].randint(1000) == state[1].randint(1000), "left elsewhere than the CPU's"
    assert len(made) == 18


def test_otherwise_they_are_drawn_ahead(simulated, monkeypatch):
    made, make = [], OrdersAhead.next
    monkeypatch.setattr(OrdersAhead, "next", lambda self: made.append(self) or make(self))
    monkeypatch.setattr("sknn._orders.AHEAD_ROWS", 100)
    fitted("classifier", "cuda", max_iter=2)
    assert len(made) == 2
