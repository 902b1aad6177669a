"""What a reference assistant said before, taught along with what is new, so that it stays known.

Sentences and questions of the rendered world, in the prompts of the device (the contexts `recent`
and `recall`), are read in every step beside the dialogues: an adapter that was trained on one
layout alone forgets the others. What is to be learned there is not what is true but what the base
says, rounded as it will run, and how surely: its mistakes are its own, and a few hundred clips
would teach others.

Source: learning without forgetting (Li and Hoiem, arXiv 1606.09282); differs: the old task has
examples of its own, which are rendered.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..models.reference_checkpoint import load_reference
from ..models.reference_layout import encoder_of, reference_layout
from ..runtime.errors import CheckpointInvalid
from .lora_model import LoraModel
from .narrator_stages import StreamStage
from .reference_recipe import QUICK
from .rounded_layers import round_, rounding_named
from .stream_examples import Writer
from .team import Team
from .token_cache import CLIPS_AT_ONCE, fill_cache, open_cache

DESCRIBED, ASKED_CLIPS = 12, 4
"""Frames that are described, and clips that are asked about, in a step of each process."""
WEIGHT = 30.0
"""Of the rehearsal beside what is new: a divergence of .02 nats a word costs points already, and
weighs little beside a word that nobody has learned yet."""
FIRST_TOKEN = 4.0
"""Of an answer beside each of its others: it decides whether the answer is "I cannot tell."."""
OTHER_SEEDS, OTHER_LOOKS = 1000, 600
"""Of clips, and of what they are made of, that no base was trained on: what a model says there, and
how surely, is what it knows; of its training clips it is too sure."""
ALWAYS = 0.0
"""Share of a stage after which memory may hold what the model said, true or not: the base does not
change, so that it can from the beginning, as on the device."""


class Rehearsal:
    """Losses of the rendered world, one batch a step.

    Args:
        model: adapted; of the family `reference`.
        base: folder of its checkpoint.
        folder: where frozen features of the clips lie; they are made where they are not there.
        team: each process reads clips of its own.
        clips: of each process.
        seed: of the clips.

    Cost: to begin with, some 0.3 s a clip on one core; 0.8 s for each step.
    """

    def __init__(
        self, model: LoraModel, base: Path, folder: Path, team: Team, clips: int, seed: int
    ) -> None:
        count = -(-clips // CLIPS_AT_ONCE) * CLIPS_AT_ONCE
        recipe = replace(
            QUICK, seed=OTHER_SEEDS + seed, first_look=OTHER_LOOKS, processes=team.size,
            cache_clips=count, described=DESCRIBED, stream_clips=ASKED_CLIPS, own_from=ALWAYS,
        )  # fmt: skip
        teacher, tokenizer, meaning = load_reference(base)
        if model.shape.round_to:
            round_(teacher.narrator, rounding_named(model.shape.round_to))
        teacher.to(model.device).eval().requires_grad_(False)
        try:
            cache = open_cache(folder, team.rank)
        except CheckpointInvalid:  # not there yet, or not whole
            fill_cache(folder, teacher, recipe, team, lambda done: False)
            cache = open_cache(folder, team.rank)
        adapted: Any = load_reference(base)[0]
        adapted.narrator, adapted.connector = model.decoder, model.decoder.connector

        def text(ids: Any) -> str:
            return str(tokenizer.decode(list(ids)))

        writer = Writer(
            reference_layout(tokenizer), encoder_of(tokenizer), text,
            teacher.config.tokens_per_frame,
        )  # fmt: skip
        self._stage = StreamStage(
            adapted, recipe, team, cache, meaning, writer, model.device, teacher, FIRST_TOKEN
        )

    def losses(self, step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        """`describe` and `answer`, how far from the base; and shares of what was wholly right."""
        terms, facts = self._stage.losses(step, 0.0)
        terms = {name: WEIGHT * one for name, one in terms.items()}
        return terms, {name: one for name, one in facts.items() if name != "tokens"}
