"""Zones, retention and wiping as a whole: what leaves the service, and what lies on its disk."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from ...video_files import moving_texture, write_video
from .serving import CLIP, serving, until

MAGENTA = np.array([255, 0, 255], np.uint8)


def clip_with_a_pattern(path):
    """Three seconds that move, with a magenta square in the upper left."""

    def pictures():
        for picture in moving_texture(30, (320, 240)):
            marked = (
                np.array(picture).mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
            )
            marked[10:70, 10:70] = MAGENTA
            yield marked

    return write_video(path, pictures(), fps=10)


def magenta_share(jpeg):
    """Share of the pixels that are clearly magenta."""
    with av.open(io.BytesIO(jpeg)) as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return float(np.mean((red > 120) & (blue > 120) & (green < 100)))


def pictures_of(service):
    """Every picture that the service gives away: newest, thumbnails, a part of the live stream."""
    status, _, newest = service.ask("GET", "/v1/cameras/door/picture.jpg?width=320")
    assert status == 200
    memory = until(lambda: service.get("/v1/cameras/door/memory")["key_frames"])
    kept = [frame["id"] for frame in memory if frame["has_picture"]]
    thumbnails = [service.ask("GET", f"/v1/cameras/door/memory/{one}.jpg") for one in kept]
    # One may have been merged meanwhile.
    return [newest, *(body for status, _, body in thumbnails if status == 200)]


@pytest.mark.medium
@pytest.mark.parametrize("has_zone", [False, True])
def test_a_pattern_in_a_zone_is_in_no_picture_that_leaves(tmp_path, has_zone):
    clip = clip_with_a_pattern(tmp_path / "clip.mp4")
    zones = ["--set", "privacy.zones.door=0,0 0.3,0.35"] if has_zone else []
    with serving(f"door=loop:{clip}", *zones) as service:
        until(lambda: len(service.get("/v1/cameras/door/memory")["key_frames"]) >= 3)
        shares = [magenta_share(one) for one in pictures_of(service)]
        row = service.get("/v1/cameras")["cameras"][0]
    assert len(shares) >= 2 and row["has_zones"] == has_zone
    assert max(shares) == 0.0 if has_zone else min(shares) > 0.01


def on_disk(state, texts):
    """Files that hold one of the texts."""
    found = []
    for place, _, names in os.walk(state):  # which passes over folders that are just being renamed
        for name in names:
            with suppress(OSError):
                if any(text in Path(place, name).read_bytes() for text in texts):
                    found.append(name)
    return found


@pytest.mark.medium
def test_a_wipe_leaves_nothing_on_the_disk_and_nothing_to_read(tmp_path):
    state = tmp_path / "state"
    words = ["--state", str(state), "--set", "memory.snapshot_every_s=1"]
    question = "Is the zebra still asleep?"
    with serving(f"door=loop:{CLIP}", *words) as service:
        assert service.chat(question)[0] == 200
        until(lambda: on_disk(state, [question.encode()]))
        until(lambda: list((state / "door").glob("[0-9]*/memory.npz")))
        assert service.json("POST", "/v1/cameras/door/pause")[0] == 200
        assert service.json("DELETE", "/v1/cameras/door/memory")[0] == 204
        assert on_disk(state, [question.encode()]) == []
        assert list((state / "door").glob("*/memory.npz")) == []
        told = service.get("/v1/records?limit=1000")["records"]
        assert [one for one in told if one["type"] in ("final", "opened")] == []
        kept = service.get("/v1/cameras/door/memory")
        assert kept["key_frames"] == kept["dialogue"] == []


@pytest.mark.medium
def test_nothing_older_than_the_retention_is_left(tmp_path):
    state = tmp_path / "state"
    words = ["--state", str(state), "--set", "privacy.retention_s=6"]
    question = "Is the zebra still asleep?"
    with serving(f"door=loop:{CLIP}", *words) as service:
        assert service.chat(question)[0] == 200
        until(lambda: on_disk(state, [question.encode()]))
        asked_s = time.monotonic()
        until(lambda: not on_disk(state, [question.encode()]))
        until(lambda: question not in str(service.get("/v1/records?limit=1000")))
        assert service.get("/v1/cameras/door/memory")["dialogue"] == []
        assert time.monotonic() - asked_s > 2, "it was kept for a while"
        row = service.get("/v1/cameras")["cameras"][0]
        kept = service.get("/v1/cameras/door/memory")["key_frames"]
    assert kept and row["time_s"] - min(frame["time_s"] for frame in kept) < 30


def filled(filler):
    """Fill a disk to its last block."""
    with suppress(OSError), open(filler, "ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, of 2 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.medium
def test_a_full_disk_is_told_and_the_camera_is_watched_on(small_disk):
    words = ["--state", str(small_disk / "state"), "--set", "memory.snapshot_every_s=2"]
    with serving(f"door=loop:{CLIP}", *words) as service:
        filled(small_disk / "filler")
        told = until(
            lambda: [
                one
                for one in service.get("/v1/records?types=warning")["records"]
                if one["code"] == "state-not-saved"
            ]
        )
        assert "full" in told[0]["message"] or "space" in told[0]["message"]
        assert service.state("door") == "open" and service.chat("Is it dark?")[0] == 200
        (small_disk / "filler").unlink()
        until(lambda: list((small_disk / "state" / "door").glob("[0-9]*/memory.npz")))
        assert service.stop() == 0
