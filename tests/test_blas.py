"""SciPy's BLAS is held at one thread while an executor runs, whichever thread runs it."""

import linecache
import sys
import threading

import pytest

from sknn._compat import scipy_blas_libraries
from sknn._threads import _running, running


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


def test_an_interrupt_at_any_line_leaves_nothing_held(library):
    """Whatever was not left is forgotten when nobody holds it, and BLAS is given back then."""
    enter, leave = _running.enter.__code__, _running.leave.__code__
    seen = set()
    for n_lines in range(40):
        lines = iter(range(n_lines))

        def interrupt(frame, event, argument, lines=lines):
            if frame.f_code not in (enter, leave):
                return None
            # where a block ends, only a tracer comes between its last line and its lock
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if event != "line" or line.startswith("with "):
                return interrupt
            if next(lines, None) is None:
                sys.settrace(None)
                seen.add((frame.f_code.co_name, frame.f_lineno))
                raise KeyboardInterrupt
            return interrupt

        try:
            sys.settrace(interrupt)
            with running():
                pass
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        with running():
            assert len(_running.executors) == 1
            assert library.get_num_threads() == 1
        assert library.get_num_threads() == 2
    assert {name for name, _ in seen} == {"enter", "leave"}


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
