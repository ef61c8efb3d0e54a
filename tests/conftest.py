"""What all tests share."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def interrupts():
    """Ctrl-C is heard, also where a shell runs the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
