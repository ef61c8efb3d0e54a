"""Neural networks that scikit-learn users can use like any other estimator."""

from sknn._show_versions import show_versions
from sknn.conv import ConvClassifier, ConvRegressor
from sknn.mlp import MLPClassifier, MLPRegressor
from sknn.network import NetworkClassifier, NetworkRegressor
from sknn.perceptron import Perceptron

__version__ = "0.1.0"
__all__ = [
    "ConvClassifier",
    "ConvRegressor",
    "MLPClassifier",
    "MLPRegressor",
    "NetworkClassifier",
    "NetworkRegressor",
    "Perceptron",
    "show_versions",
]
