"""What all tests share."""

import signal

import hypothesis
import pytest

# no test asserts a time, nor does Hypothesis: a busy machine or a sanitizer is no error
hypothesis.settings.register_profile("sknn", deadline=None)
hypothesis.settings.load_profile("sknn")


@pytest.fixture(scope="session", autouse=True)
def interrupts():
    """Ctrl-C is heard, also where a shell runs the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
