"""A live source: a camera, stream or screen that is watched for ever, and found again when lost.

One thread reads (live_reader.py); what it shares with the consumer is in live_link.py. Stream time
is the time at which pictures were taken, from the first one on; it runs on while the camera is
lost or paused, since the world does.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

from .backoff import Backoff
from .live_feed import OpenFeed
from .live_link import LinkState as LinkState
from .live_link import LiveLink
from .live_reader import Clocks, LiveReader
from .records import Record
from .sources import RETURN_WITHIN_S, SourceSettings
from .values import Frame

# Half the bound: a wait may take longer than asked.
WAIT_S = RETURN_WITHIN_S / 2

JOIN_WITHIN_S = 1.0
"""How long the reader is waited for at the end. One that blocks in a driver or in the opening of a
connection cannot be woken: it ends by its own time limit, and nothing that it gives is read."""


class LiveSource:
    """A live source. See `Source` for the protocol.

    Nothing is opened before `frames` is read. A camera that cannot be reached, falls silent or
    goes away is tried again for ever, which `camera` records tell. Only the newest frame waits.

    Args:
        name: of the camera in records; holds no secret.
        open_feed: opens a connection.
        settings: sampling, largest side, and `live`.
        clocks: handed in so that a test can step them.
        uniform: a random number in [0, 1), for the waits between two tries.
    """

    is_live = True
    duration_s: float | None = None

    def __init__(
        self,
        name: str,
        open_feed: OpenFeed,
        settings: SourceSettings,
        clocks: Clocks | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._open_feed = open_feed
        self._settings = settings
        self._clocks = clocks or Clocks()
        self._uniform = uniform
        self._ended_s: float | None = None
        self._begin()

    def _begin(self) -> None:
        rules = self._settings.live
        self._link = LiveLink(self._clocks.monotonic)
        backoff = Backoff(rules.backoff_s, rules.backoff_most_s, self._uniform)
        self._reader = LiveReader(
            self.name, self._open_feed, self._settings, self._link, backoff, self._clocks
        )

    def state(self) -> LinkState:
        """How the connection is, for any thread."""
        return self._link.state()

    def pause(self) -> None:
        """Close the connection and give no frames, until `resume`; from any thread."""
        self._link.pause()

    def resume(self) -> None:
        """Connect again after `pause`; from any thread."""
        self._link.resume()

    def now_s(self) -> float:
        """Stream time, seconds: runs with the clock from the first picture to the end."""
        if self._ended_s is not None:
            return self._ended_s
        began_s = self._reader.began_s
        return 0.0 if began_s is None else self._clocks.monotonic() - began_s

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """The newest sampled frame, as often as there is a newer one, with `captured_s`; else None.

        It never ends by itself. Closing it closes the connection; see JOIN_WITHIN_S.

        Args:
            tell: takes `camera` records as states change, `drop` records (frames that a newer one
                displaced, late frames that were not decoded) and `warning` records
                (`source-damaged`, `source-late`, at most one a minute).
        """
        if self._ended_s is not None:
            self._ended_s = None
            self._begin()
        link = self._link
        link.move("connecting", f"connecting to {self.name}")
        thread = threading.Thread(
            target=self._reader.run, name=f"edgestream reads {self.name}", daemon=True
        )
        thread.start()
        try:
            while True:
                frame = link.take(WAIT_S)
                if link.is_overdue():
                    link.move("lost", f"{self.name} does not answer; still waiting for it")
                for record in link.records(self.now_s()):
                    tell(record)
                yield frame
        finally:
            link.stop()
            thread.join(JOIN_WITHIN_S)
            link.move("ended", f"{self.name} is no longer watched")
            self._ended_s = self.now_s()
            for record in link.records(self._ended_s, is_last=True):
                if record.type != "camera":  # the pipeline says how the run ended
                    tell(record)
