"""The adapted model watches a stream freely: at every frame it is silent or speaks, in PyTorch.

What decides is the device's own gate `token`, what is written its own text of a stream; where the
row is full it begins anew, while a device evicts the oldest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from ..runtime.prompt import Encode
from ..runtime.prompt_layout import PromptLayout
from ..runtime.stream_prompt import StreamText
from ..runtime.token_gate import TokenGate
from .dialogues import USER
from .live_rows import Seen
from .lora_data import LiveStream
from .lora_model import LoraModel


@dataclass(frozen=True, slots=True)
class Watcher:
    """Watches streams.

    Attributes:
        model: adapted.
        layout, encode: of its checkpoint.
        most_tokens: after which it begins anew.
        threshold: silence less probable than this is no silence, as `gate.speak_below`.
    """

    model: LoraModel
    layout: PromptLayout
    encode: Encode
    most_tokens: int
    threshold: float = 0.725

    @torch.no_grad()
    def spoken(self, stream: LiveStream) -> list[tuple[float, tuple[int, ...]]]:
        """(time in seconds, token ids) of what it says unasked.

        What the user says is put to it at its time, where the layout leaves it in the stream.

        Cost: a pass of the model for each frame, and one for each token that it says.
        """
        self.model.eval()
        gate = TokenGate(self.layout.silent_ids, threshold=self.threshold)
        reader = _Reader(self)
        said = []
        now_s: float | None = None
        for atom in stream.atoms:
            if isinstance(atom, Seen):
                now_s = float(stream.features.times_s[atom.frame])
                logits = reader.frame(stream, atom.frame, now_s)
                if gate.step(logits, now_s).opened:
                    said.append((now_s, reader.answer(reader.text.describe(now_s))))
            elif atom.role == USER and not self.layout.question_on_branch:
                reader.answer(reader.text.ask(atom.text, now_s))
        return said


class _Reader:
    """The cache of one stream, and where its text stands."""

    def __init__(self, watcher: Watcher) -> None:
        self._model, self._layout = watcher.model, watcher.layout
        self._most = watcher.most_tokens
        self.text = StreamText(watcher.layout, watcher.encode)
        self._cache = DynamicCache()

    def frame(self, stream: LiveStream, frame: int, time_s: float) -> np.ndarray:
        """Logits (vocabulary,) float32 after a frame."""
        if self._cache.get_seq_length() >= self._most:
            self.text.reset()
            self._cache = DynamicCache()
        before = self._rows(self.text.frame_prefix(time_s))
        shown = _embeds(self._model, stream, frame)
        found: np.ndarray = self._read(torch.cat([before, shown], 1)).numpy()
        return found

    def answer(self, ids: Sequence[int]) -> tuple[int, ...]:
        """What it says behind these tokens, the most likely one each time, without a stop token."""
        said: list[int] = []
        stops = {*self._layout.stop_ids}
        token = int(self._read(self._rows(ids)).argmax())
        while True:
            is_veto = not said and token in self._layout.silent_ids
            if token in stops or is_veto or len(said) >= self._layout.max_answer_tokens:
                break
            said.append(token)
            token = int(self._read(self._rows([token])).argmax())
        self.text.answered(token)
        return tuple(said)

    def _read(self, embeds: Tensor) -> Tensor:
        logits: Tensor = self._model.next_logits(embeds, self._cache)[0, -1].float().cpu()
        return logits

    def _rows(self, ids: Sequence[int]) -> Tensor:
        given = torch.tensor([list(ids)], dtype=torch.int64, device=self._model.device)
        return self._model.rows(given)


def _embeds(model: LoraModel, stream: LiveStream, frame: int) -> Tensor:
    """(1, n, hidden) of a frame."""
    features = stream.features
    parts = [features.tokens[frame]] + ([] if features.states is None else [features.states[frame]])
    given = [
        torch.from_numpy(np.asarray(part, np.float32))[None].to(model.device) for part in parts
    ]
    shown: Tensor = model.decoder.connector(*given)
    return shown
