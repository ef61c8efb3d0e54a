"""How parameters start."""

import numpy as np


def glorot_uniform(random_state, fan_in, fan_out, *, gain=6.0):
    """Weights and biases drawn uniformly, as scikit-learn draws them.

    Parameters
    ----------
    random_state : numpy.random.RandomState
    fan_in, fan_out : int
        Units before and after the weights.
    gain : float, default=6.0
        The bound is ``sqrt(gain / (fan_in + fan_out))``; scikit-learn takes 2 in networks of
        logistic units.

    Returns
    -------
    weights : ndarray of shape (fan_in, fan_out)
    biases : ndarray of shape (fan_out,)

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equation 16.
    """
    bound = np.sqrt(gain / (fan_in + fan_out))
    weights = random_state.uniform(-bound, bound, (fan_in, fan_out))
    return weights, random_state.uniform(-bound, bound, fan_out)
