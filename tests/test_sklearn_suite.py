"""scikit-learn's own tests of its two classes, run on ours."""

import importlib.util

import pytest
import sklearn.neural_network

import sknn

NOT_RUN = {
    "test_fit",  # sets scikit-learn's private attributes and calls partial_fit on them
    "test_gradient",  # calls the private _loss_grad_lbfgs
}


def load_suite():
    """Import the test module under another name, with our classes in place of theirs."""
    found = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    spec = importlib.util.spec_from_file_location("sklearn_test_mlp", found.origin)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in "MLPClassifier", "MLPRegressor":
            patch.setattr(sklearn.neural_network, name, getattr(sknn, name))
        spec.loader.exec_module(module)
    return module


SUITE = load_suite()
TESTS = {name: test for name, test in vars(SUITE).items() if name.startswith("test_")}
globals().update({name: test for name, test in TESTS.items() if name not in NOT_RUN})


@pytest.fixture
def global_random_seed():
    return 42


def test_the_suite_is_run_on_our_classes():
    assert SUITE.MLPClassifier is sknn.MLPClassifier
    assert SUITE.MLPRegressor is sknn.MLPRegressor
    assert sklearn.neural_network.MLPClassifier is not sknn.MLPClassifier
    assert TESTS.keys() >= NOT_RUN and len(TESTS) >= 40
