"""The one owner of threads: hand-overs, the stop flag, and the first error of any thread.

Live, each hand-over is a thread and a mailbox with a drop rule. A file needs neither: there a
hand-over is the iterator itself and everything runs in the caller's thread, dropping nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from .mailbox import DropRule, Mailbox, block_at

Item = TypeVar("Item")

# How many items wait at a hand-over of a file that is run in threads: enough to even out stages.
FILE_WAITING = 4

# How long records may take to go out once the user leaves. A service manager waits 10 s or more
# before it kills, and a person at Ctrl-C does not wait longer. More than a LineFile takes to give
# up, so that its sentence is the one that is read.
LEAVE_WITHIN_S = 2.0
LOOK_EVERY_S = 0.1

log = logging.getLogger(__name__)


class _Worker:
    """A thread that says when it has ended.

    `Thread.join` that Ctrl-C interrupts takes a living thread for a dead one (seen in Python 3.11).
    """

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        self._target = target
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"edgestream {name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._ended.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it has ended, waiting for that."""
        if not self._ended.wait(timeout_s):
            return False
        self._thread.join()
        return True


class Running:
    """A block that starts threads and leaves none behind.

    Leaving the block stops and joins all, closes every generator that was handed over, and raises
    the first error of any thread. Use it once. One exception: when the user leaves (`left`, Ctrl-C)
    and a sink is stuck, its drain is given LEAVE_WITHIN_S; then its records are lost, which is
    logged, and its daemon thread stays until the process ends.

    Args:
        is_live: drop rules apply; otherwise every hand-over blocks.
        in_threads: None means: as `is_live` says.
        left: set by the caller to leave early; seen within one step of the source. Ctrl-C in the
            block sets it too.
        on_drop: called with the name of every item that a rule lets go.
    """

    def __init__(
        self,
        *,
        is_live: bool,
        in_threads: bool | None = None,
        left: threading.Event | None = None,
        on_drop: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.in_threads = is_live if in_threads is None else in_threads
        self._is_live = is_live
        self._left = left or threading.Event()
        self._on_drop = on_drop
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._first_error: BaseException | None = None
        self._mailboxes: list[Mailbox[Any]] = []
        self._producers: list[_Worker] = []
        self._drains: list[tuple[Mailbox[Any], _Worker]] = []
        self._iterators: list[Iterator[Any]] = []
        self._last_words: list[Callable[[], None]] = []

    def __enter__(self) -> Running:
        return self

    def cancelled(self) -> bool:
        """Whether the run is being left: polled between steps of long work."""
        return self._stopped.is_set() or self._left.is_set()

    def hand_over(self, items: Iterable[Item], rule: DropRule[Item]) -> Iterator[Item]:
        """Items as the next stage may take them; in threads, `rule` says what waits."""
        source = iter(items)
        if not self.in_threads:
            self._iterators.append(source)
            return source
        mailbox: Mailbox[Item] = Mailbox(
            rule if self._is_live else block_at(FILE_WAITING), self._on_drop
        )
        self._mailboxes.append(mailbox)
        self._producers.append(_Worker(rule.name, lambda: self._carry(source, mailbox)))
        return iter(mailbox)

    def drain(self, mailbox: Mailbox[Item], send: Callable[[Item], None]) -> None:
        """Send all that comes into `mailbox`, in its own thread, until the block is left.

        Unlike a hand-over it ends last: what the stages put in while they stop is still sent.
        """
        self._drains.append((mailbox, _Worker("records", lambda: self._send(mailbox, send))))

    def say_last(self, call: Callable[[], None]) -> None:
        """Call this when every stage has stopped and records can still be sent."""
        self._last_words.append(call)

    def _carry(self, source: Iterator[Item], mailbox: Mailbox[Item]) -> None:
        try:
            for item in source:
                if self._stopped.is_set() or not mailbox.put(item):
                    break
        except BaseException as error:  # whatever ends a thread must reach the caller
            self._fail(error)
        finally:
            self._close(source)
            mailbox.close()

    def _send(self, mailbox: Mailbox[Item], send: Callable[[Item], None]) -> None:
        for item in mailbox:
            try:
                send(item)
            except BaseException as error:  # it must reach the caller; who else is sent to goes on
                self._fail(error)

    def _close(self, iterator: Iterator[Any]) -> None:
        """End a generator where it stands, so that its `finally` runs now and in this thread."""
        close = getattr(iterator, "close", None)
        if close is not None:
            self._try(close)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # the first of all is raised at the end
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._first_error is None:
                self._first_error = error
            elif error is not self._first_error:
                log.error("a second stage failed while stopping: %r", error)
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        for mailbox in self._mailboxes:
            mailbox.abandon()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._fail(error)
        try:
            self._end(is_leaving=isinstance(error, KeyboardInterrupt))
        except KeyboardInterrupt:  # the user will not wait for the end: the rest of it, bounded
            self._end(is_leaving=True)
            raise
        first = self._first_error
        if first is None or first is error or isinstance(error, KeyboardInterrupt):
            return  # what the caller's own thread raised goes on by itself
        raise first

    def _end(self, is_leaving: bool) -> None:
        """Stop, close and join everything; a second call goes on where the first broke off."""
        if is_leaving:
            self._left.set()
        self._stop()
        for iterator in reversed(self._iterators):
            self._close(iterator)
        for producer in self._producers:
            producer.wait()
        while self._last_words:
            self._try(self._last_words.pop(0))
        for mailbox, drain in self._drains:
            mailbox.close()
            self._wait_drain(mailbox, drain)

    def _wait_drain(self, mailbox: Mailbox[Any], drain: _Worker) -> None:
        while not drain.wait(LOOK_EVERY_S):
            if self._left.is_set():
                break
        if not drain.wait(LEAVE_WITHIN_S):
            mailbox.abandon()
            log.error("records were lost: a sink took none for %g s after the end", LEAVE_WITHIN_S)
