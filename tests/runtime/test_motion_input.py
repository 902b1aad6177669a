"""The input of a vision graph: the same numbers on the device and in training."""

from __future__ import annotations

from itertools import islice

import numpy as np

from edgestream.runtime.manifest_values import FrameInput, MotionInput
from edgestream.runtime.motion import MotionDetector
from edgestream.runtime.motion_input import MAP_STD, MAPS, clip_maps, clip_motion, vision_input
from edgestream.runtime.preprocess import model_pixels
from edgestream.runtime.scripted import render
from edgestream.runtime.scripted_stories import SCRIPTS

MOTION = MotionInput("block", 7, 16, MAPS)
NINE = FrameInput((112, 112), 4.0, "squash", channels=9, mean=(0.5,) * 3 + (0.0,) * 6,
                  std=(0.25,) * 3 + MAP_STD, motion=MOTION)  # fmt: skip


def clip(frames=8):
    script = next(iter(SCRIPTS.values()))
    pictures = islice(render(script, 4.0, 3, (112, 112)), frames)
    return np.stack([pixels for _, pixels in pictures])


def test_the_maps_of_a_clip_are_those_of_a_stream():
    pixels, detector = clip(), MotionDetector()
    for index, maps in enumerate(clip_maps(pixels)):
        assert np.array_equal(detector.step_small(pixels[index], index / 4).maps, maps)


def test_still_frames_of_a_clip_are_those_of_a_stream():
    pixels, detector = clip()[[0, 1, 1, 2, 2, 2]], MotionDetector()
    maps, is_still = clip_motion(pixels, [index / 4 for index in range(6)])
    for index in range(6):
        motion = detector.step_small(pixels[index], index / 4)
        assert is_still[index] == motion.is_still and np.array_equal(maps[index], motion.maps)
    assert is_still.any() and not is_still.all()


def test_a_batch_is_its_frames_bit_by_bit():
    pixels = clip()
    maps = clip_maps(pixels)
    batch = vision_input(pixels, maps, NINE)
    assert batch.shape == (8, 9, 112, 112) and batch.dtype == np.float32
    for index in range(8):
        one = vision_input(pixels[index], maps[index], NINE)
        assert one.tobytes() == batch[index : index + 1].tobytes()


def test_each_cell_fills_its_share_of_the_picture():
    maps = np.random.default_rng(0).standard_normal((6, 7, 7)).astype(np.float32)
    pixels = np.full((112, 112, 3), 51, np.uint8)
    found = vision_input(pixels, maps, NINE)[0]
    assert np.allclose(found[:3], (0.2 - 0.5) / 0.25)
    for row, column in ((0, 0), (15, 16), (111, 47), (64, 111)):
        cell = maps[:, row // 16, column // 16]
        assert np.allclose(found[3:, row, column], cell / np.asarray(MAP_STD))


def test_a_model_of_three_colours_sees_no_maps():
    three = FrameInput((112, 112), 4.0, "squash", mean=(0.1,) * 3, std=(0.2,) * 3)
    pixels = clip(1)[0]
    maps = np.full((6, 7, 7), np.nan, np.float32)
    assert np.array_equal(vision_input(pixels, maps, three), model_pixels(pixels, three))


def test_sides_that_cells_do_not_divide_are_filled():
    pixels = np.zeros((30, 50, 3), np.uint8)
    maps = np.arange(6 * 49, dtype=np.float32).reshape(6, 7, 7)
    found = vision_input(pixels, maps, NINE)
    assert found.shape == (1, 9, 30, 50)
    assert set((found[0, 3] * MAP_STD[0]).round().astype(int).ravel()) == set(range(49))
