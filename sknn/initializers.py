"""How parameters start: each draws an array of a shape.

``fans`` are the units before and after the weights.
"""

import numpy as np

__all__ = [
    "BIASES",
    "INITIALIZERS",
    "fan_in_uniform",
    "glorot_uniform",
    "he_uniform",
    "lecun_uniform",
]


def glorot_uniform(random_state, shape, fans, gain):
    """Drawn uniformly within ``sqrt(gain / (fan_in + fan_out))``.

    Parameters
    ----------
    random_state : numpy.random.RandomState
    shape : tuple of int
    fans : (int, int)
        Units before and after the weights.
    gain : float
        scikit-learn takes 6, and 2 in networks of logistic units.

    Returns
    -------
    weights : ndarray of that shape

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equation 16.
    """
    return _uniform(random_state, shape, gain / sum(fans))


def fan_in_uniform(random_state, shape, fans, gain):
    """Drawn uniformly within ``1 / sqrt(fan_in)``, so that sums start small.

    Parameters
    ----------
    random_state, shape, fans, gain
        As in `glorot_uniform`; the gain is not used.

    Returns
    -------
    weights : ndarray of that shape

    References
    ----------
    Glorot and Bengio, 2010, equation 1.
    """
    return _uniform(random_state, shape, 1 / fans[0])


def lecun_uniform(random_state, shape, fans, gain):
    """Drawn uniformly so that sums have the variance of the input.

    Parameters
    ----------
    random_state, shape, fans, gain
        As in `glorot_uniform`; the gain is not used.

    Returns
    -------
    weights : ndarray of that shape

    References
    ----------
    LeCun, Bottou, Orr and Mueller, "Efficient BackProp", 1998, section 4.6.
    """
    return _uniform(random_state, shape, 3 / fans[0])


def he_uniform(random_state, shape, fans, gain):
    """Drawn uniformly so that rectified units keep the variance of their input.

    Parameters
    ----------
    random_state, shape, fans, gain
        As in `glorot_uniform`; the gain is not used.

    Returns
    -------
    weights : ndarray of that shape

    References
    ----------
    He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015, equation 10.
    """
    return _uniform(random_state, shape, 6 / fans[0])


def _uniform(random_state, shape, squared_bound):
    bound = np.sqrt(squared_bound)
    return random_state.uniform(-bound, bound, shape)


# name -> (random_state, shape, fans, gain) -> array
INITIALIZERS = {
    "fan_in": fan_in_uniform,
    "glorot": glorot_uniform,
    "he": he_uniform,
    "lecun": lecun_uniform,
    "zeros": lambda random_state, shape, fans, gain: np.zeros(shape),
    "ones": lambda random_state, shape, fans, gain: np.ones(shape),
}

# what a layer's weights may start as -> how its biases then start
BIASES = {"fan_in": "fan_in", "glorot": "glorot", "he": "zeros", "lecun": "zeros"}
