"""SciPy's BLAS is held at one thread while an executor runs, whichever thread runs it."""

import threading

import pytest

from sknn._compat import scipy_blas_libraries
from sknn._threads import running


@pytest.fixture
def library():
    library, *_ = scipy_blas_libraries()
    before = library.get_num_threads()
    library.set_num_threads(2)
    if library.get_num_threads() != 2:
        pytest.skip("a BLAS that cannot run two threads")
    yield library
    library.set_num_threads(before)


def test_held_in_any_thread_and_given_back(library):
    seen = []

    def run():
        with running():
            seen.append(library.get_num_threads())

    run()  # the first thread to set it must not be the only one that can
    other = threading.Thread(target=run)
    other.start()
    other.join()
    assert seen == [1, 1]
    assert library.get_num_threads() == 2


def test_given_back_by_the_last_of_several_threads(library):
    entered, leave = threading.Barrier(2), threading.Event()

    def run():
        with running():
            entered.wait()
            leave.wait()

    other = threading.Thread(target=run)
    with running():
        other.start()
        entered.wait()
    assert library.get_num_threads() == 1
    leave.set()
    other.join()
    assert library.get_num_threads() == 2
