"""Pictures show what is told: checked against the pixels, and by a gate that knows no truth."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from edgestream.evaluation.event_scores import decisions_of, nearest_pairs
from edgestream.evaluation.world import WorldRules, render_clip
from edgestream.evaluation.world.backgrounds import LEAST_TEXTURE, background, plainness
from edgestream.evaluation.world.event_types import COLOURS
from edgestream.evaluation.world.paint import sampled
from edgestream.evaluation.world.sensor import CHROMA, LUMA, jpeg_round_trip
from edgestream.evaluation.world.simulate import states
from edgestream.evaluation.world.sprites import many_coloured_sprite, plain_sprite
from edgestream.runtime.gate_change import ChangeGate

CLEAN = WorldRules(looks=6, jpeg=0.0, noisy=0.0, hard_negatives=0.0)


def test_black_light_and_cuts_are_in_the_pixels() -> None:
    seen = set()
    for seed in (0, 4, 6, 9, 11, 13):
        clip = render_clip(seed, 40, CLEAN)
        assert clip.pixels is not None
        level = clip.pixels.mean(axis=(1, 2, 3))
        for event in clip.events:
            seen.add(event.kind)
            before, now = level[max(event.frame - 4, 0) : event.frame], level[event.frame]
            if event.kind == "fade_out":
                assert now < 8 < before[-1]
            elif event.kind == "fade_in":
                assert before[-1] < 8 < now
            elif event.kind == "dark":
                assert now < 0.8 * before.max()
            elif event.kind == "bright":
                assert now > 1.1 * before.min()
            elif event.kind == "cut":
                pair = clip.pixels[event.frame - 1 : event.frame + 1].astype(np.float32)
                assert abs(pair[1] - pair[0]).mean() > 8
    assert {"fade_out", "fade_in", "dark", "bright", "cut"} <= seen


def test_bars_are_black_and_things_are_where_the_labels_say() -> None:
    rules = WorldRules(looks=6, letterbox=1.0, jpeg=0.0, hard_negatives=0.0, noisy=0.0)
    clip = render_clip(5, 10, rules)
    assert clip.pixels is not None
    assert not clip.pixels[:, :4].any() and not clip.pixels[:, -4:].any()
    assert not clip.labels.patch_colour[:, 0].all()
    whole = render_clip(1, 1, CLEAN)
    for state in islice(states(1, CLEAN), 1):
        for item in state.items:
            x, y = int((item.left + item.right) / 2), int((item.top + item.bottom) / 2)
            want = COLOURS.index(str(item.thing.colour)) + 1
            assert whole.labels.patch_colour[0, y // 16, x // 16] == want


def test_backgrounds_have_texture_and_no_strong_colour() -> None:
    for number in range(8):
        picture = background(number).astype(np.float32) / 255
        assert picture.shape == (336, 336, 3)
        assert plainness(picture.mean(axis=-1)) > 0.7 * LEAST_TEXTURE
        assert np.ptp(picture, axis=-1).mean() < 0.3


@pytest.mark.parametrize("colour", COLOURS)
def test_a_plain_thing_has_the_colour_of_its_name(colour: str) -> None:
    """By a rule of hue and brightness that knows nothing of how it was painted."""
    for number in range(4):
        sprite = plain_sprite(number, colour, number % 2 == 0)[0].astype(np.float32)
        r, g, b = (float(v) for v in np.median(sprite[20:44, 20:44, :3].reshape(-1, 3), axis=0))
        if colour in ("white", "black"):
            assert max(r, g, b) - min(r, g, b) < 40 and (min(r, g, b) > 150 or max(r, g, b) < 60)
        else:
            strongest = {"red": r, "orange": r, "yellow": r, "green": g}.get(colour, b)
            assert strongest > max(r, g, b) - 40
            if colour in ("orange", "yellow"):
                assert (g / r > 0.68) == (colour == "yellow")


def test_what_has_many_colours_changes_its_shape() -> None:
    for number in range(4):
        poses = many_coloured_sprite(number)
        assert poses.shape == (8, 64, 64, 4)
        assert np.any(poses[0] != poses[1]) and (poses[..., 3] > 128).mean() > 0.1


def test_sampling_is_bilinear() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (9, 8, 3)).astype(np.uint8)
    down, across = (np.sort(rng.uniform(-1, 9, 5)).astype(np.float32) for _ in range(2))
    got = sampled(picture, down, across)
    for i, y in enumerate(down):
        for j, x in enumerate(across):
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            corners = [
                [
                    picture[min(max(y0 + a, 0), 8), min(max(x0 + b, 0), 7)].astype(float)
                    for b in (0, 1)
                ]
                for a in (0, 1)
            ]
            fy, fx = y - y0, x - x0
            want = (corners[0][0] * (1 - fx) + corners[0][1] * fx) * (1 - fy)
            want = want + (corners[1][0] * (1 - fx) + corners[1][1] * fx) * fy
            assert np.allclose(got[i, j], want, atol=0.05)


def test_jpeg_is_the_transform_of_the_standard() -> None:
    """Against the sum of cosines written out, block by block."""
    rng = np.random.default_rng(1)
    grey = np.clip(rng.normal(120, 40, (16, 16)), 0, 255).astype(np.uint8)
    got = jpeg_round_trip(np.repeat(grey[..., None], 3, axis=2), 50)[..., 0].astype(float)
    k = np.arange(8)
    basis = (
        np.cos((2 * k[None] + 1) * k[:, None] * np.pi / 16)
        * np.where(k == 0, 8**-0.5, 0.5)[:, None]
    )
    for y in (0, 8):
        for x in (0, 8):
            block = grey[y : y + 8, x : x + 8].astype(float) - 128
            kept = np.rint(basis @ block @ basis.T / LUMA) * LUMA
            want = np.clip(basis.T @ kept @ basis + 128, 0, 255)
            assert abs(got[y : y + 8, x : x + 8] - want).max() <= 1.5
    assert CHROMA.shape == LUMA.shape
    fine = jpeg_round_trip(np.repeat(grey[..., None], 3, axis=2), 98)
    assert abs(fine[..., 0].astype(int) - grey).mean() < 2


@pytest.mark.slow
def test_a_gate_without_any_truth_finds_what_is_told() -> None:
    """Cuts, brightening and pans, with the way the camera turns: the labels are in the pixels."""
    found, true, ways = dict.fromkeys(("cut", "bright", "pan"), 0), {}, []
    for seed in range(50):
        clip = render_clip(seed, 40)
        assert clip.pixels is not None
        decisions = decisions_of(zip(clip.time_s, clip.pixels, strict=True), ChangeGate())
        for kind in found:
            want = [event for event in clip.events if event.kind == kind]
            opened = [e for decision in decisions for e in decision.opened if e.event == kind]
            pairs = nearest_pairs([e.opened_s for e in opened], [w.frame / 4 for w in want], 0.26)
            found[kind] += len(pairs)
            true[kind] = true.get(kind, 0) + len(want)
            if kind == "pan":
                ways += [opened[i].attributes["direction"] == want[j].direction for i, j in pairs]
    assert all(found[kind] >= 0.85 * true[kind] for kind in found), (found, true)
    assert np.mean(ways) > 0.97
