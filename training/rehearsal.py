"""What the reference assistant knew already, taught along with what is new, so that it stays known.

Sentences and questions of the rendered world, in the prompts of the device (the contexts `recent`
and `recall`), are read in every step beside the dialogues: an adapter that was trained on one
layout alone forgets the others.
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
from .stream_examples import Writer
from .team import Team
from .token_cache import CLIPS_AT_ONCE, fill_cache, open_cache

DESCRIBED, ASKED_CLIPS = 6, 2
"""Frames that are described, and clips that are asked about, in a step of each process."""
NEVER = 2.0
"""Share of a stage after which the model reads sentences of its own: its truth is enough here."""


class Rehearsal:
    """Losses of the rendered world, one batch a step.

    Args:
        model: adapted; of the family `reference`.
        base: folder of its checkpoint.
        folder: where frozen features of the clips lie; they are made where they are not there.
        team: each process reads clips of its own.
        clips: of each process.
        seed: of the clips.

    Cost: to begin with, some 0.1 s a clip on one core; as much again for each step.
    """

    def __init__(
        self, model: LoraModel, base: Path, folder: Path, team: Team, clips: int, seed: int
    ) -> None:
        count = -(-clips // CLIPS_AT_ONCE) * CLIPS_AT_ONCE
        recipe = replace(
            QUICK, seed=seed, processes=team.size, cache_clips=count, described=DESCRIBED,
            stream_clips=ASKED_CLIPS, own_from=NEVER,
        )  # fmt: skip
        reference, tokenizer, meaning = load_reference(base)
        try:
            cache = open_cache(folder, team.rank)
        except CheckpointInvalid:  # not there yet, or not whole
            reference.to(model.device).eval()
            fill_cache(folder, reference, recipe, team, lambda done: False)
            cache = open_cache(folder, team.rank)
        adapted: Any = reference
        adapted.narrator, adapted.connector = model.decoder, model.decoder.connector

        def text(ids: Any) -> str:
            return str(tokenizer.decode(list(ids)))

        writer = Writer(
            reference_layout(tokenizer), encoder_of(tokenizer), text,
            reference.config.tokens_per_frame,
        )  # fmt: skip
        self._stage = StreamStage(adapted, recipe, team, cache, meaning, writer, model.device)

    def losses(self, step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        """`describe` and `answer`, means over their words; and shares of what was wholly right."""
        terms, facts = self._stage.losses(step, 0.0)
        return terms, {name: one for name, one in facts.items() if name != "tokens"}
