"""Counter-based random numbers against the vectors that their authors published."""

import pytest

from sknn._kernels.cpu import variant

# Random123, kat_vectors, philox4x32 with 10 rounds: counter, key, block
PUBLISHED = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize("counter, key, block", PUBLISHED)
def test_philox(counter, key, block):
    assert variant.load("kernels").philox(counter, key) == block
