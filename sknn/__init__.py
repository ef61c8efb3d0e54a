"""Neural networks that scikit-learn users can use like any other estimator."""

from sknn._show_versions import show_versions
from sknn.mlp import MLPClassifier, MLPRegressor
from sknn.perceptron import Perceptron

__version__ = "0.1.0"
__all__ = ["MLPClassifier", "MLPRegressor", "Perceptron", "show_versions"]
