"""How parameters start."""

import numpy as np


def glorot_uniform(random_state, shape, fans, gain):
    """Drawn uniformly, weights and biases alike, as scikit-learn draws them.

    Parameters
    ----------
    random_state : numpy.random.RandomState
    shape : tuple of int
    fans : (int, int)
        Units before and after the weights.
    gain : float
        The bound is ``sqrt(gain / (fan_in + fan_out))``; scikit-learn takes 6, and 2 in networks
        of logistic units.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equation 16.
    """
    bound = np.sqrt(gain / sum(fans))
    return random_state.uniform(-bound, bound, shape)


def he_uniform(random_state, shape, fans, gain):
    """Drawn uniformly so that rectified units keep the variance of their input.

    References
    ----------
    He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015, equation 10.
    """
    bound = np.sqrt(6 / fans[0])
    return random_state.uniform(-bound, bound, shape)


# what a layer names -> (random_state, shape, fans, gain) -> array
INITIALIZERS = {
    "glorot": glorot_uniform,
    "he": he_uniform,
    "zeros": lambda random_state, shape, fans, gain: np.zeros(shape),
    "ones": lambda random_state, shape, fans, gain: np.ones(shape),
}
