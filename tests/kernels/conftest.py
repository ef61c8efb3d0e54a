"""Guarded memory for every kernel test."""

import pytest

from sknn._kernels.cpu import executor

from .cases import GuardedMemory


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """Poisoned buffers between sentinels, checked when the test ends."""
    guarded = GuardedMemory()
    monkeypatch.setattr(executor, "aligned_empty", guarded.allocate)
    yield guarded
    if guarded.buffers:
        guarded.check()
