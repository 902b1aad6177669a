"""A decoder whose logits are scripted: it sees, in its cache, exactly what a real one would.

Each row of its embedding table is its own id, a frame's rows are -1 less its number, and every
value in the cache is the row that was written there. So a script is given what the model has before
it, as text, also after evictions, branches and faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.manifest import CacheShape, Positions, TensorSpec
from edgestream.runtime.motion_value import Motion
from edgestream.runtime.prompt_layout import Ids, PromptLayout, Slot, Text
from edgestream.runtime.token_rows import TokenRows
from edgestream.runtime.values import Features, Observed

VOCABULARY, HIDDEN, HEAD = 256, 2, 2
BOS, STOP, SILENT, SPEAK = 1, 2, ord(","), ord("]")
CACHE = [1, 1, "past", HEAD]
FRAME_ROWS = 3
ONE_AXIS = Positions(axes=1, theta=10000.0)

# VideoLLM-online's stream, a character a token.
LAYOUT = PromptLayout(
    segments={
        "system": (Text("S\n"),),
        "memory_entry": (Text("\n<"), Slot("embeds"), Text(">")),
        "frame_open": (Text("\n["),),
        "frame": (Slot("embeds"),),
        "frame_join": (Text(","),),
        "frame_close": (Text("]\n"),),
        "user": (Text("User: "), Slot("question"), Text("\n")),
        "assistant": (Text("Assistant:"),),
    },
    dialogue_turn=(
        Text("\nUser: "),
        Slot("question"),
        Text("\nAssistant: "),
        Slot("answer"),
        Ids((STOP,)),
    ),
    order=("system", "memory_entry*", "dialogue_turn*", "frame*", "user", "assistant"),
    stop_ids=(STOP,),
    silent_ids=(SILENT,),
    speak_ids=(SPEAK,),
    bos_id=BOS,
    max_answer_tokens=16,
)


def encode(text: str) -> list[int]:
    """A token a character."""
    return [ord(character) for character in text]


def decode(ids: Sequence[int]) -> str:
    """The characters of the tokens."""
    return "".join(map(chr, ids))


class ScriptedDecoder:
    """An engine that asks a script; it can be told to fail at a given run.

    Args:
        script: (what is in the cache, as text) → probability per token; the rest share what is
            left. A frame is one `#` and its number, however many rows it has.
        faults: number of a run → what it raises, or None for logits that are NaN.
        axes: of `position_ids`, which it then takes and checks for their shape; 0 for none.
    """

    def __init__(
        self,
        script: Callable[[str], Mapping[int, float]],
        faults: Mapping[int, Exception | None] | None = None,
        dtype: str = "float32",
        axes: int = 0,
    ) -> None:
        self.provider = "cpu"
        self.is_closed = False
        self.runs = self.tokens = 0
        self.seen: list[str] = []
        self.inputs = (
            TensorSpec("inputs_embeds", "float32", (1, "tokens", HIDDEN)),
            TensorSpec("attention_mask", "int64", (1, "total")),
            TensorSpec("past_key_values.0.key", dtype, tuple(CACHE)),
            TensorSpec("past_key_values.0.value", dtype, tuple(CACHE)),
        )
        self.outputs = (
            TensorSpec("logits", "float32", (1, 1, VOCABULARY)),
            TensorSpec("present.0.key", dtype, (1, 1, "total", HEAD)),
            TensorSpec("present.0.value", dtype, (1, 1, "total", HEAD)),
        )
        if axes:
            ids = TensorSpec("position_ids", "int64", (axes, 1, "tokens"))
            self.inputs = (*self.inputs, ids)
        self._axes = axes
        self._script = script
        self._faults = dict(faults or {})

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.is_closed = True

    def bind(self, inputs, outputs):
        return _Call(self, dict(inputs), outputs)

    def step(self, inputs, outputs) -> None:
        """One run on bound arrays."""
        self.runs += 1
        self.tokens += inputs["inputs_embeds"].shape[1]
        embeds, total = inputs["inputs_embeds"], inputs["attention_mask"].shape[1]
        if self._axes:
            assert inputs["position_ids"].shape == (self._axes, 1, embeds.shape[1])
        values = outputs["present.0.value"]
        values[0, 0, total - embeds.shape[1] : total, 0] = embeds[0, :, 0]
        outputs["present.0.key"][0, 0, total - embeds.shape[1] : total] = 1.0
        text = text_of(values[0, 0, :total, 0])
        self.seen.append(text)
        if self.runs in self._faults:
            fault = self._faults[self.runs]
            if fault is not None:
                raise fault
            outputs["logits"][...] = np.nan
            return
        outputs["logits"][0, 0] = logits_of(self._script(text))


class _Call:
    def __init__(self, engine: ScriptedDecoder, inputs, outputs) -> None:
        self._engine, self._inputs, self._outputs = engine, inputs, outputs

    def run(self, inputs=None) -> None:
        self._inputs.update(inputs or {})
        self._engine.step(self._inputs, self._outputs)


def text_of(rows: Sequence[float]) -> str:
    """What is in the cache: `^` for the first token, `$` for the stop token, `#3` for frame 3."""
    written, frame_rows = [], 0
    for row in rows:
        frame_rows = frame_rows + 1 if row < 0 else 0
        if row >= 0:
            written.append({BOS: "^", STOP: "$"}.get(int(row), chr(int(row))))
        elif frame_rows % FRAME_ROWS == 1:
            written.append(f"#{int(-row - 1)}")
    return "".join(written)


def logits_of(wanted: Mapping[int, float]) -> np.ndarray:
    """Logits whose softmax gives these tokens these probabilities."""
    rest = max(1.0 - sum(wanted.values()), 0.0) / (VOCABULARY - len(wanted))
    shares = np.full(VOCABULARY, max(rest, 1e-12))
    for token, share in wanted.items():
        shares[token] = max(share, 1e-12)
    return np.log(shares / shares.sum()).astype(np.float32)


def scripted_model(
    engine: ScriptedDecoder,
    capacity: int = 256,
    chunk_tokens: int = 16,
    lane=None,
    positions: Positions = ONE_AXIS,
) -> LanguageModel:
    """A language model around it."""
    arena = Arena(CacheShape(1, 1, HEAD, capacity), positions)
    table = np.repeat(np.arange(VOCABULARY, dtype=np.float32)[:, None], HIDDEN, axis=1)
    return LanguageModel(
        engine, arena, TokenRows(table), lane or OpenLane(), chunk_tokens=chunk_tokens
    )


def observed(number: int, *, fps: float = 2.0, is_fresh: bool = True, **more) -> Observed:
    """Frame `number` on its way into the session."""
    embeds = np.full((FRAME_ROWS, HIDDEN), -1.0 - number, np.float32)
    motion = Motion(np.zeros((6, 7, 7), np.float32))
    features = Features(number / fps, embeds, np.ones(1, np.float32), motion, False, is_fresh)
    return Observed(features, embeds, **more)
