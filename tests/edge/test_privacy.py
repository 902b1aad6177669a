"""Privacy in a whole run: what lies in a zone leaves no trace in stages, records or saved state."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from edgestream.edge.assistant import source_from_settings
from edgestream.edge.cli import main
from edgestream.edge.privacy_rules import unused_zones, with_zones, zones_of
from edgestream.edge.settings import load_settings
from edgestream.edge.staging import staged_run
from edgestream.runtime.array_file import read_arrays
from edgestream.runtime.errors import ZoneInvalid
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.pipeline import run
from edgestream.runtime.preprocess import small_picture
from edgestream.runtime.zones import hidden

from ..fakes import CollectingSink, ListSource
from ..video_files import write_video

BUNDLE = Path(__file__).parents[2] / "assets" / "reference"
ZONE = "0.5,0.25 0.75,0.75"
SIDE_PX = 128


def settings_of(*sets):
    return load_settings(None, list(sets), {}, {}, folder=Path("/")).settings


def test_a_camera_has_the_zones_of_its_name_or_else_those_of_every_camera():
    privacy = settings_of("privacy.zones.door=0,0 0.5,1", "privacy.zones.*=0,0 1,0.5").privacy
    (door,), (other,) = zones_of("door", privacy), zones_of("yard", privacy)
    assert door.corners[2] == (0.5, 1.0) and other.corners[2] == (1.0, 0.5)
    assert not unused_zones("yard", privacy)
    only = settings_of("privacy.zones.door=0,0 0.5,1").privacy
    source = ListSource([])
    assert zones_of("yard", only) == () and with_zones(source, only) is source
    (note,) = unused_zones("yard", only)
    assert note.body["code"] == "zones-unused"
    assert "names door, but this camera is called yard" in note.body["message"]


def test_a_slip_in_a_zone_of_any_camera_is_told_with_its_name():
    privacy = settings_of("privacy.zones.door=0,0 5,1").privacy
    with pytest.raises(ZoneInvalid, match=r"privacy\.zones\.door: a zone got the point 5,0"):
        zones_of("yard", privacy)


def clip(folder, secret):
    """Two seconds of blue things that move; what is planted in the zone is red and white."""
    random = np.random.default_rng(3)
    pictures = []
    for index in range(20):
        picture = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
        picture[..., 2] = 40 + 60 * (np.arange(SIDE_PX) // 16 % 2)
        picture[90:120, 4 * index : 4 * index + 24, 2] = 250
        if secret:
            stripes = np.where(random.random((64, 32, 1)) < 0.5, (255, 0, 0), (255, 255, 255))
            picture[32:96, 64:96] = stripes
        pictures.append(picture)
    return write_video(folder / "clip.mkv", pictures, fps=10, codec="ffv1", pix_fmt="bgr0")


class SpyEncoder:
    """The real encoder; how much of the planted pattern each frame had that reached it."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.reds = []

    def encode(self, frame):
        self.reds.append(int((frame.pixels[..., 0] > 100).sum()))
        return self._encoder.encode(frame)


def watched(folder, *, secret, zones):
    """A whole run with the reference assistant, its records, and what it saved."""
    pytest.importorskip("onnxruntime", reason="the assistant runs on it")
    folder.mkdir()
    sets = ["memory.thumbnails=true", "source.fps=10", "encoder.heartbeat_s=0.1"]
    settings = settings_of(*sets, *([f"privacy.zones.clip={ZONE}"] if zones else []))
    source, sink = source_from_settings(str(clip(folder, secret)), settings), CollectingSink()
    inbox = Inbox(source.now_s)
    inbox.ask("Is anything moving?", 1.0)
    with staged_run(BUNDLE, settings, lambda: (), folder / "state") as staged:
        staged.stages.encoder = spy = SpyEncoder(staged.stages.encoder)
        with staged.kept.saved_at_the_end():
            records = Outlet([sink], camera=source.name, clock=source.now_s)
            run(source, staged.stages, inbox, records, left=threading.Event())
        frames = staged.kept.keeper._parts.memory.view().key_frames
    saved = read_arrays(next((folder / "state").glob("*/memory.npz")))
    return spy.reds, [frame.thumbnail for frame in frames], saved, sink


def reds_of(saved):
    return max(
        int(part.reshape(-1, 3)[:, 0].max())
        for name, part in saved.items()
        if name.endswith("_thumbnail") and part.size
    )


@pytest.mark.medium
def test_nothing_that_lies_in_a_zone_reaches_a_stage_a_picture_or_the_saved_state(tmp_path):
    open_reds, open_thumbnails, open_saved, _ = watched(tmp_path / "a", secret=True, zones=False)
    assert min(open_reds) > 1000 and reds_of(open_saved) > 200, "without a zone it is all there"
    assert max(picture[..., 0].max() for picture in open_thumbnails) > 200

    reds, thumbnails, saved, sink = watched(tmp_path / "b", secret=True, zones=True)
    assert len(reds) == 20 and max(reds) == 0
    mask = hidden(zones_of("clip", settings_of(f"privacy.zones.clip={ZONE}").privacy), 128, 128)
    black = small_picture(np.repeat(np.where(mask, 0, 255).astype(np.uint8)[..., None], 3, 2)) == 0
    assert black.any() and len(thumbnails) >= 2
    for picture in thumbnails:
        assert not picture[black].any() and picture[..., 0].max() <= 2
    assert reds_of(saved) <= 2

    _, _, empty, sink_empty = watched(tmp_path / "c", secret=False, zones=True)
    assert saved.keys() == empty.keys()
    values = [json.loads(part.pop("values").tobytes()) for part in (saved, empty)]
    assert all(one.pop("saved_s") for one in values) and values[0] == values[1]
    for name, part in saved.items():
        np.testing.assert_array_equal(part, empty[name], err_msg=f"{name} tells what was hidden")
    told = [[dict(one) for one in s.bodies("opened", "closed")] for s in (sink, sink_empty)]
    assert told[0] == told[1]
    answers = [[one["text"] for one in s.bodies("final")] for s in (sink, sink_empty)]
    assert answers[0] == answers[1] and answers[0]


@pytest.mark.medium
def test_the_command_hides_zones_and_warns_where_none_is_for_this_camera(tmp_path, capsys):
    file = clip(tmp_path, secret=True)
    assert main(["run", str(file), "--set", "privacy.zones.clip=0,0 2,2"]) == 2
    assert "error[zone-invalid]: privacy.zones.clip: " in capsys.readouterr().err
    chosen = ["--set", "privacy.zones.door=0,0 1,1", "--jsonl", "-"]
    assert main(["run", str(file), *chosen]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (note,) = [one for one in records if one["type"] == "warning"]
    assert note["code"] == "zones-unused"
    assert main(["run", str(file), "--set", "privacy.zones.clip=0,0 1,1", "--jsonl", "-"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stats = records[-1]
    assert stats["frames_still"] == stats["frames_seen"] - 1, "all is black: nothing moves"
