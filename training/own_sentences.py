"""The model's own sentences at its own gate's frames: what its memory will hold on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..models.reference_model import ReferenceModel
from .narrator_reading import FrameParts, said
from .stream_examples import Entry, Writer
from .token_cache import TokenCache, frame_parts

CLIPS_AT_ONCE = 12
FRESH_FOR = 0.2
"""Share of the stage after which a clip is told anew: the model has learned meanwhile."""


class OwnSentences:
    """Says what the model says of cached clips. State: what it said, and when in the stage.

    Clips are told a few at a time, when one of them is asked for.

    Args:
        model: narrator and connector are read.
        cache: of this process.
        fired: (N, T) frames at which the gate makes a Turn.
        writer: of the layout.
        device: of the model.
    """

    def __init__(
        self,
        model: ReferenceModel,
        cache: TokenCache,
        fired: NDArray[np.bool_],
        writer: Writer,
        device: str,
    ) -> None:
        self._model, self._cache, self._fired = model, cache, fired
        self._writer, self._device = writer, device
        self._told: dict[int, tuple[float, list[Entry]]] = {}

    def of(self, clip: int, progress: float) -> list[Entry]:
        """What was said of a clip; the first frame is an entry in any case.

        Args:
            clip: number in the cache.
            progress: share of the stage that is done.
        """
        told = self._told.get(clip)
        if told is None or progress - told[0] > FRESH_FOR:
            some = [(clip + at) % len(self._cache.seeds) for at in range(CLIPS_AT_ONCE)]
            for number, entries in zip(some, self.say(some), strict=True):
                self._told[number] = progress, entries
            told = self._told[clip]
        return told[1]

    def say(self, clips: Sequence[int]) -> list[list[Entry]]:
        """Entries of some clips."""
        found: dict[int, dict[int, str]] = {clip: {0: ""} for clip in clips}
        wanted = [
            (clip, int(frame)) for clip in found for frame in np.flatnonzero(self._fired[clip])
        ]
        stop = self._writer.layout.stop_ids[0]
        prompts = {one: self._writer.described(one[1], "") for one in wanted}
        lengths = sorted({len(prompt.ids) for prompt in prompts.values()})
        for length in lengths:
            group = [one for one in wanted if len(prompts[one].ids) == length]
            lines = said(
                self._model, [prompts[one] for one in group], self._parts(group), stop, self._device
            )
            for (clip, frame), line in zip(group, lines, strict=True):
                is_silent = bool(set(line) & set(self._writer.layout.silent_ids))
                found[clip][frame] = "" if is_silent else self._writer.text(line)
        return [
            [Entry(frame, text) for frame, text in sorted(found[clip].items())] for clip in clips
        ]

    def _parts(self, group: Sequence[tuple[int, int]]) -> FrameParts:
        def parts(pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
            return frame_parts(self._cache, [(group[row][0], f) for row, f in pairs], self._device)

        return parts
