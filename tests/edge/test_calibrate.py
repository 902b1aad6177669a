"""`edgestream calibrate`: what it writes, what it refuses, and that nothing is half-written."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.calibration.dataset import read_calibration_set
from edgestream.calibration.look import look_of
from edgestream.calibration.selection import distances_to, diversity
from edgestream.edge.calibrating import (
    MOST_BYTES,
    POOL,
    CalibrationChoice,
    calibrate,
    check_room,
)
from edgestream.edge.calibration_looks import look_for
from edgestream.edge.cli import main
from edgestream.edge.settings_tables import Settings
from edgestream.runtime.errors import SettingsInvalid
from edgestream.runtime.preprocess import small_picture
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.values import Frame

from ..video_files import moving_texture, write_image, write_video
from .test_run import in_an_empty_folder  # noqa: F401 - the fixture is used by being there

SCENES = 20
REFERENCE = Path(__file__).parents[2] / "assets" / "reference"
IMPATIENT = ["--set", "live.open_timeout_s=0.4", "--set", "live.stall_s=0.4"]


def scenes(count=SCENES, size_px=(96, 64)):
    """Pictures of scenes that have nothing in common."""
    return [next(iter(moving_texture(1, size_px, seed))) for seed in range(count)]


def write_png(path, pixels):
    write_image(path, pixels, codec="png", pix_fmt="rgb24")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """20 scenes of one second each, at 10 pictures/s; all pictures of a scene are the same."""
    folder = tmp_path_factory.mktemp("clips")
    return write_video(folder / "day.mp4", [one for one in scenes() for _ in range(10)], fps=10)


def made(capsys, *arguments, out="set"):
    assert main(["calibrate", *map(str, arguments), "--out", out, "--json"]) == 0
    return json.loads(capsys.readouterr().out), read_calibration_set(Path(out))


@pytest.mark.medium
def test_each_scene_comes_once_in_its_order(clip, capsys):
    told, found = made(capsys, clip, "--every", "0.25", "--count", "32")
    assert told["looked_at"] == 80 and told["frames"] == SCENES == len(found.frames)
    assert [int(time_s) for time_s in found.times_s] == list(range(SCENES))
    assert found.frames.shape[1:] == (64, 96, 3), "smaller pictures are not blown up"
    for scene, frame in zip(scenes(), found.frames, strict=True):
        assert np.abs(scene.astype(int) - frame).mean() < 12  # coarse noise of colours, in 4:2:0
    assert told["sha256"] == found.sha256 and found.source == "file day"
    assert found.settings["compared_by"] == "look" and found.licences == ("unknown",)
    assert len(found.prompts) == told["prompts"] > 1 and found.settings["prompts_from"] is None


@pytest.mark.medium
def test_the_same_file_gives_the_same_bytes(clip, capsys):
    made(capsys, clip, out="one")
    made(capsys, clip, out="two")
    for name in ("set.json", "frames.npz", "prompts.jsonl"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


@pytest.mark.medium
def test_what_the_user_asks_for_is_in_the_set(clip, capsys):
    Path("asked.txt").write_text("Is the door open?\nWho is there?\n")
    told, found = made(
        capsys, clip, *("--count", "16", "--size", "48", "--licence", "CC0-1.0"),
        *("--prompts", "asked.txt", "--sheet", "sheet.png"),
    )  # fmt: skip
    assert found.frames.shape == (16, 32, 48, 3) and found.licences == ("CC0-1.0",)
    assert found.prompts == ("Is the door open?", "Who is there?")
    assert found.settings["prompts_from"] == "asked.txt"
    assert told["sheet"] == "sheet.png"
    with av.open("sheet.png") as container:
        sheet = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert sheet.shape[0] > 3 * 100 and sheet.shape[1] > 4 * 176
    assert sorted(path.name for path in Path().iterdir()) == ["asked.txt", "set", "sheet.png"]


def test_people_are_told_what_was_made(clip, capsys):
    assert main(["calibrate", str(clip), "--out", "set"]) == 0
    out, err = capsys.readouterr()
    assert "20 of 40 pictures, 96 x 64 px" in out and "20 of day" in out and err == ""
    assert "--calibration set" in out


@pytest.mark.medium
def test_a_folder_of_clips_and_one_of_images(capsys):
    for name, first in (("b", 0), ("a", 10)):
        Path("clips").mkdir(exist_ok=True)
        pictures = [one for one in scenes()[first : first + 10] for _ in range(5)]
        write_video(Path("clips", f"{name}.mp4"), pictures, fps=10)
    Path("images").mkdir()
    for number, one in enumerate(scenes(8, (64, 96))):
        write_png(Path("images", f"{number}.png"), 255 - one)
    told, found = made(capsys, "clips", "images")
    assert told["sources"] == [
        {"name": "a", "frames": 10},
        {"name": "b", "frames": 10},
        {"name": "images", "frames": 8},
    ]
    # The others have other proportions: cut to those of the first, not squeezed.
    assert found.frames.shape == (28, 64, 96, 3)
    assert found.source == "file a, file b, file images"


def test_seconds_are_of_each_source(clip, capsys):
    told, found = made(capsys, clip, "--seconds", "17.3")
    assert told["frames"] == 18 and found.times_s.max() <= 17.3


@pytest.mark.medium
def test_zones_are_hidden(clip, capsys):
    _, found = made(capsys, clip, "--set", 'privacy.zones={"*" = "0,0 0.5,1"}')
    assert not found.frames[:, :, :48].any() and found.frames[:, :, 60:].any()


@pytest.mark.medium
def test_the_pool_is_bounded_and_what_is_left_differs_most():
    """A sweep over a wall: 600 pictures, 16 chosen, never more than POOL x 16 in memory."""
    wall = np.kron(np.random.default_rng(0).integers(0, 255, (40, 340, 3), dtype=np.uint8),
                   np.ones((4, 4, 1), np.uint8))  # fmt: skip
    write_video(
        Path("sweep.mp4"), (wall[40:104, 2 * at : 2 * at + 96] for at in range(600)), fps=10
    )
    most = 0

    def on_frame(name, time_s, length_s, looked, kept):
        nonlocal most
        most = max(most, kept)

    choice = CalibrationChoice(count=16, every_s=0.1)
    found = calibrate(["sweep.mp4"], Path("set"), choice, Settings(), on_frame=on_frame)
    assert found.looked_at == 600 and 32 <= most < POOL * 16
    assert len(found.made.frames) == 16
    pictures = [frame.pixels for frame in frames_of("sweep.mp4", 10)]
    uniform = np.stack([look_of(small_picture(pictures[at])) for at in range(0, 600, 40)])
    assert found.spread.least > diversity(uniform[:16]).least


@pytest.mark.medium
def test_more_than_the_memory_holds_is_refused_at_the_first_picture(clip, capsys, monkeypatch):
    most = POOL * 20 * 64 * 96 * 3
    monkeypatch.setattr("edgestream.edge.calibrating.MOST_BYTES", most)
    words = ["calibrate", str(clip), "--out", "set"]
    assert main([*words, "--count", "21"]) == 2
    err = capsys.readouterr().err
    assert "21 pictures of 96 x 64 px" in err and "--count 20" in err and not Path("set").exists()
    assert main([*words, "--count", "20"]) == 0


@given(count=st.integers(16, 1024), height=st.integers(32, 4096), width=st.integers(32, 4096))
def test_what_is_advised_is_not_refused(count, height, width):
    if POOL * count * height * width * 3 <= MOST_BYTES:
        return check_room(count, (height, width))
    with pytest.raises(SettingsInvalid) as refused:
        check_room(count, (height, width))
    advised = dict(re.findall(r"--(size|count) (\d+)", refused.value.hint))
    scale = int(advised["size"]) / max(height, width)
    check_room(count, (int(scale * height), int(scale * width)))
    if "count" in advised:
        check_room(int(advised["count"]), (height, width))


def frames_of(path, fps):
    frames = open_source(str(path), SourceSettings(fps=fps)).frames(lambda record: None)
    return [frame for frame in frames if frame is not None]


def still(folder):
    """A still scene with the noise of a sensor."""
    random, scene = np.random.default_rng(0), scenes(1)[0].astype(int)
    noisy = (np.clip(scene + random.normal(0, 3, scene.shape), 0, 255) for _ in range(40))
    return write_video(folder / "still.mp4", (one.astype(np.uint8) for one in noisy), fps=2)


def noise(folder, size_px=(96, 64)):
    random = np.random.default_rng(0)
    folder = folder / "noise"
    folder.mkdir()
    for number in range(20):
        pixels = random.integers(0, 255, (size_px[1], size_px[0], 3), dtype=np.uint8)
        write_png(folder / f"{number}.png", pixels)
    return folder


def large_noise(folder):
    """Scaled down to the size of a set, its pixels do know of each other."""
    return noise(folder, (700, 500))


def few_scenes(folder):
    return write_video(folder / "few.mp4", [one for one in scenes(15) for _ in range(20)], fps=10)


def short(folder):
    return write_video(folder / "short.mp4", scenes(15), fps=2)


def empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def cut_off(folder):
    write_video(folder / "whole.mp4", scenes(), fps=2)
    content = (folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(content[: len(content) // 3])
    return folder / "cut.mp4"


def missing(folder):
    return folder / "none.mp4"


@pytest.mark.medium
@pytest.mark.parametrize(
    ("source", "exit_code", "code", "words"),
    [
        (still, 6, "calibration-constant", "the same picture"),
        (noise, 6, "calibration-noise", "they are noise"),
        (large_noise, 6, "calibration-noise", "they are noise"),
        (few_scenes, 6, "calibration-too-small", "got 15 different frames among 60"),
        (short, 6, "calibration-too-small", "got 15 frames, expected at least 16"),
        (empty, 5, "source-no-video", "holds no image"),
        (cut_off, 5, "source-unreadable", "cut.mp4"),
        (missing, 5, "source-missing", "none.mp4"),
    ],
)
def test_what_is_of_no_use_is_refused_in_one_sentence(
    source, exit_code, code, words, tmp_path_factory, capsys
):
    place = source(tmp_path_factory.mktemp("source"))
    arguments = ["calibrate", str(place), "--out", "set", "--sheet", "sheet.png", "--json"]
    assert main(arguments) == exit_code
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["code"] == code and words in error["message"]
    assert err.splitlines()[-2 if error["hint"] else -1].startswith(f"error[{code}]")
    assert list(Path().iterdir()) == []


@pytest.mark.medium
def test_a_camera_that_gives_nothing(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"rtsp://me:secret@127.0.0.1:{silent.getsockname()[1]}/live"
        assert main(["calibrate", address, "--out", "set", "--json", *IMPATIENT]) == 5
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "source-lost"
    assert "gave no picture within 0.8 s" in out and "secret" not in out + err
    assert list(Path().iterdir()) == []


@pytest.mark.medium
def test_a_place_that_cannot_be_written_is_told_before_the_camera_is_watched(clip, capsys):
    Path("set").mkdir()
    Path("set", "mine.txt").write_text("kept")
    camera = "rtsp://127.0.0.1:9/none"
    for arguments in (
        ["--out", "set"], ["--out", "set", "--force"], ["--out", "none/set"],
        ["--out", "new", "--sheet", "none/sheet.png"], ["--out", "new", "--sheet", "set"],
    ):  # fmt: skip
        assert main(["calibrate", camera, *arguments]) == 8
    assert [path.name for path in Path().rglob("*")] == ["set", "mine.txt"]
    capsys.readouterr()
    made(capsys, clip, out="older")
    assert main(["calibrate", str(clip), "--out", "older"]) == 8
    _, found = made(capsys, clip, "--count", "16", "--force", out="older")
    assert len(found.frames) == 16


@pytest.mark.parametrize(
    "arguments",
    [
        ["--count", "15"], ["--every", "0"], ["--near", "0"], ["--prompts", "none.txt"],
        ["--set", "privacy.keep_pictures=false"], ["--set", "source.nothing=1"],
    ],
)  # fmt: skip
def test_options_that_make_no_sense(arguments, clip, capsys):
    assert main(["calibrate", str(clip), "--out", "set", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err and list(Path().iterdir()) == []


@pytest.mark.medium
def test_a_live_source_ends_by_itself(tmp_path_factory, capsys):
    clip = write_video(tmp_path_factory.mktemp("live") / "quick.mp4", scenes(), fps=10)
    told, found = made(capsys, f"loop:{clip}", "--seconds", "6", "--every", "0.05")
    assert 16 <= told["frames"] <= SCENES and found.times_s.max() <= 6
    assert found.source == f"camera {told['sources'][0]['name']}"


@pytest.mark.medium
def test_a_model_may_compare_and_no_pytorch_is_loaded(clip):
    code = (
        "import sys\n"
        "from edgestream.edge.cli import main\n"
        "for name in ('torch', 'transformers', 'onnx'): sys.modules[name] = None\n"
        f"assert main(['calibrate', {str(clip)!r}, '--out', 'set', '--bundle',"
        f" {str(REFERENCE)!r}]) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read_calibration_set(Path("set"))
    assert found.frames.shape[1:] == (112, 112, 3)
    assert found.settings["compared_by"] == "summary of reference"
    assert main(["calibrate", str(clip), "--out", "new", "--bundle", "none"]) == 3
    assert not Path("new").exists()


@pytest.mark.slow
@pytest.mark.real_clips
@pytest.mark.parametrize("bundle", [None, REFERENCE], ids=["look", "summary"])
def test_on_real_clips_it_differs_more_than_as_many_at_even_distances(bundle, clips_folder, capsys):
    """Also as another embedding sees it than the one that chose."""
    clips = [clips_folder / "child-with-book.mp4", clips_folder / "woman-at-table.mp4"]
    if not all(clip.exists() for clip in clips):
        pytest.skip("the clips that this test knows are not there")
    asked = () if bundle is None else ("--bundle", bundle)
    told, found = made(capsys, *clips, "--every", "0.1", "--count", "24", *asked)
    assert told["frames"] == 24
    frames = [frame for clip in clips for frame in frames_of(clip, 10)]
    even = [frames[at] for at in np.linspace(0, len(frames) - 1, 24).astype(int)]
    for other in (None, REFERENCE):
        with look_for(other, Settings()) as look:
            every = embedded(look, ((one.time_s, one.pixels) for one in frames))
            ours = embedded(look, zip(found.times_s, found.frames, strict=True))
            theirs = embedded(look, ((one.time_s, one.pixels) for one in even))
        gain = diversity(ours).least / diversity(theirs).least
        assert gain > (2 if other == bundle else 1.2)
        if other == bundle:  # no frame of the clips lies far from one of the set
            assert farthest(every, ours) < farthest(every, theirs)


def farthest(every, chosen):
    return max(distances_to(chosen, one).min() for one in every)


def embedded(look, pictures):
    rows = []
    for index, (time_s, pixels) in enumerate(pictures):
        look.reset()
        rows.append(look(Frame(index, float(time_s), pixels)))
    return np.stack(rows)
