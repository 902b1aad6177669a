"""The pictures of a story: a camera over painted scenes, things on them, light and sensor noise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .scripted import Cut, Move, Placed, Story, Turn, frame_times, gain_at, progress, scene_at
from .scripted_scenes import WORLD_HEIGHT, WORLD_WIDTH, paint_scene
from .scripted_things import paint_thing
from .values import Float32, UInt8

DRIFT_S = 7.0
"""Period of the exposure drift, seconds."""
SWAY_HZ = ((0.4, 1.1, 1.9), (0.5, 0.9, 2.3))
"""Frequencies of a hand, across and along."""
NOISE_MARGIN_PX = 61
"""The bank of noise is this much larger than the picture; each frame reads another place."""


def pictures(
    story: Story, fps: float, seed: int, size_px: tuple[int, int]
) -> Iterator[tuple[float, UInt8]]:
    """The frames of a story, painted scene by scene as it needs them.

    Args:
        story: what happens.
        fps: frames a second.
        seed: of textures and noise.
        size_px: (height, width), px.

    Returns:
        Iterator of (time, seconds; (height, width, 3) uint8 RGB).

    Cost: 1 s for a new scene and about 10 ms a frame at 640 x 360 on one core.
    """
    world = _World(story, seed, size_px)
    for index, time_s in enumerate(frame_times(story.length_s, fps)):
        yield time_s, world.picture(index, time_s)


def _window(picture: Float32, x: float, y: float, height: int, width: int) -> Float32:
    """A window at a fractional place (px), bilinear, kept inside the picture."""
    x = min(max(x, 0.0), picture.shape[1] - width - 1.0)
    y = min(max(y, 0.0), picture.shape[0] - height - 1.0)
    left, top = int(x), int(y)
    right_part, lower_part = np.float32(x - left), np.float32(y - top)
    block = picture[top : top + height + 1, left : left + width + 1]
    rows = block[:-1] + (block[1:] - block[:-1]) * lower_part if lower_part else block[:-1]
    if not right_part:
        return np.array(rows[:, :-1])
    return np.asarray(rows[:, :-1] + (rows[:, 1:] - rows[:, :-1]) * right_part, np.float32)


class _World:
    """Painted scenes and things of one story; only the scene in view is kept."""

    def __init__(self, story: Story, seed: int, size_px: tuple[int, int]) -> None:
        self._story, self._seed = story, seed
        self._height, self._width = size_px
        self._scene_name = ""
        self._scene = np.zeros((0, 0, 3), np.float32)
        names = dict.fromkeys(placed.thing for placed in story.things)
        self._things = {name: paint_thing(name, seed, self._height) for name in names}
        self._phase = np.random.default_rng([seed, 1]).uniform(0, 2 * math.pi, (3, 3))
        margin = NOISE_MARGIN_PX
        self._noise = np.random.default_rng([seed, 2]).standard_normal(
            (self._height + margin, self._width + margin, 3), np.float32
        )

    def picture(self, index: int, time_s: float) -> UInt8:
        """The picture at a time; the index chooses the noise."""
        time_s += 1e-9  # as in `first_time`: a cue at exactly this time has happened
        scene = scene_at(self._story, time_s)
        if scene.scene != self._scene_name:
            self._scene_name = scene.scene
            self._scene = paint_scene(scene.scene, self._seed, self._height)
        x, y = self._camera(scene, time_s)
        view = _window(self._scene, x, y, self._height, self._width)
        for number, placed in enumerate(self._story.things):
            if placed.scene == scene.scene:
                self._lay(view, number, placed, scene, (x, y), time_s)
        drift = math.sin(2 * math.pi * time_s / DRIFT_S + self._phase[2, 0])
        view *= np.float32(gain_at(self._story, time_s) * (1 + self._story.drift * drift))
        down, right = np.random.default_rng([self._seed, 3, index]).integers(
            NOISE_MARGIN_PX, size=2
        )
        noise = self._noise[down : down + self._height, right : right + self._width]
        view += np.float32(self._story.noise) * noise + np.float32(0.5)
        return np.asarray(np.clip(view, 0, 255), np.uint8)

    def _start(self, scene: Cut) -> tuple[float, float]:
        """Where the camera stands at the beginning of a scene, px."""
        free_x = max(WORLD_WIDTH * self._height - self._width, 0.0)
        free_y = (WORLD_HEIGHT - 1) * self._height
        return scene.x * free_x, scene.y * free_y

    def _camera(self, scene: Cut, time_s: float) -> tuple[float, float]:
        x, y = self._start(scene)
        for cue in self._story.cues:
            if isinstance(cue, Turn) and cue.at_s >= scene.at_s:
                x += cue.right * progress(cue, time_s) * self._width
                y += cue.down * progress(cue, time_s) * self._height
        sway = self._story.sway * self._width
        for axis, hertz in enumerate(SWAY_HZ):
            waves = [
                math.sin(2 * math.pi * hz * time_s + p)
                for hz, p in zip(hertz, self._phase[axis], strict=True)
            ]
            if axis == 0:
                x += sway * sum(waves) / 3
            else:
                y += sway * sum(waves) / 3
        return x, y

    def _lay(
        self,
        view: Float32,
        number: int,
        placed: Placed,
        scene: Cut,
        camera: tuple[float, float],
        time_s: float,
    ) -> None:
        """Lays a thing over the view, at a fractional place."""
        start_x, start_y = self._start(scene)
        x = start_x + placed.x * self._width - camera[0]
        y = start_y + placed.y * self._height - camera[1]
        for cue in self._story.cues:
            if isinstance(cue, Move) and cue.thing == number:
                done = progress(cue, time_s)
                x += cue.right * done * self._width
                y += cue.down * done * self._height
                y -= 0.12 * self._height * abs(math.sin(math.pi * cue.hops * done))
        colours, cover = self._things[placed.thing]
        rows, columns = cover.shape
        left, top = x - columns / 2, y - rows / 2
        whole_x, whole_y = math.floor(left), math.floor(top)
        padded = np.pad(np.dstack([colours * cover[..., None], cover]), ((1, 2), (1, 2), (0, 0)))
        moved = _window(padded, 1 - (left - whole_x), 1 - (top - whole_y), rows + 1, columns + 1)
        y0, y1 = max(whole_y, 0), min(whole_y + rows + 1, self._height)
        x0, x1 = max(whole_x, 0), min(whole_x + columns + 1, self._width)
        if y0 >= y1 or x0 >= x1:
            return
        part = moved[y0 - whole_y : y1 - whole_y, x0 - whole_x : x1 - whole_x]
        there = view[y0:y1, x0:x1]
        there *= 1 - part[..., 3:]
        there += part[..., :3]
