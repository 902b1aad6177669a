"""The model card of a reference assistant: what it was trained on, what it is true about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .reference_recipe import QUICK

_CARD = """# Reference assistant

A small video assistant that watches a camera, says what happens in one sentence and answers
questions about now and about what it has seen. EdgeStream trained it itself, from random weights,
on clips that a program renders (`evaluation/world`); no photograph, no video and no text of anybody
was used. It exists so that everything can be tried and tested offline.

- Licence: Apache-2.0.
- Input: RGB pictures of 112 x 112 at about 4 frames/s, and six motion maps made of them.
- Parts: vision 1.3 M, gate 0.5 M, connector 0.05 M, narrator 1.6 M parameters.
- Vocabulary: the words of the rendered world; any other word of a question is unknown to it.

## Training

Seed {seed}, {processes} process(es), {clips_seen} clips of {frames} frames
(in the end {late_frames}) for vision and gate, {clips_cached} cached clips and {text_clips} clips
of text for the narrator. The same again:

    edgestream train reference --out DIR --seed {seed} {options}\\
        --processes {processes} --steps {steps}

Sums of floating-point numbers depend on the machine, so another machine gives other digits.

## Measured

Gate, on {held_out_clips} held-out clips of 40 frames, rendered with training's rules,
within one frame; thresholds were chosen on {calibration_clips} others:

| figure | value |
|---|---|
{figures}

`edgestream eval reference --checkpoint DIR` measures everything on the frozen set.

## What it is true about, and what not

It is made to be true about scene, light and camera: cuts, fades, darker and brighter, pans, zooms.
It is only indicative about objects: which one, its colour, whether it starts, stops or leaves. In
real footage people and hands are no objects of its world. It says "I cannot tell." where its world
has no answer; outside of that world it may be wrong and sound sure. It is no safety device.
"""


def model_card(trained: Mapping[str, Any], held_out: Mapping[str, float]) -> str:
    """MODEL_CARD.md.

    Args:
        trained: seed, steps and what else is kept in config.json.
        held_out: figures of the gate on held-out clips.
    """
    recipe = trained["recipe"]
    lengths = {name: recipe[name] for name in ("frames", "late_frames")}
    options = "--quick " if recipe["looks"] == QUICK.looks else ""
    figures = "\n".join(f"| {name} | {value:.2f} |" for name, value in held_out.items())
    return _CARD.format(figures=figures, options=options, **trained, **lengths)
