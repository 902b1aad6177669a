"""The owner of threads: all are joined, every generator is closed, the first error is raised."""

from __future__ import annotations

import _thread
import contextlib
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


def wait_until(claim):
    for _ in range(500):
        if claim():
            return
        time.sleep(0.01)
    raise AssertionError("not within 5 s")


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


@pytest.mark.parametrize("how", ["left", "ctrl-c", "ctrl-c at the end"])
def test_a_stuck_sink_holds_nobody_who_leaves(how, monkeypatch, caplog):
    """Its records are lost, which is said; otherwise the end waits for it."""
    monkeypatch.setattr("edgestream.runtime.running.LEAVE_WITHIN_S", 0.05)
    is_stuck, may_go_on, left = threading.Event(), threading.Event(), threading.Event()
    mailbox: Mailbox[str] = Mailbox(keep_all())

    def send(item):
        is_stuck.set()
        may_go_on.wait(10)

    def leave():
        assert is_stuck.wait(5)
        time.sleep(0.05)
        left.set() if how == "left" else _thread.interrupt_main()

    leaver = threading.Thread(target=leave)
    words: list[str] = []
    try:
        ends = contextlib.nullcontext() if how == "left" else pytest.raises(KeyboardInterrupt)
        with ends, Running(is_live=True, left=left) as running:
            running.drain(mailbox, send)
            running.say_last(lambda: words.append("last"))
            mailbox.put("one")
            leaver.start()
            if how == "ctrl-c":
                wait_until(lambda: False)
        assert "records were lost" in caplog.text and words == ["last"]
        assert left.is_set() and not mailbox.put("two")
    finally:
        may_go_on.set()
        leaver.join()
    wait_until(no_threads)


def test_a_drain_goes_on_after_a_fault_and_the_fault_is_raised():
    sent: list[int] = []
    mailbox: Mailbox[int] = Mailbox(keep_all())

    def send(item):
        if item == 1:
            raise RuntimeError("one sink of several")
        sent.append(item)

    with pytest.raises(RuntimeError, match="one sink"), Running(is_live=True) as running:
        running.drain(mailbox, send)
        running.say_last(lambda: mailbox.put(3))
        mailbox.put(1)
        mailbox.put(2)
    assert sent == [2, 3] and no_threads()


def test_a_fault_in_last_words_surfaces_too():
    def fail():
        raise RuntimeError("last words")

    with pytest.raises(RuntimeError, match="last words"), Running(is_live=False) as running:
        running.say_last(fail)
