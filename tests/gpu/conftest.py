"""The simulated device needs a C++ compiler."""

import pytest

from sknn import _device
from sknn._kernels.gpu import driver

from .simulated import COMPILER, SimulatedDriver


@pytest.fixture(scope="session")
def compiler():
    if COMPILER is None:
        pytest.skip("kernels run on the CPU where there is a C++ compiler, but none was found")


@pytest.fixture
def simulated(compiler, monkeypatch):
    """Estimators that ask for a GPU get a simulated one; those made, whose options may be set."""
    made, options = [], {}

    def take_driver(index):
        made.append(SimulatedDriver(**options))
        made[-1].index = index
        return made[-1]

    monkeypatch.setattr(driver, "check_device", lambda index: None)
    monkeypatch.setattr(driver, "take_driver", take_driver)
    monkeypatch.setattr(driver, "give_back", lambda driver: None)
    monkeypatch.setattr(_device, "FEW_FLOPS", 0)
    monkeypatch.setattr(_device, "find_spec", lambda name: True)
    made_and_options = made, options
    yield made_and_options
    for device in made:
        device.check()
