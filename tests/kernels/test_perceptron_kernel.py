"""The Perceptron's kernel as compiled for every instruction set that this processor runs."""

from importlib import import_module

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sknn._kernels.cpu import variant
from sknn.perceptron import Perceptron, kernel


@pytest.mark.parametrize("name", variant.runnable())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_classes", [2, 5, 8, 13])
def test_variants_agree(name, n_classes, sparse, dtype, monkeypatch):
    rng = np.random.RandomState(n_classes)
    X = rng.randint(-4, 5, size=(150, 19)).astype(dtype)  # the products have no rounding error
    X[rng.random_sample(X.shape) < 0.5] = 0
    X = sp.csr_matrix(X) if sparse else X
    y = np.arange(150) % n_classes
    tolerance = 1e-3 if dtype == np.float32 else 1e-10
    for penalty in (None, "elasticnet"):
        model = Perceptron(penalty=penalty, tol=None, max_iter=3, shuffle=False)
        expected = model.fit(X, y).coef_
        with monkeypatch.context() as patch:
            compiled = import_module(f"sknn._kernels.cpu.perceptron_{name}")
            patch.setattr("sknn.perceptron.kernel", compiled)
            assert_allclose(model.fit(X, y).coef_, expected, atol=tolerance)


def test_shuffle_is_a_permutation():
    order = np.arange(1000, dtype=np.int32)
    kernel.shuffle(order, 7)
    assert_array_equal(np.sort(order), np.arange(1000))
    assert np.mean(order == np.arange(1000)) < 0.02
    again = np.arange(1000, dtype=np.int32)
    kernel.shuffle(again, 7)
    assert_array_equal(order, again)


def test_shuffle_takes_any_seed():
    for seed in (0, 2**31 - 2, 2**32 - 1):
        order = np.arange(3, dtype=np.int32)
        kernel.shuffle(order, seed)
        assert_array_equal(np.sort(order), [0, 1, 2])
