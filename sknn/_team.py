"""The classes that a perceptron tells apart, on their way through the data together."""

from itertools import pairwise
from math import prod

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.sparse import issparse
from sklearn.utils.extmath import safe_sparse_dot

from sknn._kernels.cpu.executor import aligned_empty
from sknn._kernels.cpu.variant import load

kernel = load("perceptron")

# Multiplications in one call of the kernel, about 50 ms. Between calls Python can act on
# Ctrl-C.
CALL_SIZE = 30_000_000


class Team:
    """The classes of a fit, each against the rest, and the data that they learn from.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)
    labels : int32 ndarray of shape (n_samples,)
    sample_weight : ndarray of shape (n_samples,)
    coef : ndarray of shape (n_learners, n_features)
        Up to date after every epoch.
    learners : record array of shape (n_learners,)
    rule : record array of shape (1,)
    n_jobs : int or None
    max_iter : int
    """

    def __init__(self, X, labels, sample_weight, coef, learners, rule, n_jobs, max_iter):
        self.X = X
        self.labels = labels
        self.sample_weight = sample_weight
        self.coef = coef
        self.learners = learners
        self.rule = rule

        n_learners, n_features = coef.shape
        n_threads = n_groups = min(effective_n_jobs(n_jobs), n_learners)
        packed = False
        if issparse(X):
            # To lay the weights out for sparse rows costs about as much as to visit each
            # of them a few times: not worth it for a few rows of very many features.
            packed = n_learners > 1 and X.nnz * min(max_iter, 5) > n_features
            n_groups = n_groups if packed else n_learners
        self.groups = [
            Group(coef[part], learners[part], rule, issparse(X), packed)
            for part in _slices(n_learners, n_groups)
        ]
        row_size = (X.nnz / X.shape[0] if issparse(X) else n_features) * n_learners
        self.call_rows = max(1, int(CALL_SIZE / max(1, row_size)))
        self.parallel = Parallel(n_threads, require="sharedmem") if n_threads > 1 else None

    def __enter__(self):
        if self.parallel is not None:
            self.parallel.__enter__()
        return self

    def __exit__(self, *exception):
        if self.parallel is not None:
            self.parallel.__exit__(*exception)

    @property
    def stopped(self):
        return self.learners["stopped"] == 1

    def stop(self, which):
        """Freeze the learners in the mask ``which``."""
        self.learners["stopped"][which] = 1
        self.learners["step"][which] = 0.0

    def epoch(self, order):
        """Show the samples in ``order`` to the learners that have not stopped."""
        self.learners["objective"] = 0.0
        self.learners["mistakes"] = 0
        arguments = (self.X, self.labels, self.sample_weight, self.rule)
        for start in range(0, len(order), self.call_rows):
            part = order[start : start + self.call_rows]
            if self.parallel is None:
                for group in self.groups:
                    group.learn(part, *arguments)
            else:
                self.parallel(delayed(group.learn)(part, *arguments) for group in self.groups)
        self.write_coef()

    def write_coef(self):
        """Bring ``coef`` up to date."""
        for group in self.groups:
            group.write_coef()

    def check_finite(self, epoch):
        if not (np.isfinite(self.coef).all() and np.isfinite(self.learners["intercept"]).all()):
            raise ValueError(
                f"Floating-point under-/overflow occurred at epoch #{epoch + 1}. Scaling "
                "input data with StandardScaler or MinMaxScaler might help."
            )

    def accuracy(self, held_out):
        """Share of the samples in the mask that each learner gets right, weighted."""
        score = safe_sparse_dot(self.X[held_out], self.coef.T) + self.learners["intercept"]
        positive = self.labels[held_out, None] == self.learners["label"]
        weights = self.sample_weight[held_out]
        return np.average((score > 0) == positive, axis=0, weights=weights)

    def fitted(self):
        """Fitted attributes as if the fit stopped now."""
        intercept = self.learners["intercept"].astype(self.coef.dtype)
        return {"coef_": self.coef.copy(), "intercept_": intercept}

    def report(self, epoch, n_samples):
        running = self.learners[~self.stopped]
        print(
            f"Epoch {epoch + 1}: {len(running)} of {len(self.learners)} hyperplanes running, "
            f"{running['mistakes'].sum()} mistakes, "
            f"average objective {running['objective'].mean() / n_samples:.6g}"
        )


class Group:
    """The part of a team that one thread takes through the data.

    Parameters
    ----------
    coef, learners : views of the team's arrays
    rule : record array of shape (1,)
    sparse : bool
        Whether the samples are the rows of a CSR matrix.
    packed : bool
        Whether the weights are copied to the layout (features, lanes) for sparse rows.
        Without that, a group for sparse rows is a single learner.
    """

    def __init__(self, coef, learners, rule, sparse, packed):
        self.coef = coef
        self.learners = learners
        n_learners, n_features = coef.shape
        if not sparse:
            step = kernel.ROW_SIZE // coef.itemsize
            width = -(-n_features // step) * step
            self.weights = _aligned_zeros((n_learners, width), coef.dtype)
            self.row = _aligned_zeros((width,), coef.dtype)
            self.features = self.weights[:, :n_features]
        elif packed:
            n_lanes = max(n_learners, kernel.LANES)
            self.weights = _aligned_zeros((n_features, n_lanes), coef.dtype)
            self.features = self.weights[:, :n_learners].T
        else:
            self.weights = coef.reshape(-1, 1)
            self.features = coef
        self.features[:] = coef
        penalised = rule["l1_step"][0] != 0.0
        self.paid = np.zeros(self.weights.shape if penalised else (0, 0), dtype=coef.dtype)

    def learn(self, order, X, labels, sample_weight, rule):
        """Show the samples in ``order`` to the group."""
        samples = order, labels, sample_weight
        if issparse(X):
            kernel.sparse_pass(
                X.data, X.indices, X.indptr, *samples, self.weights, self.paid, self.learners, rule
            )
        else:
            kernel.dense_pass(X, *samples, self.weights, self.paid, self.row, self.learners, rule)

    def write_coef(self):
        if self.features is not self.coef:
            self.coef[:] = self.features


class Patience:
    """Which learners have not improved for too many epochs."""

    def __init__(self, n_learners, tol, n_iter_no_change):
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.best = np.full(n_learners, -np.inf)
        self.waited = np.zeros(n_learners, dtype=int)

    def exhausted(self, score):
        """Take the scores of an epoch, the higher the better; return a mask."""
        if self.tol is not None:
            self.waited = np.where(score < self.best + self.tol, self.waited + 1, 0)
            self.best = np.fmax(self.best, score)
        return self.waited >= self.n_iter_no_change


def _aligned_zeros(shape, dtype):
    """Zeros that start at a cache line, so that no vector of them lies across two."""
    array = aligned_empty(prod(shape), dtype).reshape(shape)
    array[...] = 0
    return array


def _slices(n, n_parts):
    """Cut range(n) into almost equal slices."""
    bounds = [n * part // n_parts for part in range(n_parts + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]
