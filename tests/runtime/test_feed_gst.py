"""Pipelines of GStreamer: real ones, in a child that ends with the source and is started again."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgestream.runtime.errors import SettingsInvalid, SourceUnreadable
from edgestream.runtime.feed_gst import PROGRAM, gst_words
from edgestream.runtime.live_kinds import gst_of_device
from edgestream.runtime.sources import SourceSettings, open_source

from ..live_watching import QUICK, Watching, is_gone, wait_no_readers

needs_gst = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason=f"{PROGRAM} of GStreamer is not installed"
)
LIVE = "gst:videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=180,framerate=20/1"


def children() -> set[int]:
    """Pipelines that this process has started and that are alive."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if parent == os.getpid() and words[0].endswith(PROGRAM.encode()):
            found.add(int(folder.name))
    return found


@pytest.mark.medium
@needs_gst
def test_a_pipeline_gives_pictures_and_ends_with_the_source():
    with Watching(LIVE) as watching:
        watching.wait_frames()
        (child,) = children()
        assert os.getpgid(child) == child != os.getpgid(0)  # Ctrl-C does not reach it first
    assert is_gone(child) and not children()
    pixels = watching.given[-1].frame.pixels
    assert pixels.shape == (180, 320, 3)
    assert [round(float(level)) for level in pixels.mean((0, 1)) / 25] == [10, 0, 0]
    assert watching.states() == ["connecting", "open"]
    wait_no_readers()


@pytest.mark.medium
@needs_gst
def test_a_child_that_is_killed_is_started_again():
    with Watching(LIVE) as watching:
        watching.wait_frames()
        (child,) = children()
        os.kill(child, signal.SIGKILL)
        assert watching.wait_state("lost") == "gst is lost: the pipeline was ended by signal 9"
        watching.wait_frames()
        (second,) = children()
        assert second != child
    assert watching.states() == ["connecting", "open", "lost", "open"]
    assert not children()


@pytest.mark.medium
@needs_gst
def test_a_child_that_stands_still_is_ended_and_started_again():
    with Watching(LIVE) as watching:
        watching.wait_frames()
        (child,) = children()
        os.kill(child, signal.SIGSTOP)
        assert watching.wait_state("lost") == "gst is lost: the pipeline gave nothing for 1 s"
        watching.wait_frames()
    assert is_gone(child)
    assert not children()


@pytest.mark.medium
@needs_gst
def test_a_child_that_stands_still_holds_nobody_who_leaves():
    with Watching(LIVE, rules=replace(QUICK, stall_s=60)) as watching:
        watching.wait_frames()
        (child,) = children()
        os.kill(child, signal.SIGSTOP)
        watching.wait(lambda: time.time() - watching.given[-1].wall_s > 0.3, "silence")
    wait_no_readers()
    assert is_gone(child) and not children()


@pytest.mark.medium
@needs_gst
def test_times_are_those_of_arrival():
    """What a pipeline declares (20 a second) is not always what it gives (10)."""
    with Watching(f"{LIVE} ! identity sleep-time=100000") as watching:
        watching.wait_frames(12)
    times_s = [one.frame.time_s for one in watching.given]
    assert (times_s[-1] - times_s[2]) / (len(times_s) - 3) > 0.08


@needs_gst
@pytest.mark.slow
def test_pause_ends_the_child():
    with Watching(LIVE) as watching:
        watching.wait_frames()
        watching.source.pause()
        watching.wait(lambda: not children(), "end of the child")
        watching.source.resume()
        watching.wait_frames()
    assert not children()


@needs_gst
@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        ("nosuchelement", 'no element "nosuchelement"'),
        ("videotestsrc foo=3", 'no property "foo"'),
        ("filesrc location=/nowhere/at/all ! decodebin", "Resource not found"),
        ("v4l2src device=/dev/video99", "Cannot identify device"),
        ("videotestsrc num-buffers=0", "has ended"),
    ],
)
def test_what_is_wrong_with_a_pipeline_is_said(pipeline, says):
    with Watching(f"gst:{pipeline}") as watching:
        reason = watching.wait_state("lost")
    assert reason.startswith("gst is lost: the pipeline ") and len(reason) < 300
    assert says in reason
    assert not children()


@needs_gst
def test_a_password_in_a_pipeline_is_not_shown():
    address = (
        "gst:souphttpsrc location=http://me:s3cretword@127.0.0.1:9/x user-pw=s3cretword ! nosuch"
    )
    with Watching(address) as watching:
        watching.wait_state("lost")
    assert "s3cretword" not in watching.text()


def test_no_shell_ever_sees_a_pipeline(tmp_path):
    words = gst_words(f"videotestsrc ! 'video/x-raw, width=32' ! $(touch {tmp_path}/x); `id` | sh")
    assert words[2] == "video/x-raw, width=32"
    assert "$(touch" in words and "|" in words
    if shutil.which(PROGRAM) is not None:
        with Watching(f"gst:videotestsrc ! $(touch {tmp_path}/x) ; touch {tmp_path}/y") as watching:
            watching.wait_state("lost")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["gst:", "gst: ", "gst:--version", "gst:a ! b --gst-debug=9", "gst:a 'b"]
)
def test_what_is_no_pipeline_is_refused_at_once(address):
    with pytest.raises(SettingsInvalid, match="pipeline"):
        open_source(address, SourceSettings())


def test_without_the_program_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceUnreadable, match="which is not installed") as caught:
        open_source("gst:videotestsrc", SourceSettings())
    assert "gstreamer1.0-tools" in str(caught.value.hint)


def test_a_camera_can_be_read_with_gstreamer_too():
    options = {"size": "1280x720", "fps": "30", "format": "mjpeg"}
    assert " ".join(gst_of_device("/dev/video2", options)) == (
        "v4l2src device=/dev/video2 ! image/jpeg,width=1280,height=720,framerate=30/1 ! jpegdec"
    )
    assert " ".join(gst_of_device("/dev/video0", {})) == "v4l2src device=/dev/video0 ! video/x-raw"
