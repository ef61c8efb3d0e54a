"""L-BFGS over the whole data, by SciPy."""

import warnings

import numpy as np
import scipy.optimize

from sknn._compat import (
    _check_optimize_result,
    _get_additional_lbfgs_options_dict,
    has_callbacks,
)
from sknn._device import evaluation_rows, make_executor
from sknn._program import zero_weight


class Objective:
    """Penalised mean loss of all rows and its gradient, as functions of the flat vector."""

    def __init__(self, estimator, program, data, dtype, gpu):
        self.program, self.dtype, self.alpha = program, dtype, estimator.alpha
        capacity = evaluation_rows(gpu, data.n_samples)
        self.executor = make_executor(estimator, program, data, dtype, capacity, gpu)
        self.order = np.arange(data.n_samples)
        self.weight_sum = data.n_samples if data.weights is None else data.weights.sum()
        if self.weight_sum == 0:
            raise zero_weight()

    def __call__(self, vector):
        parameters = vector.astype(self.dtype, copy=False)
        gradient = np.empty(vector.size, self.dtype)
        loss = self.executor.evaluate(parameters, gradient, self.order)
        weights = self.program.views(parameters)
        gradients = self.program.views(gradient)
        segments = self.program.segments
        decayed = (segments["decayed"] != 0) & (segments["frozen"] == 0)
        for weight, slope, decays in zip(weights, gradients, decayed, strict=True):
            if decays:
                flat = weight.ravel()
                loss += 0.5 * self.alpha * np.dot(flat, flat)
                slope += self.alpha * weight
        gradient /= self.weight_sum
        return loss / self.weight_sum, gradient.astype(np.float64, copy=False)


def minimize(estimator, objective, parameters, start, iteration_task):
    """Minimise from ``parameters``; the fitted vector.

    Parameters
    ----------
    estimator : estimator
        Its ``n_iter_`` and ``loss_`` are set.
    objective : Objective
    parameters : ndarray
    start : callable
        Has the estimator take the parameters of the fit, when SciPy has all that it needs.
    iteration_task : callable
        Context manager around what is told to callbacks of each iteration.
    """
    iterations = Iterations(estimator, objective, parameters, start, iteration_task)
    try:
        result = scipy.optimize.minimize(
            objective,
            parameters.astype(np.float64, copy=False),
            method="L-BFGS-B",
            jac=True,
            options={
                "maxfun": estimator.max_fun,
                "maxiter": estimator.max_iter,
                "gtol": estimator.tol,
                **_get_additional_lbfgs_options_dict("iprint", 1 if estimator.verbose else -1),
            },
            callback=iterations,
        )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.")
        result, iterations.ended_early = iterations.result, True
    if iterations.n == 0:
        start()
    if iterations.ended_early:
        estimator.n_iter_ = iterations.n
    else:
        estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
    estimator.loss_ = result.fun
    return result.x.astype(objective.dtype)


class Iterations:
    """Follows the iterations: for callbacks, and for what is left after an interrupt."""

    def __init__(self, estimator, objective, parameters, start, iteration_task):
        self.estimator, self.dtype = estimator, objective.dtype
        self.start, self.iteration_task = start, iteration_task
        self.n, self.ended_early = 0, False
        self.result = scipy.optimize.OptimizeResult(x=parameters.astype(np.float64), fun=np.inf)
        self.has_callbacks = has_callbacks(estimator)

    def __call__(self, intermediate_result):
        if self.n == 0:
            self.start()
        self.n += 1
        # SciPy's x is where it evaluates next, so that it changes within an iteration
        self.result.x[...], self.result.fun = intermediate_result.x, intermediate_result.fun
        if not self.has_callbacks:
            return
        self.estimator._show_parameters(intermediate_result.x.astype(self.dtype))
        with self.iteration_task() as task:
            pass
        if task.stop:
            self.ended_early = True
            raise StopIteration
