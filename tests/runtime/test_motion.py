"""Stage 0: light is no motion, noise is stillness, and the state is all there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.motion import NOISE_FRAMES, MotionDetector, thumbnail_summary
from edgestream.runtime.preprocess import SMALL_PX
from edgestream.runtime.scripted_scenes import paint_scene
from edgestream.runtime.values import Frame, Motion, UInt8

WORLD = paint_scene("room", 3, 200)


def picture(
    *, right: float = 0.0, light: float = 1.0, noise: float = 0.0, seed: int = 0, scene: int = 0
) -> UInt8:
    """A (112, 112, 3) window of a painted room, displaced, lit and noisy."""
    left = 300 + 150 * scene - round(right)
    window = WORLD[120 : 120 + 224, left : left + 224]
    small = window.reshape(SMALL_PX, 2, SMALL_PX, 2, 3).mean((1, 3)) * light
    small = small + np.random.default_rng(seed).normal(0, noise, small.shape)
    return np.asarray(np.clip(small + 0.5, 0, 255), np.uint8)


def same(one: Motion, other: Motion) -> bool:
    fields = [name for name in Motion.__dataclass_fields__ if name != "maps"]
    return np.array_equal(one.maps, other.maps) and all(
        getattr(one, name) == getattr(other, name) for name in fields
    )


def after(first: UInt8, second: UInt8) -> Motion:
    detector = MotionDetector()
    detector.step_small(first, 0.0)
    return detector.step_small(second, 0.25)


def test_a_first_frame_has_nothing_to_compare() -> None:
    motion = MotionDetector().step(Frame(0, 0.0, np.zeros((9, 16, 3), np.uint8)))
    assert motion.is_first and not motion.is_still
    assert motion.maps.shape == (6, 7, 7) and not motion.maps.any()


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.5])
def test_sensor_noise_is_stillness(noise: float) -> None:
    detector = MotionDetector()
    seen = [detector.step_small(picture(noise=noise, seed=i), i / 4) for i in range(20)]
    assert all(motion.is_still for motion in seen[1:])
    assert all(motion.found == 1.0 and motion.moving == 0.0 for motion in seen[1:])


def test_slow_exposure_drift_is_stillness() -> None:
    detector = MotionDetector()
    seen = [
        detector.step_small(picture(noise=1.0, seed=i, light=1 + 0.1 * np.sin(i / 4.5)), i / 4)
        for i in range(40)
    ]
    assert np.mean([motion.is_still for motion in seen[1:]]) > 0.95
    assert max(motion.moving for motion in seen) == 0.0


def test_compression_that_pulses_is_no_movement() -> None:
    rng, detector = np.random.default_rng(0), MotionDetector()
    coarse = rng.normal(0, 1.5, (14, 14)).repeat(8, 0).repeat(8, 1)[..., None]
    for i in range(30):
        pulse = coarse if i % 12 == 0 else 0 * coarse
        small = np.clip(picture(noise=0.7, seed=i) + pulse, 0, 255).astype(np.uint8)
        assert detector.step_small(small, i / 4).moving < 0.012


@pytest.mark.parametrize("light", [0.25, 0.5, 0.8, 1.3, 2.0])
def test_a_change_of_light_is_measured_and_is_no_motion(light: float) -> None:
    motion = after(picture(noise=0.5, seed=1), picture(noise=0.5, seed=2, light=light))
    assert motion.light_stops == pytest.approx(np.log2(light), abs=0.15)
    assert motion.shift_px == (0.0, 0.0) and motion.moving < 0.03
    assert motion.found > 0.8 and not motion.is_still


@pytest.mark.parametrize("right", [6, -16, 40, 100])
def test_a_camera_that_turns_shifts_the_whole_picture(right: int) -> None:
    motion = after(picture(noise=0.5, seed=1), picture(right=right, noise=0.5, seed=2))
    assert motion.shift_px == pytest.approx((right / 2, 0.0), abs=0.4)
    assert motion.agreement > 0.8 and motion.found > 0.5


def test_what_moves_by_itself_is_not_the_camera() -> None:
    before, now = (picture(noise=0.5, seed=i).copy() for i in (1, 2))
    patch = picture(scene=1)[30:60, 30:60]
    before[20:50, 20:50], now[20:50, 30:60] = patch, patch
    motion = after(before, now)
    assert motion.shift_px == (0.0, 0.0)
    assert 0.02 < motion.moving < 0.2 and not motion.is_still


def test_something_large_and_bright_is_no_change_of_light() -> None:
    before, now = (picture(noise=0.5, seed=i).copy() for i in (1, 2))
    now[20:90, 30:90] = np.minimum(picture(scene=1)[20:90, 30:90].astype(int) + 90, 255)
    assert abs(after(before, now).light_stops) < 0.08


def test_a_lamp_at_one_side_is_no_movement() -> None:
    before = picture(noise=0.5, seed=1)
    falls = np.linspace(0.35, 0.8, SMALL_PX)[None, :, None]
    now = (picture(noise=0.5, seed=2) * falls).astype(np.uint8)
    motion = after(before, now)
    assert motion.light_stops < -0.6 and motion.moving < 0.05


def test_another_scene_is_not_found_again() -> None:
    motion = after(picture(), picture(scene=2))
    assert motion.recognisable > 0.5 and motion.found < 0.25


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 255), (255, 0), (128, 128)])
def test_plain_pictures_can_be_told_from_nothing(first: int, second: int) -> None:
    plain = [np.full((SMALL_PX, SMALL_PX, 3), level, np.uint8) for level in (first, second)]
    motion = after(*plain)
    assert motion.recognisable == 0.0 and motion.moving == 0.0
    assert motion.is_still == (first == second)


SMALL = st.tuples(st.integers(0, 2), st.integers(-30, 30), st.floats(0.0, 2.5), st.integers(0, 9))


@pytest.mark.medium
@settings(max_examples=15, deadline=None)
@given(st.lists(SMALL, max_size=6), st.data())
def test_a_snapshot_goes_on_and_reset_is_fresh(
    drawn: list[tuple[int, int, float, int]], data: st.DataObject
) -> None:
    fps = data.draw(st.sampled_from([4, 20, 120]))
    frames = [
        (i / fps, picture(scene=s, right=r, light=g, noise=n, seed=n))
        for i, (s, r, g, n) in enumerate(drawn)
    ]
    cut = data.draw(st.integers(0, len(frames)))
    whole, first, second = MotionDetector(), MotionDetector(), MotionDetector()
    expected = [whole.step_small(frame, t) for t, frame in frames]
    got = [first.step_small(frame, t) for t, frame in frames[:cut]]
    second.restore(first.snapshot())
    got += [second.step_small(frame, t) for t, frame in frames[cut:]]
    first.reset()
    again = [first.step_small(frame, t) for t, frame in frames]
    assert all(same(a, b) and same(a, c) for a, b, c in zip(expected, got, again, strict=True))
    for motion in expected:
        numbers = (
            motion.found,
            motion.palette,
            motion.agreement,
            motion.moving,
            motion.light_share,
        )
        assert all(0.0 <= number <= 1.0 + 1e-6 for number in numbers)
        assert np.isfinite(motion.maps).all() and np.isfinite(motion.light_stops)


def test_a_restored_detector_remembers_the_noise() -> None:
    first, second, fresh = MotionDetector(), MotionDetector(), MotionDetector()
    for i in range(10):
        first.step_small(picture(noise=6.0, seed=i), i / 4)
    second.restore(first.snapshot())
    for seed in (50, 51):
        now = picture(noise=0.1, seed=seed)
        seen = [detector.step_small(now, seed / 4).noise for detector in (first, second, fresh)]
    assert seen[0] == seen[1] > 2 * seen[2]


@pytest.mark.medium
def test_the_history_is_bounded() -> None:
    detector = MotionDetector()
    for i in range(NOISE_FRAMES + 9):
        detector.step_small(picture(noise=1, seed=i), i / 4)
    state = detector.snapshot()
    assert len(state.noise) == len(state.change) == NOISE_FRAMES


@pytest.mark.parametrize("fps", [4, 8, 15, 24, 30, 120])
def test_a_fast_stream_is_compared_with_a_picture_an_eighth_of_a_second_back(fps: int) -> None:
    detector = MotionDetector()
    frame = picture(noise=0.5)
    # Files round times to a millisecond.
    times = [round(1 / 16 + i / fps, 3) for i in range(fps)]
    seen = [(time_s, detector.step_small(frame, time_s)) for time_s in times]
    kept = [(time_s, motion) for time_s, motion in seen[1:] if not motion.is_between]
    assert all(0.123 <= motion.over_s <= 0.126 + 1 / fps for _, motion in kept)
    assert all(motion.over_s < 0.124 for _, motion in seen if motion.is_between)
    steps = np.diff([times[0], *[time_s for time_s, _ in kept]])
    assert [motion.over_s for _, motion in kept] == pytest.approx(list(steps))
    assert len(detector.snapshot().noise) == len(kept)


def test_frames_between_see_a_cut_at_once_and_leave_the_noise_alone() -> None:
    detector = MotionDetector()
    detector.step_small(picture(), 0.0)
    between = detector.step_small(picture(scene=2), 0.01)
    assert between.is_between and between.found < 0.25
    assert detector.snapshot().noise == ()


def coded(level: float, seed: int) -> UInt8:
    """A plain grey picture as a codec leaves it: a few blocks that stand two levels off."""
    off = 2 * (np.random.default_rng(seed).random((14, 14)) < 0.1)
    blocks = level + off.repeat(8, 0).repeat(8, 1)[..., None]
    return np.asarray(np.broadcast_to(blocks, (SMALL_PX, SMALL_PX, 3)), np.uint8)


@pytest.mark.parametrize("level", [40.0, 128.0, 220.0])
def test_what_a_codec_does_to_a_plain_picture_is_no_movement(level: float) -> None:
    detector = MotionDetector()
    plain = np.full((SMALL_PX, SMALL_PX, 3), level, np.uint8)
    # At rest for a while, so that the running noise is low; then one key frame.
    seen = [detector.step_small(plain, i / 4) for i in range(8)]
    seen += [detector.step_small(coded(level, i), 2 + i / 4) for i in range(4)]
    assert all(motion.moving == 0.0 for motion in seen)


def test_a_covered_lens_is_another_scene_unless_the_light_went_out() -> None:
    room = picture(noise=0.5)
    level = float(room.mean())
    grey, black = np.full_like(room, round(level)), np.full_like(room, round(0.05 * level))
    for motion in (after(room, grey), after(grey, room)):
        assert motion.recognisable > 0.5 and motion.found < 0.1
    bright, white = picture(noise=0.5, light=1.6), np.full_like(room, 255)
    assert bright.mean() > 130
    for motion in (after(room, black), after(black, room), after(bright, white)):
        assert motion.recognisable == 0.0


def test_a_thumbnail_has_unit_length_and_ignores_light() -> None:
    vector = thumbnail_summary(picture())
    assert vector.dtype == np.float32 and np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    assert vector @ thumbnail_summary(picture(light=0.5)) > 0.99
    assert vector @ thumbnail_summary(picture(scene=2)) < 0.9
    assert not thumbnail_summary(np.full((SMALL_PX, SMALL_PX, 3), 90, np.uint8)).any()
