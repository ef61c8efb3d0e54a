"""The order of an epoch: NumPy's draws, to the last bit of the generator's state."""

import threading

import numpy as np
import pytest

from sknn._kernels.cpu.executor import shuffle

# around the blocks of swaps and the powers of two, where the mask of the draws changes
SIZES = [0, 1, 2, 3, 4, 5, 31, 32, 33, 255, 256, 257, 258, 511, 512, 513, 1000, 4097, 100_003]
GENERATORS = [np.random.MT19937, np.random.PCG64, np.random.Philox, np.random.SFC64]


def assert_same_state(ours, theirs):
    np.testing.assert_equal(ours.get_state(legacy=False), theirs.get_state(legacy=False))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("generator", GENERATORS)
def test_as_numpy_shuffles(n, generator):
    ours, theirs = (np.random.RandomState(generator(n)) for _ in range(2))
    mine, expected = np.arange(n), np.arange(n)
    for _ in range(3):
        shuffle(mine, ours)
        theirs.shuffle(expected)
        np.testing.assert_array_equal(mine, expected)
        assert ours.normal() == theirs.normal()  # leaves a second one in the state
        assert_same_state(ours, theirs)


def test_the_global_generator():
    generator = np.random.mtrand._rand
    before = generator.get_state(legacy=False)
    mine, expected = np.arange(1000), np.arange(1000)
    try:
        shuffle(mine, generator)
        after = generator.get_state(legacy=False)
        generator.set_state(before)
        generator.shuffle(expected)
        np.testing.assert_equal(after, generator.get_state(legacy=False))
    finally:
        generator.set_state(before)
    np.testing.assert_array_equal(mine, expected)


def test_a_subclass_shuffles_as_it_likes():
    class Reversing(np.random.RandomState):
        def shuffle(self, x):
            x[:] = x[::-1].copy()

    order = np.arange(10)
    shuffle(order, Reversing(0))
    np.testing.assert_array_equal(order, np.arange(10)[::-1])


@pytest.mark.parametrize("order", [np.arange(9, dtype=np.int32), np.arange(9)[::2]])
def test_other_arrays_are_refused(order):
    with pytest.raises(ValueError):
        shuffle(order, np.random.RandomState(0))


def test_threads_that_share_a_generator_take_turns():
    ours, theirs = (np.random.RandomState(1) for _ in range(2))
    orders = [np.arange(20_000) for _ in range(4)]
    threads = [threading.Thread(target=shuffle, args=(order, ours)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [np.arange(20_000) for _ in range(4)]
    for order in expected:
        theirs.shuffle(order)
    assert_same_state(ours, theirs)
    assert {order.tobytes() for order in orders} == {order.tobytes() for order in expected}
