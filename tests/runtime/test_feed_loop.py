"""A file in a loop: at its own speed, stream time goes on from round to round, nothing is lost."""

from __future__ import annotations

import pytest

from edgestream.runtime.errors import SourceHasNoVideo, SourceLost, SourceMissing
from edgestream.runtime.feed_loop import LoopFeed
from edgestream.runtime.sources import SourceSettings, open_source

from ..live_watching import Watching, wait_no_readers
from ..video_files import number_of, numbered, write_sound, write_video

COUNT, FPS = 12, 24.0


class SleptClock:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.now_s = 500.0

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 0.05
        self.now_s += seconds

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts", "b-frames"])
def clip(request, tmp_path_factory):
    suffix = "mp4" if request.param == "b-frames" else request.param
    options = {"bf": "3", "g": "6"} if request.param == "b-frames" else {"g": "6", "bf": "0"}
    path = tmp_path_factory.mktemp("clip") / f"clip.{suffix}"
    return write_video(path, numbered(COUNT), fps=FPS, options=options)


@pytest.mark.medium
def test_rounds_follow_each_other_at_the_speed_of_the_file(clip):
    clock = SleptClock()
    feed = LoopFeed(str(clip), lambda: False, clock.sleep, clock)
    shown = []
    for packet in feed.packets():
        if packet is None:
            continue
        for picture in feed.decode(packet, is_joining=False):
            time_s = float(picture.pts * picture.time_base)
            number = number_of(picture.to_ndarray(format="rgb24"))
            shown.append((time_s, clock.now_s - 500, number))
        if len(shown) >= 3 * COUNT:
            break
    assert [number for _, _, number in shown[: 3 * COUNT]] == [*range(COUNT)] * 3
    for index, (time_s, at_s, _) in enumerate(shown):
        assert abs(time_s - index / FPS) < 0.01 + 0.002 * (index // COUNT)
        assert -0.2 < at_s - index / FPS < 0.3  # a decoder may hold some pictures back


@pytest.mark.medium
def test_it_is_live_and_goes_on(clip):
    with Watching(f"loop:{clip}", fps=FPS) as watching:
        watching.wait_frames(COUNT + 6)
        assert watching.source.name == "clip" and watching.source.duration_s is None
    assert watching.given[-1].frame.time_s > COUNT / FPS
    assert watching.states() == ["connecting", "open"]
    wait_no_readers()


@pytest.mark.medium
def test_a_file_that_goes_away_and_comes_back(tmp_path):
    path = write_video(tmp_path / "clip.mp4", numbered(COUNT), fps=FPS)
    away = tmp_path / "away.mp4"
    with Watching(f"loop:{path}", fps=FPS) as watching:
        watching.wait_frames()
        path.rename(away)
        assert "there is no such file" in watching.wait_state("lost")
        away.rename(path)
        watching.wait_frames()
    assert watching.states() == ["connecting", "open", "lost", "open"]


def test_what_is_no_video_is_refused_at_once(tmp_path):
    with pytest.raises(SourceMissing):
        open_source(f"loop:{tmp_path}/none.mp4", SourceSettings())
    with pytest.raises(SourceHasNoVideo):
        open_source(f"loop:{write_sound(tmp_path / 'tone.mp4')}", SourceSettings())


def test_a_round_without_a_packet_is_the_end(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, numbered(2), fps=FPS, muxing={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(SourceLost, match="no packet"):
        list(LoopFeed(str(path), lambda: False).packets())
