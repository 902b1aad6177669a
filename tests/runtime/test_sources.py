"""Sources: every address finds its kind or a clear error, and settings are checked."""

from __future__ import annotations

import math

import pytest

from edgestream.runtime.errors import SettingsInvalid, SourceUnknown
from edgestream.runtime.sources import (
    KINDS,
    RETURN_WITHIN_S,
    ReturnClock,
    SourceSettings,
    open_source,
)

from ..video_files import numbered, write_image, write_video


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf, 121, 1e9])
def test_fps_out_of_range(fps):
    with pytest.raises(SettingsInvalid, match=r"source\.fps is") as caught:
        SourceSettings(fps=fps)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("side_px", [0, -5, 15, 16385])
def test_side_out_of_range(side_px):
    with pytest.raises(SettingsInvalid, match=r"source\.max_side_px is"):
        SourceSettings(max_side_px=side_px)


def test_the_edges_of_the_settings_are_allowed():
    SourceSettings(fps=120, max_side_px=16)
    SourceSettings(fps=1e-3, max_side_px=16384)


@pytest.mark.parametrize(
    "address", ["rtmp://camera/1", "ftp://a/b.mp4", "S3://bucket", "udp://@:5000"]
)
def test_an_unknown_scheme_names_what_there_is(address):
    with pytest.raises(SourceUnknown) as caught:
        open_source(address, SourceSettings())
    assert caught.value.exit_code == 5
    for kind in KINDS.values():
        assert kind.address in caught.value.message


def test_each_kind_is_found(tmp_path):
    path = write_video(tmp_path / "clip.mp4", numbered(2))
    write_image(tmp_path / "1.png", numbered(1)[0], codec="png", pix_fmt="rgb24")
    opened = {
        type(open_source(address, SourceSettings())).__name__
        for address in (str(path), str(tmp_path))
    }
    assert opened == {"VideoFile", "ImageFolder"}


def test_the_return_clock_at_its_edge():
    now_s = 5.0
    returned = ReturnClock(lambda: now_s)
    now_s = 5.0 + RETURN_WITHIN_S * 0.99
    assert not returned.is_due()
    now_s = 5.0 + RETURN_WITHIN_S * 1.01
    assert returned.is_due()
    returned.reset()
    assert not returned.is_due()
