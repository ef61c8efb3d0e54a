"""Optimizers: the memory they keep and the numbers their kernels take."""

import numpy as np

from sknn import schedules
from sknn._kernels.ops import Optimizer as OptimizerEnum

__all__ = ["SGD", "Adam", "Optimizer", "make_optimizer"]


class Optimizer:
    """What every optimizer has.

    Parameters
    ----------
    parameters : ndarray of shape (n_parameters,)
        What it will train; asked for its size and type alone.
    schedule : Constant
        Of the learning rate, see `schedules`.

    Attributes
    ----------
    slots : ndarray of shape (n_slots, n_parameters)
        Vectors like the parameters, zero at first.
    coefficients : tuple of float
        What the kernel reads from ``Update.coefficients``.
    learning_rate : float
        The one in force.
    """

    n_slots = 1
    # whether a step subtracts the gradient times the learning rate and nothing else
    is_plain_descent = False

    def __init__(self, parameters, schedule):
        self.slots = np.zeros((self.n_slots, parameters.size), parameters.dtype)
        self.schedule = schedule

    @property
    def learning_rate(self):
        return self.schedule.learning_rate

    def learning_rates(self, n_steps):
        """One learning rate for each of the next minibatches."""
        return np.full(n_steps, float(self.learning_rate))

    def advance(self, n_steps):
        """Take note of minibatches done."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Parameters
    ----------
    parameters : ndarray of shape (n_parameters,)
        What it will train; asked for its size and type alone.
    schedule : Constant
        Of the learning rate, see `schedules`.
    momentum : float
        Share of the last step in the next, in [0, 1].
    nesterov : bool
        Whether the momentum is Nesterov's.

    Notes
    -----
    Coefficients: momentum, whether it is Nesterov's. Slots: velocity, if there is momentum.
    """

    opcode = OptimizerEnum.SGD

    def __init__(self, parameters, schedule, momentum, nesterov):
        self.is_plain_descent = momentum == 0
        self.n_slots = 0 if self.is_plain_descent else 1
        super().__init__(parameters, schedule)
        self.coefficients = (momentum, float(nesterov))


class Adam(Optimizer):
    """Adam; its learning rate holds the correction of the moments' bias.

    Parameters
    ----------
    parameters : ndarray of shape (n_parameters,)
        What it will train; asked for its size and type alone.
    learning_rate_init : float
        The learning rate before that correction.
    beta_1, beta_2 : float
        Decay of the means of the gradient and of its square, in [0, 1).
    epsilon : float
        Added to the denominator.

    Notes
    -----
    Coefficients: beta_1, beta_2, epsilon. Slots: mean, mean square.
    """

    opcode = OptimizerEnum.ADAM
    n_slots = 2

    def __init__(self, parameters, learning_rate_init, beta_1, beta_2, epsilon):
        super().__init__(parameters, schedules.Constant(learning_rate_init))
        self.coefficients = (beta_1, beta_2, epsilon)
        self.t = 0

    def _corrected(self, t):
        beta_1, beta_2, _ = self.coefficients
        with np.errstate(under="ignore"):
            beta_1_t, beta_2_t = beta_1**t, beta_2**t
        return self.schedule.learning_rate * np.sqrt(1 - beta_2_t) / (1 - beta_1_t)

    @property
    def learning_rate(self):
        """That of the last minibatch."""
        return self._corrected(self.t) if self.t else self.schedule.learning_rate

    def learning_rates(self, n_steps):
        """One learning rate for each of the next minibatches."""
        return self._corrected(self.t + np.arange(1.0, n_steps + 1))

    def advance(self, n_steps):
        """Take note of minibatches done."""
        self.t += n_steps


def make_optimizer(estimator, parameters):
    """The optimizer that an estimator's parameters ask for.

    Parameters
    ----------
    estimator : BaseNetwork
        With the solver 'sgd' or 'adam'.
    parameters : ndarray of shape (n_parameters,)
        What it will train.

    Returns
    -------
    optimizer : Optimizer
    """
    if estimator.solver == "sgd":
        schedule = schedules.SCHEDULES[estimator.learning_rate](
            estimator.learning_rate_init, estimator.power_t
        )
        return SGD(parameters, schedule, estimator.momentum, estimator.nesterovs_momentum)
    return Adam(
        parameters,
        estimator.learning_rate_init,
        estimator.beta_1,
        estimator.beta_2,
        estimator.epsilon,
    )
