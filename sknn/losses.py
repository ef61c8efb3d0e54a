"""Losses: which op ends the program, and how the loss is reported."""

from dataclasses import dataclass

from sknn._kernels.ops import Opcode

__all__ = ["BY_NAME", "LOSSES", "REGRESSION", "SIGMOID_LOG_LOSS", "SOFTMAX_LOG_LOSS", "Loss"]


@dataclass(frozen=True)
class Loss:
    """A loss together with the link that turns outputs into predictions.

    Parameters
    ----------
    opcode : Opcode
        The op at the end of the program.
    out_activation : str
        scikit-learn's name of the link, the fitted attribute ``out_activation_``.
    averaged : bool, default=False
        Whether the reported loss is the mean over outputs rather than their sum; the
        gradient is that of the sum all the same.
    """

    opcode: Opcode
    out_activation: str
    averaged: bool = False

    @property
    def name(self):
        """That of its op, in lower case."""
        return self.opcode.name.lower()

    def emit(self, builder, z):
        """Append the op that turns ``z`` into predictions, in place.

        Parameters
        ----------
        builder : Builder
        z : operand
            The outputs of the last layer.

        Returns
        -------
        z : operand
        """
        reporting_factor = 1 / int(z["channels"]) if self.averaged else 1.0
        builder.op(self.opcode, [z], [z], attributes=[reporting_factor])
        return z


# the classifier's, by whether one class excludes the others
SOFTMAX_LOG_LOSS = Loss(Opcode.SOFTMAX_LOG_LOSS, "softmax")
SIGMOID_LOG_LOSS = Loss(Opcode.SIGMOID_LOG_LOSS, "logistic")

# the regressor's, by the option's name
REGRESSION = {
    "squared_error": Loss(Opcode.SQUARED_ERROR, "identity", averaged=True),
    "poisson": Loss(Opcode.POISSON_DEVIANCE, "exp"),
}

LOSSES = (SOFTMAX_LOG_LOSS, SIGMOID_LOG_LOSS, *REGRESSION.values())
BY_NAME = {loss.name: loss for loss in LOSSES}
