"""Few images are enough where a network has learned from others like them.

A network learns the digits 0 to 4. Another one, for the digits 5 to 9, has 100 images only: it
starts from scratch, or from the first one's convolutions, which learn on or stay as they are; a
logistic regression reads the features of the first one. Run it with

    python examples/transfer.py
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sknn import ConvClassifier

N_IMAGES = 100
SEEDS = range(10)


def load():
    """Images of the first five digits, and of the last five."""
    X, y = load_digits(return_X_y=True)
    X = (X.reshape(-1, 8, 8, 1) * 15).astype(np.uint8)
    return (X[y < 5], y[y < 5]), (X[y >= 5], y[y >= 5])


def make_network(**params):
    """Two convolutions and a dense layer."""
    return ConvClassifier(
        (16, 32), hidden_layer_sizes=64, batch_size=20, learning_rate_init=2e-3, **params
    )


def accuracies(first, X, y, seed):
    """Of each way, on the images that are not among the hundred."""
    convolutions = {
        name: array for name, array in first.parameters_.items() if name.startswith("conv")
    }
    params = {"max_iter": 30, "random_state": seed}
    ways = {
        "from scratch": make_network(**params),
        "from its convolutions": make_network(**params, pretrained=convolutions),
        "the first of them frozen": make_network(
            **params, pretrained=convolutions, frozen_layers=["conv1"]
        ),
        "both of them frozen": make_network(
            **params, pretrained=convolutions, frozen_layers=["conv1", "conv2"]
        ),
        "logistic regression on its features": make_pipeline(
            FrozenEstimator(first), LogisticRegression(C=0.1, max_iter=1000)
        ),
    }
    order = np.random.RandomState(seed).permutation(len(X))
    few, rest = order[:N_IMAGES], order[N_IMAGES:]
    return {name: way.fit(X[few], y[few]).score(X[rest], y[rest]) for name, way in ways.items()}


def main():
    """Print the mean accuracy of each way and its spread over draws of the hundred images."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    (X, y), new = load()
    first = make_network(max_iter=10, dropout=0.5, random_state=0).fit(X, y)
    first.set_params(transform_layer="pool2")
    found = [accuracies(first, *new, seed) for seed in SEEDS]
    for name in found[0]:
        scores = [scores[name] for scores in found]
        print(f"{name:<36} {np.mean(scores):.3f} ± {np.std(scores):.3f}")


if __name__ == "__main__":
    main()
