"""Warnings of an outward connection: told at once, then once in a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ....runtime.records import Record, warning

log = logging.getLogger(__name__)
AGAIN_AFTER_S = 600.0
"""A peer that is down for a day is told of 144 times, which a person still reads."""

Tell = Callable[[Record], None]


def tell_log(record: Record) -> None:
    """Write a warning to the log, where nobody else takes it."""
    log.warning("%s", record.body["message"])


class Notices:
    """Passes warnings on, each code at most once in so many seconds.

    State: when each code was told last.

    Args:
        tell: takes a `warning` record; called from the thread of the connection, with no lock held.
        monotonic: a clock, seconds.
    """

    def __init__(
        self, tell: Tell = tell_log, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._told_s: dict[str, float] = {}

    def say(self, code: str, message: str) -> None:
        """Tell of something, unless it was told of a short while ago.

        Args:
            code: stable, kebab case; one of the few that a connection has.
            message: one sentence, with no secret in it.
        """
        now_s = self._monotonic()
        if now_s - self._told_s.get(code, -AGAIN_AFTER_S) >= AGAIN_AFTER_S:
            self._told_s[code] = now_s
            self._tell(warning(code, message))
