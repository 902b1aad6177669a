"""The owner of threads: all are joined, every generator is closed, the first error is raised."""

from __future__ import annotations

import threading
import time

import pytest

from edgestream.runtime.mailbox import Mailbox, block_at, keep_all
from edgestream.runtime.running import Running


def numbers(closed, count=10**9):
    try:
        yield from range(count)
    finally:
        closed.append(threading.current_thread())


def no_threads():
    return not any(one.name.startswith("edgestream") for one in threading.enumerate())


@pytest.mark.parametrize("in_threads", [False, True])
def test_leaving_in_the_middle_closes_generators_where_they_run(in_threads):
    closed: list[threading.Thread] = []
    with Running(is_live=False, in_threads=in_threads) as running:
        items = running.hand_over(numbers(closed), block_at(1))
        assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert no_threads()
    assert len(closed) == 1 and (closed[0] is threading.main_thread()) is not in_threads
    assert running.cancelled()


def test_the_first_error_is_raised_and_a_later_one_only_logged(caplog):
    other_is_in = threading.Event()

    def failing():
        yield 1
        other_is_in.wait(5)
        raise RuntimeError("first")

    def failing_later():
        yield 1
        other_is_in.set()
        while not running.cancelled():
            time.sleep(0.001)
        raise RuntimeError("later")

    with (
        pytest.raises(RuntimeError, match="first"),
        Running(is_live=False, in_threads=True) as running,
    ):
        items = running.hand_over(failing(), block_at(1))
        others = running.hand_over(failing_later(), keep_all())
        list(items)
        list(others)
    assert no_threads()
    assert "later" in caplog.text


def test_an_error_of_the_caller_is_the_callers_own():
    with pytest.raises(KeyError), Running(is_live=True) as running:
        running.hand_over(numbers([]), keep_all())
        raise KeyError("mine")
    assert no_threads()


def test_last_words_come_after_the_stages_and_before_the_records_end():
    sent: list[str] = []
    mailbox: Mailbox[str] = Mailbox(keep_all())
    with Running(is_live=True) as running:
        running.drain(mailbox, sent.append)
        running.say_last(lambda: sent.append("not through") if not mailbox.put("last") else None)
        items = running.hand_over(iter(["one", "two"]), block_at(9))
        for item in items:
            mailbox.put(item)
    assert sent == ["one", "two", "last"] and no_threads()


def test_a_fault_in_last_words_surfaces_too():
    def fail():
        raise RuntimeError("last words")

    with pytest.raises(RuntimeError, match="last words"), Running(is_live=False) as running:
        running.say_last(fail)
