"""The encoder of a bundle: every frame's own motion, tokens of the frames that changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.engines.lane import Lane
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineFailed, EngineNotFinite, EngineUnusable
from edgestream.runtime.manifest_values import FrameInput, MotionInput
from edgestream.runtime.motion import MotionDetector
from edgestream.runtime.motion_input import MAP_STD, MAPS, clip_maps, vision_input
from edgestream.runtime.preprocess import fitted_picture, model_pixels
from edgestream.runtime.scripted_scenes import paint_scene
from edgestream.runtime.values import Frame, Load
from edgestream.runtime.vision import VisionEncoder

from .. import bundles
from ..onnx_graphs import model, node

INPUT = FrameInput(size_px=(8, 8), fps=4, resize="letterbox", mean=(0.5,) * 3, std=(0.5,) * 3)
SCENES = [paint_scene("room", seed, 128)[:96, :128].astype(np.uint8) for seed in range(3)]


class Counting:
    """An engine that counts its runs and the turns before each, and may break or spoil."""

    def __init__(self, engine, lane) -> None:
        self._engine, self._lane = engine, lane
        self.provider, self.inputs, self.outputs = engine.provider, engine.inputs, engine.outputs
        self.runs, self.breaks, self.spoils = 0, False, None
        self.watch_holds = []

    def run(self, arrays):
        self.runs += 1
        self.watch_holds.append(self._lane.stats()["watch"]["holds"])
        if self.breaks:
            raise EngineFailed("vision broke off")
        outputs = self._engine.run(arrays)
        if self.spoils:
            outputs[self.spoils].flat[3] = np.nan
        return outputs


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    path = tmp_path_factory.mktemp("vision") / "vision.onnx"
    path.write_bytes(bundles.vision())
    return OrtBackend().open(path)


def frames_of(scenes, fps=4.0):
    """Frames that show these scenes one after the other; the same scene again is a still frame."""
    return [Frame(i, i / fps, SCENES[scene]) for i, scene in enumerate(scenes)]


def encoder_of(vision, **settings):
    lane = Lane()
    engine = Counting(vision, lane)
    return VisionEncoder(engine, INPUT, lane, **settings), engine


def numbers(features):
    return (
        features.time_s,
        features.tokens.tobytes(),
        features.summary.tobytes(),
        features.is_still,
        features.is_fresh,
        features.motion.maps.tobytes(),
        features.motion.moving,
        features.motion.over_s,
    )


scene_lists = st.lists(st.integers(0, 2), min_size=1, max_size=16)
rates = st.sampled_from([2.0, 4.0, 10.0, 25.0])


@pytest.mark.medium
@settings(max_examples=12, deadline=None)
@given(scene_lists, rates, st.data())
def test_a_state_taken_out_and_put_back_goes_on_exactly(vision, scenes, fps, data):
    frames = frames_of(scenes, fps)
    cut = data.draw(st.integers(0, len(frames)))
    whole, _ = encoder_of(vision, heartbeat_s=0.5, settle_s=0.3)
    expected = [numbers(whole.encode(frame)) for frame in frames]
    first, _ = encoder_of(vision, heartbeat_s=0.5, settle_s=0.3)
    seen = [numbers(first.encode(frame)) for frame in frames[:cut]]
    state = first.snapshot()
    for frame in frames[cut:]:
        first.encode(frame)  # what happens after a snapshot is not in it
    second, _ = encoder_of(vision, heartbeat_s=0.5, settle_s=0.3)
    second.restore(state)
    assert [*seen, *(numbers(second.encode(frame)) for frame in frames[cut:])] == expected
    first.reset()
    assert [numbers(first.encode(frame)) for frame in frames] == expected


@pytest.mark.medium
@settings(max_examples=30, deadline=None)
@given(scene_lists, rates)
def test_tokens_are_those_of_a_picture_that_looks_the_same(vision, scenes, fps):
    encoder, engine = encoder_of(vision, heartbeat_s=0.5)
    motion = MotionDetector()
    for scene, frame in zip(scenes, frames_of(scenes, fps), strict=True):
        features = encoder.encode(frame)
        pixels = model_pixels(fitted_picture(SCENES[scene], INPUT), INPUT)
        expected = vision.run({"pixels": pixels})
        assert np.array_equal(features.tokens, expected["tokens"][0])
        summary = expected["summary"][0]
        assert np.allclose(features.summary, summary / np.linalg.norm(summary), atol=1e-6)
        own = motion.step(frame)
        assert np.array_equal(features.motion.maps, own.maps)
        assert features.is_still == own.is_still == features.motion.is_still
        assert features.is_fresh or features.is_still
    assert engine.watch_holds == list(range(engine.runs))  # each run in a turn of its own


@pytest.mark.medium
@pytest.mark.parametrize(
    ("fps", "heartbeat_s"), [(4.0, 2.0), (10.0, 2.0), (10.0, 0.7), (30.0, 1.0)]
)
def test_a_still_scene_is_encoded_once_a_heartbeat(vision, fps, heartbeat_s):
    encoder, engine = encoder_of(vision, heartbeat_s=heartbeat_s)
    # Times that are added up: 2.3 - 0.3 is less than 2.
    times_s = np.cumsum([0.0, *[1 / fps] * round(10 * fps)])
    seen = [encoder.encode(Frame(i, float(t), SCENES[0])) for i, t in enumerate(times_s)]
    fresh = [index for index, features in enumerate(seen) if features.is_fresh]
    assert fresh == list(range(0, len(seen), round(fps * heartbeat_s)))
    assert engine.runs == len(fresh)


@pytest.mark.medium
def test_a_scene_that_came_to_rest_is_encoded_until_it_has_settled(vision):
    scenes = [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    moving, resting = {3, 9}, {4, 5, 6, 10, 11, 12}
    for settle_s, expected in ((0.0, {0} | moving), (0.75, {0} | moving | resting)):
        encoder, engine = encoder_of(vision, settle_s=settle_s)
        seen = [encoder.encode(frame) for frame in frames_of(scenes, 4.0)]
        assert {n for n, one in enumerate(seen) if not one.is_still} == {0} | moving
        assert {n for n, one in enumerate(seen) if one.is_fresh} == expected
        assert engine.runs == len(expected)


def test_without_a_heartbeat_every_frame_is_encoded(vision):
    encoder, engine = encoder_of(vision, heartbeat_s=0.0)
    assert all(encoder.encode(frame).is_fresh for frame in frames_of([0] * 9))
    assert engine.runs == 9


def test_tokens_that_are_taken_over_are_the_very_same_memory_and_read_only(vision):
    encoder, _ = encoder_of(vision)
    first, second = (encoder.encode(frame) for frame in frames_of([0, 0]))
    assert first.is_fresh and not second.is_fresh and second.is_still
    assert np.shares_memory(first.tokens, second.tokens)
    assert not (second.tokens.flags.writeable or second.summary.flags.writeable)


def test_in_a_fast_stream_a_picture_that_comes_back_is_encoded_again(vision):
    # At 30 frames/s all of these are compared with the first one.
    encoder, _ = encoder_of(vision)
    seen = [encoder.encode(frame) for frame in frames_of([0, 1, 0], fps=30.0)]
    assert seen[2].is_still and seen[2].is_fresh
    assert np.array_equal(seen[2].tokens, seen[0].tokens)


@pytest.mark.parametrize("output", ["tokens", "summary"])
def test_numbers_that_are_none_are_an_error(vision, output):
    encoder, engine = encoder_of(vision)
    engine.spoils = output
    with pytest.raises(EngineNotFinite, match=f"vision: 1 of .* {output}"):
        encoder.encode(frames_of([0])[0])


def test_after_a_fault_the_next_frame_is_encoded_and_the_lane_is_free(vision):
    encoder, engine = encoder_of(vision)
    frames = frames_of([0, 1, 1])
    encoder.encode(frames[0])
    engine.breaks = True
    with pytest.raises(EngineFailed):
        encoder.encode(frames[1])
    engine.breaks = False
    features = encoder.encode(frames[2])
    assert features.is_still and features.is_fresh


def test_a_summary_of_nothing_stays_nothing(tmp_path):
    graph = model(
        [
            node("Mul", ["pixels", "zero"], ["nothing"]),
            node("Reshape", ["nothing", "shape"], ["tokens"]),
            node("ReduceMean", ["tokens"], ["summary"], axes=[1], keepdims=0),
        ],
        [("pixels", "float32", [1, 3, 8, 8])],
        [("tokens", "float32", [1, 4, 48]), ("summary", "float32", [1, 48])],
        {"zero": np.zeros(1, np.float32), "shape": np.array([1, 4, 48])},
    )
    (tmp_path / "vision.onnx").write_bytes(graph)
    encoder, _ = encoder_of(OrtBackend().open(tmp_path / "vision.onnx"))
    assert not encoder.encode(frames_of([0])[0]).summary.any()


def test_another_graph_is_refused_at_once(tmp_path):
    (tmp_path / "gate.onnx").write_bytes(bundles.gate())
    with pytest.raises(EngineUnusable, match="summary, state and lacks"):
        encoder_of(OrtBackend().open(tmp_path / "gate.onnx"))


@pytest.mark.parametrize("heartbeat_s", [-1.0, float("nan")])
def test_a_heartbeat_before_the_frame_is_refused(vision, heartbeat_s):
    with pytest.raises(ValueError, match="heartbeat_s"):
        encoder_of(vision, heartbeat_s=heartbeat_s)
    with pytest.raises(ValueError, match="settle_s"):
        encoder_of(vision, settle_s=heartbeat_s)


# --- a model that reads motion ---

NINE = FrameInput(
    size_px=(112, 112),
    fps=4,
    resize="squash",
    channels=9,
    mean=(0.5,) * 3 + (0.0,) * 6,
    std=(0.25,) * 3 + MAP_STD,
    motion=MotionInput("block", 7, 16, MAPS),
)


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    """Its tokens are the pixels themselves: what the device feeds can be looked at."""
    path = tmp_path_factory.mktemp("vision") / "vision.onnx"
    graph = model(
        [
            node("Reshape", ["pixels", "shape"], ["tokens"]),
            node("ReduceMean", ["tokens"], ["summary"], axes=[2], keepdims=0),
        ],
        [("pixels", "float32", [1, 9, 112, 112])],
        [("tokens", "float32", [1, 9, 112 * 112]), ("summary", "float32", [1, 9])],
        {"shape": np.array([1, 9, 112 * 112])},
    )
    path.write_bytes(graph)
    return OrtBackend().open(path)


def test_the_device_feeds_what_training_read_bit_by_bit(nine):
    """Clips of the training world have the size of the model's input; a camera has any."""
    random = np.random.default_rng(0)
    clip = np.stack([np.roll(SCENES[0][:112, :112], 3 * step, axis=1) for step in range(5)])
    clip = np.pad(clip, ((0, 0), (0, 112 - clip.shape[1]), (0, 0), (0, 0)), mode="wrap")
    clip[3:] = random.integers(0, 255, clip[3:].shape)
    training = vision_input(clip, clip_maps(clip), NINE)
    encoder = VisionEncoder(nine, NINE, Lane())
    for index, pixels in enumerate(clip):
        features = encoder.encode(Frame(index, index / 4, pixels))
        assert features.tokens.tobytes() == training[index].tobytes()


def test_a_still_frame_keeps_its_tokens_and_has_motion_of_its_own(nine):
    encoder = VisionEncoder(nine, NINE, Lane())
    moved = np.roll(SCENES[0], 8, axis=1)
    seen = [encoder.encode(Frame(i, i / 4, p)) for i, p in enumerate([SCENES[0], moved, moved])]
    assert [one.is_fresh for one in seen] == [True, True, False]
    assert np.shares_memory(seen[2].tokens, seen[1].tokens)
    assert np.abs(seen[1].motion.maps[0]).max() > 4 and not seen[2].motion.maps[0].any()


@pytest.mark.parametrize(
    "changes",
    [
        {"motion": MotionInput("flow", 7, 16, MAPS)},
        {"motion": MotionInput("block", 14, 16, MAPS)},
        {"motion": MotionInput("block", 7, 16, MAPS[:4])},
        {"channels": 7},
        {"std": None},
        {"mean": (0.5,) * 3},
    ],
)
def test_motion_that_is_not_measured_here_is_refused(nine, changes):
    with pytest.raises(EngineUnusable, match="motion"):
        VisionEncoder(nine, replace(NINE, **changes), Lane())


# A load that the governor sets.


def shaken(count, fps=4.0):
    """Frames of one scene, each a little shifted: something moves in every one of them."""
    return [Frame(i, i / fps, np.roll(SCENES[0], 3 * (i % 2), axis=1)) for i in range(count)]


@pytest.mark.medium
@pytest.mark.parametrize("encode_every", [1, 2, 3, 4])
def test_the_encoder_runs_on_every_so_manieth_frame_and_motion_is_of_each(vision, encode_every):
    (plain, _), (spared, engine) = encoder_of(vision), encoder_of(vision)
    spared.carry(Load(encode_every=encode_every))
    seen = [(spared.encode(frame), plain.encode(frame)) for frame in shaken(13)]
    fresh = [index for index, (features, _) in enumerate(seen) if features.is_fresh]
    assert fresh == list(range(0, 13, encode_every)) and engine.runs == len(fresh)
    last = None
    for features, own in seen:
        last = features if features.is_fresh else last
        assert features.tokens is last.tokens or np.shares_memory(features.tokens, last.tokens)
        assert not features.is_still or own.is_still
        np.testing.assert_array_equal(features.motion.maps, own.motion.maps)
        np.testing.assert_array_equal(features.small, own.small)


@pytest.mark.medium
def test_another_scene_is_encoded_whatever_the_load(vision):
    encoder, _ = encoder_of(vision)
    encoder.carry(Load(encode_every=4))
    places = [
        paint_scene(name, 0, 128)[:96, :128].astype(np.uint8) for name in ("street", "garden")
    ]
    scenes = [SCENES[0], *places]
    shown = [scenes[at] for at in (0, 0, 1, 1, 1, 2, 0)]
    fresh = [encoder.encode(Frame(i, i / 4, picture)).is_fresh for i, picture in enumerate(shown)]
    assert fresh == [True, False, True, False, False, True, True]


def test_a_spared_stream_goes_on_exactly_and_a_lighter_load_is_taken_up_at_once(vision):
    whole, first, second = (encoder_of(vision)[0] for _ in range(3))
    for encoder in (whole, first, second):
        encoder.carry(Load(encode_every=4))
    frames = shaken(12)
    expected = [numbers(whole.encode(frame)) for frame in frames]
    told = [numbers(first.encode(frame)) for frame in frames[:6]]
    second.restore(first.snapshot())
    assert told + [numbers(second.encode(frame)) for frame in frames[6:]] == expected
    first.carry(Load())
    assert first.encode(frames[6]).is_fresh
