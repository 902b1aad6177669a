"""Features of videos: what the device sees, extracted once, and found again by contents."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from edgestream.models.families import load_checkpoint
from edgestream.runtime.errors import DialogueInvalid, OutputUnwritable
from edgestream.runtime.motion import MotionDetector
from edgestream.runtime.motion_input import vision_input
from edgestream.runtime.preprocess import fitted_picture, small_picture
from edgestream.runtime.sources import SourceSettings
from edgestream.training.features import features_of

from ..checkpoints import random_live_checkpoint
from ..reference_checkpoints import small_reference_checkpoint
from ..video_files import moving_texture, read, write_video

FPS = 4.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clip that moves for a second, rests for four, and moves again; and another clip."""
    folder = tmp_path_factory.mktemp("features")
    moving = list(moving_texture(64, (96, 72)))[::8]
    write_video(folder / "rests.mp4", [*moving[:4], *[moving[3]] * 16, *moving[4:]], fps=FPS)
    write_video(folder / "other.mp4", moving[::-1], fps=FPS)
    return folder


@pytest.fixture(scope="module", params=["reference", "live"])
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "reference":
        return load_checkpoint(small_reference_checkpoint(folder))
    return load_checkpoint(random_live_checkpoint(folder, has_gate=True))


def extracted(checkpoint, video, cache, told=None, **how):
    tell = (lambda progress: None) if told is None else told.append
    return features_of(checkpoint, [video], cache, tell=tell, **how)[video]


@pytest.mark.slow
def test_frames_that_move_are_seen_and_still_ones_take_over_for_a_while(
    checkpoint, folder, tmp_path
):
    found = extracted(checkpoint, folder / "rests.mp4", tmp_path, fps=FPS)
    frames, _ = read(folder / "rests.mp4", SourceSettings(fps=FPS))
    assert found.times_s.tolist() == [frame.time_s for frame in frames]
    detector, seen = MotionDetector(), []
    for frame in frames:
        motion = detector.step_small(small_picture(frame.pixels), frame.time_s)
        pixels = fitted_picture(frame.pixels, checkpoint.frame_input)
        given = torch.from_numpy(vision_input(pixels, motion.maps, checkpoint.frame_input))
        seen.append(checkpoint.vision(given)[0][0].detach().numpy())
        assert found.is_still[len(seen) - 1] == motion.is_still
    own = [np.allclose(found.tokens[at], one, atol=2e-3) for at, one in enumerate(seen)]
    assert all(own[at] for at in np.flatnonzero(~found.is_still))
    kept = [
        at for at in range(1, len(own)) if np.array_equal(found.tokens[at], found.tokens[at - 1])
    ]
    assert kept and all(found.is_still[at] for at in kept)
    encoded = np.delete(found.times_s, kept)
    assert np.diff(encoded).max() <= 2.0 + 1e-6, "a still scene is seen again after a heartbeat"


@pytest.mark.medium
def test_the_gate_remembers_along_the_stream(checkpoint, folder, tmp_path):
    found = extracted(checkpoint, folder / "other.mp4", tmp_path, fps=FPS)
    frames, _ = read(folder / "other.mp4", SourceSettings(fps=FPS))
    detector = MotionDetector()
    maps = [detector.step_small(small_picture(one.pixels), one.time_s).maps for one in frames]
    dt_s = np.diff(found.times_s, prepend=found.times_s[0] - 1 / checkpoint.frame_input.fps)
    with torch.inference_mode():
        told = checkpoint.gate.sequence(
            *(torch.tensor(np.asarray(one, np.float32))[None]
              for one in (found.tokens, found.summary, np.stack(maps), dt_s))
        )  # fmt: skip
    assert np.allclose(found.states, told.state_summary[0], atol=5e-3)
    assert np.allclose(found.scores, torch.sigmoid(told.logits)[0], atol=5e-3)
    assert np.allclose(found.motion, np.stack(maps), rtol=1e-3, atol=1e-3)
    names = 1 + len(checkpoint.gate_facts.events)
    assert found.scores.shape == (len(frames), names)


@pytest.mark.medium
def test_what_is_there_is_read_and_named_by_its_contents(checkpoint, folder, tmp_path):
    cache, told = tmp_path / "cache", []
    first = extracted(checkpoint, folder / "other.mp4", cache, told)
    assert not any(one.is_kept for one in told) and len(told) == len(first.times_s)
    assert told[-1].time_s == first.times_s[-1] and told[-1].length_s
    moved = tmp_path / "moved.mp4"
    shutil.copy(folder / "other.mp4", moved)
    checkpoint.vision.forward, before = None, checkpoint.vision.forward  # it is not to be called
    try:
        again = extracted(checkpoint, moved, cache, told := [])
    finally:
        checkpoint.vision.forward = before
    assert [one.is_kept for one in told] == [True]
    for name in ("times_s", "tokens", "summary", "motion", "states", "scores", "is_still"):
        assert np.array_equal(getattr(again, name), getattr(first, name))
    assert len(list(cache.iterdir())) == 1


@pytest.mark.medium
def test_another_rate_or_another_weight_is_extracted_anew(checkpoint, folder, tmp_path):
    video = folder / "other.mp4"
    extracted(checkpoint, video, tmp_path)
    slower = extracted(checkpoint, video, tmp_path, fps=1.0)
    assert len(slower.times_s) == 2 and len(list(tmp_path.iterdir())) == 2
    for module, count in ((checkpoint.connector, 2), (checkpoint.vision, 3)):
        weight = next(module.parameters())
        with torch.no_grad():
            weight.flatten()[0] += 1.0
        extracted(checkpoint, video, tmp_path)
        with torch.no_grad():
            weight.flatten()[0] -= 1.0
        assert len(list(tmp_path.iterdir())) == count


@pytest.mark.medium
def test_what_was_interrupted_leaves_nothing_and_what_is_damaged_is_made_again(
    checkpoint, folder, tmp_path
):
    def interrupt(progress):
        if progress.time_s > 0.5:
            raise KeyboardInterrupt

    video = folder / "other.mp4"
    with pytest.raises(KeyboardInterrupt):
        features_of(checkpoint, [video], tmp_path, tell=interrupt)
    assert not list(tmp_path.iterdir())
    first = np.array(extracted(checkpoint, video, tmp_path).tokens)
    (entry,) = tmp_path.iterdir()
    (entry / "tokens.f16").write_bytes(b"")
    assert np.array_equal(extracted(checkpoint, video, tmp_path).tokens, first)


def test_a_video_that_is_none_is_refused(checkpoint, folder, tmp_path):
    with pytest.raises(DialogueInvalid, match=r"gone\.mp4: it cannot be read"):
        extracted(checkpoint, folder / "gone.mp4", tmp_path)
    (folder / "text.mp4").write_text("no video")
    with pytest.raises(DialogueInvalid, match=r"text\.mp4"):
        extracted(checkpoint, folder / "text.mp4", tmp_path)


def test_a_cache_that_is_a_file_is_refused_and_stays(checkpoint, tmp_path):
    cache = tmp_path / "cache"
    cache.write_text("mine")
    with pytest.raises(OutputUnwritable, match="cannot be made: File exists") as caught:
        features_of(checkpoint, [], cache)
    assert "--cache" in (caught.value.hint or "") and cache.read_text() == "mine"
