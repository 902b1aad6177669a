"""Stage 2: the narrator learns on text alone, then on cached streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from ..evaluation.world import Clip
from ..models.gate_files import GateMeaning
from ..models.reference_model import ReferenceModel
from .clip_truths import ClipTruths, some_moments
from .narrator_reading import FrameParts, Read, read
from .own_sentences import OwnSentences
from .packed_prompts import PackedRow, packed
from .reference_recipe import Recipe
from .stream_examples import (
    LAST_FRAMES,
    QUESTION_KINDS_OF_TEXT,
    Entry,
    Writer,
    dialogue_before,
    late,
    recent_frames,
    told,
    truth_near,
    with_silent,
)
from .team import Team
from .token_cache import TokenCache, frame_parts
from .two_optimisers import MuonAndAdamW

TEXT_QUESTIONS = 16
"""Of a clip in the text-only curriculum."""
MODES = {"memory": 0.70, "keyframes": 0.12, "last": 0.12, "all": 0.06}
"""What questions are shown: remembered frames with what was said of them, without it, the last 16
frames, all frames."""
DIALOGUE, LATE, FORCED = 0.3, 0.15, 0.12
"""Shares: of moments with talk before them, of key frames that come a frame late, of questions
about now that are shown memory all the same."""
OWN_SHARE = 0.75
"""Of clips whose memory is the model's own, once it may be."""
MOST_HIDDEN = 2
"""Frames that memory may lag behind: what was just said is heard at the next frame."""


class NarratorStage(ABC):
    """What both narrator stages have in common; see `training_loop.Stage`.

    Args:
        model: narrator and connector are trained.
        recipe: of the run.
        team: who takes part; each process reads clips of its own.
        device: of the model.
    """

    name = ""
    along = (0.0, 1.0)

    def __init__(
        self, model: ReferenceModel, recipe: Recipe, team: Team, device: str = "cpu"
    ) -> None:
        self.model, self.recipe, self.team, self.device = model, recipe, team, device

    @abstractmethod
    def losses(self, step: int, progress: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Of each stage's own."""

    def tensors(self) -> dict[str, Tensor]:
        """The whole model."""
        return {f"model.{name}": one for name, one in self.model.state_dict().items()}

    def optimiser(self) -> MuonAndAdamW:
        """Muon for the matrices of the narrator's layers."""
        trained = {
            **{f"narrator.{name}": one for name, one in self.model.narrator.named_parameters()},
            **{f"connector.{name}": one for name, one in self.model.connector.named_parameters()},
        }
        matrices = {name for name, one in trained.items() if one.ndim == 2 and ".layers." in name}
        return MuonAndAdamW(trained, matrices)

    def rng(self, step: int) -> np.random.Generator:
        """Of one step of this process: a matter of the recipe alone."""
        stage = {"text": 2, "stream": 3}[self.name]
        return np.random.default_rng([self.recipe.seed, stage, step, self.team.rank])


class TextStage(NarratorStage):
    """Questions about what was told, without a picture: endless fresh clips, nothing rendered.

    Source: the trial: nothing was learned as fast from pixels.
    """

    name = "text"
    along = (0.0, 0.27)

    def __init__(
        self, model: ReferenceModel, recipe: Recipe, team: Team, writer: Writer, device: str = "cpu"
    ) -> None:
        super().__init__(model, recipe, team, device)
        self._writer = replace(writer, tokens_per_frame=0)

    def losses(self, step: int, progress: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Of one batch of clips, each a row."""
        recipe, rng = self.recipe, self.rng(step)
        truths = ClipTruths(recipe.cache_frames, questions=3 * TEXT_QUESTIONS)
        first = (step * self.team.size + self.team.rank) * recipe.text_clips
        clips = [truths.of(recipe.clip_seed("text", first + at)) for at in range(recipe.text_clips)]
        rows = [row for row in (self._row(clip, rng) for clip in clips) if row.answers]
        seen = read(self.model, rows, None, self.device)
        facts = {f"right_{kind}": share for kind, share in seen.right.items()}
        return {"text": seen.loss}, {**facts, "tokens": float(seen.tokens)}

    def _row(self, clip: Clip, rng: np.random.Generator) -> PackedRow:
        asked = [one for one in clip.questions if one.kind in QUESTION_KINDS_OF_TEXT]
        chosen = [asked[at] for at in sorted(rng.permutation(len(asked))[:TEXT_QUESTIONS])]
        memory = told(clip)
        return packed(
            [self._writer.asked(one, memory, is_forced=True) for one in chosen],
            self.model.config.tokens_per_frame,
        )


class StreamStage(NarratorStage):
    """Sentences and answers about cached streams, in the layout of the device.

    Args:
        cache: of this process.
        meaning: thresholds by which the gate fires.
        writer: of the layout.
        teacher: the narrator is to say what this one says, and memory holds its sentences; None:
            what is true, and its own.
        first_token: see `read`.
    """

    name = "stream"
    along = (0.27, 1.0)

    def __init__(
        self,
        model: ReferenceModel,
        recipe: Recipe,
        team: Team,
        cache: TokenCache,
        meaning: GateMeaning,
        writer: Writer,
        device: str = "cpu",
        teacher: ReferenceModel | None = None,
        first_token: float = 1.0,
    ) -> None:
        super().__init__(model, recipe, team, device)
        self._cache, self._writer, self._teacher = cache, writer, teacher
        self._first_token = first_token
        self._truths = ClipTruths(recipe.cache_frames)
        self._fired = cache.spoken(meaning)
        self._own = OwnSentences(teacher or model, cache, self._fired, writer, device)

    def losses(self, step: int, progress: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Of a few described frames and a few clips with questions."""
        recipe, rng = self.recipe, self.rng(step)
        described = self._described(rng)
        asked = [self._asked(rng, progress) for _ in range(recipe.stream_clips)]
        asked = [one for one in asked if one[1].answers]
        first, second = self._read(described), self._read(asked)
        facts = {f"right_{kind}": share for kind, share in {**first.right, **second.right}.items()}
        facts["tokens"] = float(first.tokens + second.tokens)
        return {"describe": first.loss, "answer": second.loss}, facts

    def _read(self, rows: Sequence[tuple[int, PackedRow]]) -> Read:
        parts = self._parts(rows)
        packed_rows = [row for _, row in rows]
        return read(self.model, packed_rows, parts, self.device, self._teacher, self._first_token)

    def _parts(self, rows: Sequence[tuple[int, PackedRow]]) -> FrameParts:
        clips = [clip for clip, _ in rows]

        def parts(pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
            return frame_parts(self._cache, [(clips[row], f) for row, f in pairs], self.device)

        return parts

    def _described(self, rng: np.random.Generator) -> list[tuple[int, PackedRow]]:
        """(clip, row) of each described frame: true ones, those of the gate, and silent ones."""
        found: list[tuple[int, PackedRow]] = []
        while len(found) < self.recipe.described:
            clip = int(rng.integers(len(self._cache.seeds)))
            truth = self._truths.of(self._cache.seeds[clip])
            kind = rng.random()
            if kind < 0.5:
                frames = [one.frame for one in late(told(truth), len(truth.narration), rng, LATE)]
            elif kind < 0.85:
                frames = np.flatnonzero(self._fired[clip]).tolist()
            else:
                frames = [int(rng.integers(1, len(truth.narration)))]
            for frame in rng.permutation(frames)[:4]:
                before = []
                if rng.random() < DIALOGUE:
                    before = dialogue_before(truth.questions, int(frame), rng)
                text = truth_near(truth, int(frame))
                example = self._writer.described(int(frame), text, before)
                found.append((clip, packed([example], self.model.config.tokens_per_frame)))
        return found[: self.recipe.described]

    def _asked(self, rng: np.random.Generator, progress: float) -> tuple[int, PackedRow]:
        """(clip, row) of questions about one clip, all in one mode."""
        clip = int(rng.integers(len(self._cache.seeds)))
        truth = self._truths.of(self._cache.seeds[clip])
        frames = len(truth.narration)
        mode = str(rng.choice(list(MODES), p=list(MODES.values())))
        entries = late(told(truth), frames, rng, LATE)
        if progress >= self.recipe.own_from and rng.random() < OWN_SHARE:
            entries = self._own.of(clip, progress)
        if mode == "keyframes":
            entries = [Entry(entry.frame) for entry in entries]
        memory = with_silent(entries, frames, rng)
        examples = []
        moment, lag, before = -1, 0, []
        for question in some_moments(truth.questions, rng):
            if question.frame != moment:
                moment, lag = question.frame, int(rng.integers(MOST_HIDDEN + 1))
                is_talk = rng.random() < DIALOGUE
                before = dialogue_before(truth.questions, moment, rng) if is_talk else []
            known = [entry for entry in memory if entry.frame <= moment - lag or not entry.frame]
            shown = None
            if mode in ("last", "all"):
                known = []
                most = LAST_FRAMES if mode == "last" else frames
                shown = recent_frames(moment, most, every=1)
            forced = mode in ("memory", "keyframes") and rng.random() < FORCED
            examples.append(self._writer.asked(question, known, before, shown, is_forced=forced))
        return clip, packed(examples, self.model.config.tokens_per_frame)
