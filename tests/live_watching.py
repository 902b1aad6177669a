"""Watching a live source in tests: what it gave and told, and waiting for what is to happen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass

from edgestream.runtime.live_rules import LiveRules
from edgestream.runtime.live_source import LiveSource
from edgestream.runtime.records import Record
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.values import Frame

WITHIN_S = 30.0
"""How long anything may take on a busy machine before a test gives up."""

QUICK = LiveRules(stall_s=1.0, backoff_s=0.1, backoff_most_s=0.4, open_timeout_s=5.0)


@dataclass(frozen=True)
class Given:
    """A frame as it was given, and when."""

    frame: Frame
    wall_s: float


class Watching:
    """A block that reads all of a live source in a thread.

    Args:
        source: the source, or its address.
        busy_s: how long the consumer works on each frame.
        fps, rules: of an address.
    """

    def __init__(
        self,
        source: LiveSource | str,
        *,
        busy_s: float = 0.0,
        fps: float = 20.0,
        rules: LiveRules = QUICK,
    ) -> None:
        if isinstance(source, str):
            opened = open_source(source, SourceSettings(fps=fps, live=rules))
            assert isinstance(opened, LiveSource)
            source = opened
        self.source = source
        self.given: list[Given] = []
        self.records: list[Record] = []
        self.error: BaseException | None = None
        self.longest_return_s = self.closed_in_s = 0.0
        self._busy_s = busy_s
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()
        times_s = [one.frame.time_s for one in self.given]
        assert times_s == sorted(times_s)
        assert [one.frame.index for one in self.given] == sorted(
            {one.frame.index for one in self.given}
        )

    def _read(self) -> None:
        frames = self.source.frames(self.records.append)
        assert isinstance(frames, Generator)
        try:
            before_s = time.monotonic()
            for frame in frames:
                self.longest_return_s = max(self.longest_return_s, time.monotonic() - before_s)
                if frame is not None:
                    self.given.append(Given(frame, time.time()))
                    time.sleep(self._busy_s)
                if self._left.is_set():
                    break
                before_s = time.monotonic()
        except BaseException as error:
            self.error = error
        begun_s = time.monotonic()
        frames.close()
        self.closed_in_s = time.monotonic() - begun_s

    def wait(self, until: Callable[[], object], what: str) -> None:
        """Wait until something is so; fails saying what was waited for, and what there is."""
        end_s = time.monotonic() + WITHIN_S
        while not until():
            if self.error is not None:
                raise self.error
            assert time.monotonic() < end_s, f"no {what}: {self.source.state()}, {self.states()}"
            time.sleep(0.01)

    def wait_frames(self, count: int = 3) -> None:
        """Wait for that many more frames."""
        wanted = len(self.given) + count
        self.wait(lambda: len(self.given) >= wanted, f"{count} more frames")

    def wait_state(self, state: str) -> str:
        """Wait until the source is in a state; its reason."""
        self.wait(lambda: self.source.state().state == state, state)
        return self.source.state().reason

    def told(self, kind: str) -> list[dict[str, object]]:
        """Bodies of the records of a type, in order."""
        return [dict(record.body) for record in list(self.records) if record.type == kind]

    def states(self) -> list[str]:
        """States that were told, in order; one after the other, each once."""
        states = [str(body["state"]) for body in self.told("camera")]
        return [one for one, before in zip(states, [None, *states], strict=False) if one != before]

    def text(self) -> str:
        """Everything that was told or can be asked, as one text."""
        return f"{self.records} {self.source.state()} {self.source.name} {self.error}"


def readers() -> list[str]:
    """Names of the threads of live sources that are alive."""
    return [one.name for one in threading.enumerate() if one.name.startswith("edgestream reads")]


def wait_no_readers() -> None:
    """Wait until every reader has ended."""
    end_s = time.monotonic() + WITHIN_S
    while readers():
        assert time.monotonic() < end_s, readers()
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process is there no more."""
    with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"
    return True
