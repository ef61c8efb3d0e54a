"""Learning-rate schedules: what changes at the end of an epoch or when nothing improves."""

__all__ = ["SCHEDULES", "Adaptive", "Constant", "InvScaling"]


class Constant:
    """The initial learning rate throughout.

    Parameters
    ----------
    learning_rate_init : float
        The learning rate.
    power_t : float, default=None
        Not used; all schedules are made alike.

    Attributes
    ----------
    learning_rate : float
        The one in force.
    """

    def __init__(self, learning_rate_init, power_t=None):
        self.learning_rate_init = self.learning_rate = learning_rate_init

    def epoch_ends(self, t):
        """Called after each epoch.

        Parameters
        ----------
        t : int
            Rows that were trained on since the first fit.
        """

    def plateau(self, message, verbose):
        """Whether to stop, now that nothing improved for some epochs.

        Parameters
        ----------
        message : str
            What did not improve, as a sentence.
        verbose : bool
            Whether to print it, and what follows from it.

        Returns
        -------
        stop : bool
        """
        if verbose:
            print(message + " Stopping.")
        return True


class InvScaling(Constant):
    """``learning_rate_init / (t + 1) ** power_t`` from the second epoch on.

    Parameters
    ----------
    learning_rate_init : float
        The learning rate of the first epoch.
    power_t : float
        The exponent; ``t`` are the rows that were trained on.
    """

    def __init__(self, learning_rate_init, power_t):
        super().__init__(learning_rate_init)
        self.power_t = power_t

    def epoch_ends(self, t):
        """Set the learning rate of the next epoch."""
        self.learning_rate = float(self.learning_rate_init) / (t + 1) ** self.power_t


class Adaptive(Constant):
    """A fifth of the learning rate at each plateau, until it is too small.

    Parameters
    ----------
    learning_rate_init : float
        The learning rate at first.
    power_t : float, default=None
        Not used; all schedules are made alike.
    """

    SMALLEST = 1e-6

    def plateau(self, message, verbose):
        """Divide the learning rate, or stop."""
        stop = self.learning_rate <= self.SMALLEST
        if not stop:
            self.learning_rate /= 5.0
        if verbose and stop:
            print(message + " Learning rate too small. Stopping.")
        elif verbose:
            print(f"{message} Setting learning rate to {self.learning_rate:f}")
        return stop


# option name -> schedule
SCHEDULES = {"constant": Constant, "invscaling": InvScaling, "adaptive": Adaptive}
