"""A source that goes on: later times, the rest of it as it is, and closed with its wrapper."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edgestream.edge.progress import TellingSource
from edgestream.runtime.live_source import LiveSource
from edgestream.runtime.records import Record
from edgestream.runtime.source_continued import ContinuedSource
from edgestream.runtime.sources import Source, SourceSettings, open_source, tells_its_state
from edgestream.runtime.values import Frame

from ..fakes import ListSource, frame_at

WRAPPERS: list[Callable[[Source], Source]] = [
    lambda source: ContinuedSource(source, 40.0, "goes on"),
    lambda source: TellingSource(source, lambda time_s: None),
]


class KeptSource(ListSource):
    """A list source that keeps its generator, so that nobody closes it by forgetting it."""

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        self.kept = super().frames(tell)
        return self.kept


def test_frames_are_later_and_it_is_said_once():
    told: list[Record] = []
    source = ContinuedSource(ListSource([frame_at(0), None, frame_at(1)]), 40.0, "goes on")
    times_s = [frame and frame.time_s for frame in source.frames(told.append)]
    assert times_s == [40.0, None, 40.25] and source.now_s() == 40.25
    assert [dict(one.body) for one in told] == [{"state": "rebased", "reason": "goes on"}]


@pytest.mark.parametrize("wrapped", WRAPPERS)
def test_a_wrapped_camera_can_be_paused_and_says_how_it_is(wrapped):
    camera = open_source("rtsp://127.0.0.1:9/x", SourceSettings())
    assert isinstance(camera, LiveSource)
    source = wrapped(camera)
    assert tells_its_state(source)
    source.pause()  # type: ignore[attr-defined]
    assert camera.state().state == "paused" == source.state().state  # type: ignore[attr-defined]
    source.resume()  # type: ignore[attr-defined]
    assert camera.state().state == "connecting"
    assert not tells_its_state(wrapped(ListSource([])))


@pytest.mark.parametrize("wrapped", WRAPPERS)
def test_closing_it_closes_the_inner_source(wrapped):
    inner = KeptSource([frame_at(0), frame_at(1)])
    frames = wrapped(inner).frames(lambda record: None)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert inner.is_closed
