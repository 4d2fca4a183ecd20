"""A thread that does jobs in order, and tells what went wrong."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from tffold.train.writer import Writer


def test_jobs_are_done_in_order_while_the_caller_goes_on():
    writer, go_on, done = Writer(), threading.Event(), []
    writer.start(lambda: (go_on.wait(60), done.append(1)))
    for number in (2, 3):
        writer.start(lambda number=number: done.append(number))
    assert writer.busy and not done
    go_on.set()
    writer.wait()
    assert done == [1, 2, 3] and not writer.busy
    writer.start(lambda: done.append(4))  # a new thread
    writer.wait()
    assert done[-1] == 4


@pytest.mark.parametrize("tell", [Writer.check, Writer.wait, lambda w: w.start(lambda: None)])
def test_a_failure_is_raised_once_and_later_jobs_are_dropped(tell):
    writer, go_on, done = Writer(), threading.Event(), []

    def fail():
        go_on.wait(60)
        raise OSError("full")

    writer.start(fail)
    writer.start(lambda: done.append(1))
    go_on.set()
    while writer.busy:
        pass
    with pytest.raises(OSError, match="full"):
        tell(writer)
    writer.wait()
    assert not done
    writer.start(lambda: done.append(2))
    writer.wait()
    assert done == [2]


def test_what_a_job_held_is_let_go():
    class Large:
        pass

    writer, large = Writer(), Large()
    ref = weakref.ref(large)
    writer.start(lambda large=large: None)
    del large
    writer.wait()
    gc.collect()
    assert ref() is None
