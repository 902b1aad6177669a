"""Forgetting: what a session is told to let go of, and the order to wipe everything."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from .errors import OutputError, StreamBusy

WIPE_WITHIN_S = 10.0
"""How long a wipe may wait for a frame boundary: a slow encoder takes a second for a frame."""


@dataclass(frozen=True, slots=True)
class Forget:
    """What a session is told: let go of everything about the time before.

    Attributes:
        before_s: stream time, seconds; infinite for everything.
    """

    before_s: float


@dataclass(slots=True, eq=False)
class Wipe:
    """The order to forget everything that is kept of the stream, here and on the disk.

    State: whether it was carried out, and what was at fault.
    """

    _done: threading.Event = field(default_factory=threading.Event)
    _fault: OutputError | None = None

    def carried_out(self, fault: OutputError | None = None) -> None:
        """It was, or it could not be."""
        self._fault = fault
        self._done.set()

    def wait(self, timeout_s: float = WIPE_WITHIN_S) -> None:
        """Wait until it was carried out.

        Raises:
            StreamBusy: it was not within that time; it will be at the next frame boundary.
            OutputError: something saved could not be removed.
        """
        if not self._done.wait(timeout_s):
            raise StreamBusy(
                f"the stream came to no frame boundary within {timeout_s:g} s, at which it is to "
                "forget everything; it will when it comes to one",
                hint="look again in a moment, or end the run and remove its state folder",
            )
        if self._fault is not None:
            raise self._fault
