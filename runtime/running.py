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

log = logging.getLogger(__name__)


class Running:
    """A block that starts threads and leaves none behind.

    Leaving the block stops and joins all, closes every generator that was handed over, and raises
    the first error of any thread. Use it once.

    Args:
        is_live: drop rules apply; otherwise every hand-over blocks.
        in_threads: None means: as `is_live` says.
        left: set by the caller to leave early; seen within one step of the source.
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
        self._producers: list[threading.Thread] = []
        self._drains: list[tuple[Mailbox[Any], threading.Thread]] = []
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
        thread = threading.Thread(
            target=self._carry, args=(source, mailbox), name=f"edgestream {rule.name}", daemon=True
        )
        self._producers.append(thread)
        thread.start()
        return iter(mailbox)

    def drain(self, mailbox: Mailbox[Item], send: Callable[[Item], None]) -> None:
        """Send all that comes into `mailbox`, in its own thread, until the block is left.

        Unlike a hand-over it ends last: what the stages put in while they stop is still sent.
        """
        thread = threading.Thread(
            target=self._send, args=(mailbox, send), name="edgestream records", daemon=True
        )
        self._drains.append((mailbox, thread))
        thread.start()

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
        try:
            for item in mailbox:
                send(item)
        except BaseException as error:  # whatever ends a thread must reach the caller
            mailbox.abandon()
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
        self._stop()
        for iterator in reversed(self._iterators):
            self._close(iterator)
        for thread in self._producers:
            thread.join()
        for call in self._last_words:
            self._try(call)
        for mailbox, thread in self._drains:
            mailbox.close()
            thread.join()
        first = self._first_error
        if first is None or first is error or isinstance(error, KeyboardInterrupt):
            return  # what the caller's own thread raised goes on by itself
        raise first
