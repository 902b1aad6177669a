"""Pushed pictures: what is no picture is refused, silence and goodbye are states, newest wins."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edgestream.runtime.errors import CameraTaken, SettingsInvalid, SourceUnreadable
from edgestream.runtime.live_rules import LiveRules
from edgestream.runtime.source_pushed import (
    GIVES_WAY_AFTER_S,
    LARGEST_JPEG_BYTES,
    Pushed,
    PushedSource,
)
from edgestream.runtime.sources import SourceSettings, open_source

from ..live_watching import Watching, wait_no_readers
from ..video_files import number_of, numbered, write_image

RULES = LiveRules(stall_s=1.0, backoff_s=0.1)


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory) -> list[bytes]:
    """Numbered pictures of 64 x 48."""
    path = tmp_path_factory.mktemp("jpegs") / "1.jpg"
    return [
        write_image(path, picture, codec="mjpeg", pix_fmt="yuvj420p").read_bytes()
        for picture in numbered(20)
    ]


@pytest.fixture
def source() -> Iterator[PushedSource]:
    yield PushedSource("page", SourceSettings(fps=50, live=RULES))
    wait_no_readers()


@contextmanager
def pushing(source: PushedSource, jpegs: list[bytes], every_s: float = 0.03) -> Iterator[None]:
    """A page that pushes while the block lasts."""
    left = threading.Event()

    def page() -> None:
        with source.connected():
            index = 0
            while not left.wait(every_s):
                source.push(jpegs[index % len(jpegs)])
                index += 1

    thread = threading.Thread(target=page)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


@pytest.mark.medium
def test_pictures_come_as_they_are_pushed(source, jpegs):
    with Watching(source) as watching, pushing(source, jpegs):
        watching.wait_frames(8)
        assert source.state().state == "open"
    for one in watching.given:
        assert one.frame.pixels.shape == (48, 64, 3)
        assert one.frame.captured_s is not None and abs(one.wall_s - one.frame.captured_s) < 5
    numbers = [number_of(one.frame.pixels) for one in watching.given]
    assert len(set(numbers)) > 4
    assert watching.states()[:2] == ["connecting", "open"]


@pytest.mark.medium
def test_a_page_that_goes_and_comes(source, jpegs):
    with Watching(source) as watching:
        for _ in range(2):
            with pushing(source, jpegs):
                watching.wait_frames(2)
            assert watching.wait_state("lost") == "page is lost: the page has gone"
        with pushing(source, jpegs):
            watching.wait_frames(2)
            assert watching.states() == ["connecting", *["open", "lost"] * 2, "open"]


@pytest.mark.medium
def test_a_page_that_falls_silent(source, jpegs):
    with Watching(source) as watching, source.connected():
        source.push(jpegs[0])
        watching.wait_frames(1)
        assert watching.wait_state("lost") == "page is lost: the page sent nothing for 1 s"
        source.push(jpegs[1])
        watching.wait_frames(1)
        assert watching.states() == ["connecting", "open", "lost", "open"]


def test_decoded_pictures_come_as_they_are_and_between_jpegs(source, jpegs):
    with Watching(source) as watching, source.connected():
        for number in (5, 6):
            source.push_decoded(numbered_picture(number))
            watching.wait_frames(1)
            assert number_of(watching.given[-1].frame.pixels) == number
            time.sleep(0.1)  # two within one interval of sampling are one
        source.push(jpegs[7])
        watching.wait_frames(1)
        assert number_of(watching.given[-1].frame.pixels) == 7
    assert not watching.told("warning")


@pytest.mark.medium
def test_a_decoded_picture_is_scaled_and_sampled_like_others():
    settings = SourceSettings(fps=5, max_side_px=32, live=RULES)
    source = PushedSource("page", settings)
    with Watching(source) as watching, source.connected():
        end_s = time.monotonic() + 2.0
        while time.monotonic() < end_s:
            source.push_decoded(numbered_picture(3))
            time.sleep(0.01)
    assert 2 <= len(watching.given) <= 14
    assert {one.frame.pixels.shape for one in watching.given} == {(24, 32, 3)}
    wait_no_readers()


def test_a_decoded_picture_that_is_too_large_is_refused(source):
    import av

    with (
        source.connected(),
        pytest.raises(SourceUnreadable, match="8192 x 4096 px, expected at most 4096"),
    ):
        source.push_decoded(av.VideoFrame(8192, 4096, "gray"))


def test_one_at_a_time_sends_pictures(source, jpegs):
    with source.connected() as has_place:
        with pytest.raises(CameraTaken, match="somebody else sends"), source.connected():
            pass
        assert has_place()
    with source.connected() as has_place:
        assert has_place()


def test_one_that_fell_silent_gives_way_and_takes_nothing_back():
    now_s = [100.0]
    pushed = Pushed(lambda: now_s[0])
    first, second = object(), object()
    assert pushed.join(first)
    now_s[0] += GIVES_WAY_AFTER_S - 0.1
    assert not pushed.join(second)
    pushed.put(b"picture")
    now_s[0] += GIVES_WAY_AFTER_S - 0.1
    assert not pushed.join(second)
    now_s[0] += 0.2
    assert pushed.join(second)
    assert pushed.is_held(second) and not pushed.is_held(first)
    pushed.leave(first)
    assert pushed.is_joined()
    pushed.leave(second)
    assert not pushed.is_joined()


def numbered_picture(number):
    """A decoded picture that has its number in it."""
    import av

    return av.VideoFrame.from_ndarray(list(numbered(number + 1))[number], format="rgb24")


@pytest.mark.medium
def test_nobody_there_is_no_fault(source):
    with Watching(source) as watching:
        time.sleep(0.5)
        assert source.state().state == "connecting"
    assert watching.states() == ["connecting"]


@pytest.mark.medium
def test_pause_leaves_the_page_connected(source, jpegs):
    with Watching(source) as watching, pushing(source, jpegs):
        watching.wait_frames(1)
        source.pause()
        time.sleep(0.2)
        count = len(watching.given)
        time.sleep(0.2)
        assert len(watching.given) == count
        source.resume()
        watching.wait_frames(1)


def test_what_is_no_picture_or_too_large_is_refused(source, jpegs):
    huge = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 8192, 8192, 1) + bytes(3)
    with source.connected():
        with pytest.raises(SourceUnreadable, match="expected a JPEG"):
            source.push(b"GIF89a" + bytes(100))
        with pytest.raises(SourceUnreadable, match="8192 x 8192 px, expected at most 4096"):
            source.push(huge)
        with pytest.raises(SourceUnreadable, match="expected at most 4000000"):
            source.push(jpegs[0] + bytes(LARGEST_JPEG_BYTES))
        assert source.state().state == "connecting"


def test_a_picture_with_a_broken_body_is_counted(source, jpegs):
    broken = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 48, 64, 1) + bytes(50)
    with Watching(source) as watching, source.connected():
        source.push(broken)
        watching.wait(lambda: watching.told("warning"), "warning")
        source.push(jpegs[3])
        watching.wait(
            lambda: watching.given and number_of(watching.given[-1].frame.pixels) == 3, "picture 3"
        )
    assert watching.told("warning")[0]["code"] == "source-damaged"


def test_the_address():
    source = open_source("browser:", SourceSettings())
    assert isinstance(source, PushedSource) and source.name == "browser"
    assert open_source("browser:kitchen", SourceSettings()).name == "kitchen"
    with pytest.raises(SettingsInvalid, match="expected browser:"):
        open_source("browser:../etc", SourceSettings())
