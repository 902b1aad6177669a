"""How long to wait before the next try: twice as long each time, up to a limit, with jitter."""

from __future__ import annotations

import random
from collections.abc import Callable

DOUBLINGS = 32
"""Of a first wait of 1 ms this is 50 days: more than any limit, and no overflow."""


def wait_s(tries: int, first_s: float, most_s: float, share: float) -> float:
    """Seconds to wait after that many failed tries in a row.

    The upper half is jitter: cameras that a power cut took away together do not come back to one
    network in the same moment.

    Args:
        tries: from 0.
        first_s: the wait after the first, at most; more than 0.
        most_s: the longest wait.
        share: of the jitter, in [0, 1].
    """
    full_s = min(most_s, first_s * 2.0 ** min(tries, DOUBLINGS))
    return full_s * (0.5 + 0.5 * share)


class Backoff:
    """The waits of one connection that is tried again and again.

    State: failed tries in a row, the last wait.

    Args:
        first_s: the wait after the first failure, at most, seconds.
        most_s: the longest wait, seconds.
        uniform: a random number in [0, 1); handed in so that a test can say it.
    """

    def __init__(
        self, first_s: float, most_s: float, uniform: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._uniform = uniform
        self.reset()

    def reset(self) -> None:
        """The next wait is the first again."""
        self._tries = 0
        self._waited_s = 0.0

    def after(self, held_s: float) -> float:
        """Seconds to wait now.

        Args:
            held_s: how long the connection that has just failed had given pictures; 0 for one that
                never did. One that held longer than the wait before it counts as a good one, so
                that a camera which opens and falls at once is not asked ever faster.
        """
        if held_s > self._waited_s:
            self._tries = 0
        self._waited_s = wait_s(self._tries, self._first_s, self._most_s, self._uniform())
        self._tries += 1
        return self._waited_s
