"""Calibration sets: written whole, read as written, refused where they stand for nothing."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgestream.calibration.dataset import (
    CalibrationSet,
    make_calibration_set,
    read_calibration_set,
)
from edgestream.calibration.frame_checks import (
    check_frames,
    mean_distance,
    neighbour_correlation,
)
from edgestream.calibration.rendered import default_calibration
from edgestream.runtime.errors import (
    CalibrationConstant,
    CalibrationInvalid,
    CalibrationNoise,
    CalibrationTooSmall,
    OutputExists,
    QualityError,
)
from edgestream.runtime.scripted_stories import SCRIPTS

SIZE_PX = (48, 64)
PROMPTS = ["What happens?", "Wo ist die Tür?\u2028 Zeile"]


def smooth_frames(count=16, seed=0):
    """Soft hills of light, different in every frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, 4, 4, 3))
    return np.repeat(np.repeat(coarse, 12, 1), 16, 2).astype(np.uint8)


def made(folder, frames=None, **changes):
    frames = smooth_frames() if frames is None else frames
    facts = {"source": "a test", "licences": ["CC0-1.0"], "settings": {"fps": 2}, **changes}
    return make_calibration_set(folder, frames, np.arange(len(frames)) / 2, PROMPTS, **facts)


def test_what_was_written_is_read(tmp_path):
    written = made(tmp_path / "set")
    read = read_calibration_set(tmp_path / "set")
    assert np.array_equal(read.frames, smooth_frames())
    assert read.times_s.tolist() == [index / 2 for index in range(16)]
    assert read.prompts == tuple(PROMPTS) and read.sha256 == written.sha256
    assert (read.source, read.licences, read.settings) == ("a test", ("CC0-1.0",), {"fps": 2})
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "frames.npz",
        "prompts.jsonl",
        "set.json",
    ]
    for array in (read.frames, read.times_s):
        with pytest.raises(ValueError):
            array[0] = 0


def test_the_same_inputs_are_the_same_bytes(tmp_path):
    made(tmp_path / "one")
    made(tmp_path / "two")
    for name in ("frames.npz", "prompts.jsonl", "set.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert made(tmp_path / "three", smooth_frames(seed=1)).sha256 != made(tmp_path / "four").sha256


def test_it_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(TypeError):  # a set is no JSON: found when set.json is written, the last
        made(tmp_path / "set", settings={"fps": {2}})
    assert list(tmp_path.iterdir()) == []
    made(tmp_path / "set")
    with pytest.raises(OutputExists):
        made(tmp_path / "set")
    assert made(tmp_path / "set", smooth_frames(20), force=True).frames.shape[0] == 20
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_set_json_is_what_the_schema_says(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    from pathlib import Path

    made(tmp_path / "set")
    schema = Path(__file__).parents[2] / "runtime" / "schemas" / "calibration_set.json"
    told = json.loads((tmp_path / "set" / "set.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(json.loads(schema.read_text("utf-8"))).validate(told)


def test_too_few_frames_are_refused_at_the_edge():
    check_frames(smooth_frames(16))
    with pytest.raises(CalibrationTooSmall, match=r"got 15 .*expected at least 16"):
        check_frames(smooth_frames(15))
    with pytest.raises(CalibrationTooSmall, match="got 0 "):
        check_frames(np.zeros((0, *SIZE_PX, 3), np.uint8))


def grey(levels):
    return np.stack([np.full((*SIZE_PX, 3), level, np.uint8) for level in levels])


def test_constant_frames_are_refused_at_the_edge():
    # Half of the pairs of 8 and 8 differ: 64 of 120.
    with pytest.raises(CalibrationConstant, match=r"differ by 1\.60 grey levels"):
        check_frames(grey([100] * 8 + [103] * 8))
    check_frames(grey([100] * 8 + [104] * 8))
    with pytest.raises(CalibrationConstant, match=r"differ by 0\.00"):
        check_frames(grey([0] * 16))
    still = smooth_frames(1).astype(int) + np.random.default_rng(0).integers(-9, 9, (16, 48, 64, 3))
    with pytest.raises(CalibrationConstant):  # a still picture with the noise of a sensor
        check_frames(np.clip(still, 0, 255).astype(np.uint8))


def test_noise_is_refused():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (16, *SIZE_PX, 3), dtype=np.uint8)
    with pytest.raises(CalibrationNoise, match=r"expected at least 0\.2"):
        check_frames(noise)
    brighter = noise // 4 + np.arange(0, 160, 10, dtype=np.uint8)[:, None, None, None]
    with pytest.raises(CalibrationNoise):  # whatever its light
        check_frames(brighter)
    check_frames(noise // 8 + smooth_frames() // 2)


def test_real_clips_are_accepted(clips_folder):
    import av

    frames = []
    for clip in sorted(clips_folder.glob("*.mp4"))[:4]:
        with av.open(str(clip)) as container:
            for _, frame in zip(range(6), container.decode(video=0), strict=False):
                frames.append(frame.to_ndarray(format="rgb24", width=64, height=48))
    check_frames(np.stack(frames))


@pytest.mark.medium
@given(
    arrays_of.arrays(
        np.float32,
        st.tuples(st.integers(2, 7), st.integers(1, 5)),
        elements=st.floats(0, 255, width=32),
    )
)
def test_the_fast_mean_distance_is_that_of_all_pairs(thumbnails):
    pairs = itertools.combinations(thumbnails.astype(np.float64), 2)
    naive = np.mean([np.mean(np.abs(one - other)) for one, other in pairs])
    assert mean_distance(thumbnails) == pytest.approx(naive, abs=1e-6)


def test_neighbour_correlation_knows_its_ends():
    ramp = np.tile(np.arange(32, dtype=np.float32), (32, 1))
    board = (np.indices((32, 32)).sum(0) % 2).astype(np.float32)
    assert neighbour_correlation(ramp) == pytest.approx(1, abs=1e-3)
    assert neighbour_correlation(board) == pytest.approx(-1, abs=1e-3)
    assert neighbour_correlation(np.full((8, 8), 7, np.float32)) == 1
    assert neighbour_correlation(np.full((1, 1), 7, np.float32)) == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("set.json", b"{}", "format is missing"),
        ("set.json", b"{", "cannot be read"),
        ("set.json", None, "cannot be read"),
        ("frames.npz", b"PK", "got SHA-256"),
        ("frames.npz", None, "cannot be read"),
        ("prompts.jsonl", b"", "got SHA-256"),
    ],
)
def test_a_damaged_set_is_named(tmp_path, name, content, words):
    made(tmp_path / "set")
    place = tmp_path / "set" / name
    place.unlink() if content is None else place.write_bytes(content)
    with pytest.raises(CalibrationInvalid, match=words) as fault:
        read_calibration_set(tmp_path / "set")
    assert fault.value.exit_code == 6


def test_a_newer_format_and_a_wrong_count(tmp_path):
    made(tmp_path / "set")
    path = tmp_path / "set" / "set.json"
    told = json.loads(path.read_bytes())
    for key, value, words in (("format", 2, "at most 1"), ("count", 17, "the frames there are")):
        path.write_text(json.dumps({**told, key: value}))
        with pytest.raises(CalibrationInvalid, match=words):
            read_calibration_set(tmp_path / "set")


@pytest.mark.parametrize(
    ("frames", "times_s"),
    [
        (np.zeros((16, 8, 8, 3)), np.zeros(16)),
        (np.zeros((16, 8, 8), np.uint8), np.zeros(16)),
        (np.zeros((16, 0, 8, 3), np.uint8), np.zeros(16)),
        (np.zeros((16, 8, 8, 3), np.uint8), np.zeros(15)),
        (np.zeros((16, 8, 8, 3), np.uint8), np.full(16, np.nan)),
        (np.zeros((16, 8, 8, 3), np.uint8), np.full(16, -1.0)),
    ],
)
def test_wrong_shapes_and_times(frames, times_s):
    with pytest.raises(CalibrationInvalid):
        CalibrationSet(frames, times_s, (), "a test", ())


@pytest.mark.medium
def test_the_default_set_is_of_all_rendered_clips(tmp_path):
    found = default_calibration(tmp_path / "set", SIZE_PX, PROMPTS, count=21)
    assert found.frames.shape == (21, *SIZE_PX, 3) and found.source == "rendered test clips"
    assert found.settings["clips"] == tuple(SCRIPTS)
    assert np.array_equal(read_calibration_set(tmp_path / "set").frames, found.frames)
    with pytest.raises(QualityError):
        default_calibration(tmp_path / "small", SIZE_PX, PROMPTS, count=15)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
