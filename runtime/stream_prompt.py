"""The text of a continuous stream: what stands between frames, questions and answers.

Think of a text that is written once and never corrected. Each method gives the token ids to write
next and remembers where the text then stands:

    start ── frame_prefix ──> frames ── frame_prefix ──> frames          a frame is appended
      │                         │
      └── ask, describe ────────┴──> answering ── answered ──> answered  an answer is written
                                                                 └── frame_prefix, ask, describe
Source: VideoLLM-online (arXiv 2406.11816), its template and inference loop at e2c78ec; differs: a
question before any frame is preceded by the system text, one after an answer closes no stretch of
frames that was never opened, and an answer that was cut is ended with the stop token before frames
open again. The original writes "]" or goes on in the middle of the sentence there, which it was
never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .prompt import (
    Encode,
    Filled,
    Shown,
    answer_ending,
    answer_pieces,
    filled,
    question_pieces,
    runs,
)
from .prompt_layout import Ids, PromptLayout, Slot, Text


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where the text stands.

    Attributes:
        after: what was written last.
        pending: the rest of the last frame's segment, which is written before whatever follows.
        last_id: last token of the answer, which is not written yet; None where there is none.
    """

    after: Literal["nothing", "frames", "answer"] = "nothing"
    pending: tuple[Text | Ids, ...] = ()
    last_id: int | None = None


class StreamText:
    """Writes the text of a stream. State: one `StreamPlace`.

    Args:
        layout: of the model.
        encode: text → token ids, nothing added before or after.
    """

    def __init__(self, layout: PromptLayout, encode: Encode) -> None:
        self._layout, self._encode = layout, encode
        frame = layout.segments.get("frame", ())
        cut = frame.index(Slot("embeds")) if Slot("embeds") in frame else len(frame)
        self._before, self._after = frame[:cut], frame[cut + 1 :]
        self.reset()

    @property
    def is_begun(self) -> bool:
        """Something was written."""
        return self._place.after != "nothing"

    def reset(self) -> None:
        """Starts again: nothing is written."""
        self._place = StreamPlace()

    def snapshot(self) -> StreamPlace:
        """The state, to be put back by `restore`: also after an append that failed."""
        return self._place

    def restore(self, place: StreamPlace) -> None:
        """Continues from a state as if nothing had been between."""
        self._place = place

    def system_ids(self) -> tuple[int, ...]:
        """What the stream begins with, whatever comes first."""
        bos = self._layout.bos_id
        system = self._pieces("system") if "system" in self._layout.order else ()
        return (() if bos is None else (bos,)) + self._encoded(system)

    def frame_prefix(self, time_s: float | None = None) -> tuple[int, ...]:
        """What stands before the next frame; its embeds follow.

        At the start the system text and the opening; between frames what joins them, which says
        that the one before was passed over in silence; after an answer its end and the opening.
        """
        is_open = self._place.after == "frames"
        between = self._pieces("frame_join" if is_open else "frame_open")
        ids = self._ids([*between, *filled(self._layout, self._before, time_s)])
        rest = filled(self._layout, self._after, time_s)
        self._place = StreamPlace("frames", tuple(p for p in rest if not isinstance(p, Shown)))
        return ids

    def ask(self, question: str, time_s: float | None = None) -> tuple[int, ...]:
        """The question, up to where its answer begins; closes the frames where they are open."""
        is_open = self._place.after == "frames"
        asking = question_pieces(self._layout, is_open)
        pieces = [
            *(self._pieces("frame_close") if is_open else ()),
            *filled(self._layout, asking, time_s, {"question": question}),
            *filled(self._layout, answer_pieces(self._layout, True), time_s),
        ]
        return self._answering(pieces)

    def describe(self, time_s: float | None = None) -> tuple[int, ...]:
        """Where an answer begins that nobody asked for; closes the frames where they are open."""
        is_open = self._place.after == "frames"
        answer = answer_pieces(self._layout, is_open)
        pieces = [
            *(self._pieces("frame_close") if is_open else ()),
            *filled(self._layout, answer, time_s),
        ]
        return self._answering(pieces)

    def answered(self, last_id: int | None) -> None:
        """The answer is over.

        Args:
            last_id: its last token, a stop token or not, which has not been appended
                (`answer_tokens`); None where there is none.
        """
        self._place = replace(self._place, last_id=last_id)

    def _answering(self, pieces: Sequence[Filled]) -> tuple[int, ...]:
        ids = self._ids(pieces)
        self._place = StreamPlace("answer")
        return ids

    def _pieces(self, kind: str) -> tuple[Filled, ...]:
        return tuple(filled(self._layout, self._layout.segments.get(kind, ())))

    def _ids(self, pieces: Sequence[Filled]) -> tuple[int, ...]:
        """Ids of what is still to be written and of the pieces."""
        if self._place.after == "nothing":
            bos = self._layout.bos_id
            system = self._pieces("system") if "system" in self._layout.order else ()
            return (() if bos is None else (bos,)) + self._encoded([*system, *pieces])
        if self._place.after == "frames":
            return self._encoded([*self._place.pending, *pieces])
        return self._end_of_answer(pieces)

    def _end_of_answer(self, pieces: Sequence[Filled]) -> tuple[int, ...]:
        """The last token, one stop token, and what follows."""
        last_id, stop_ids = self._place.last_id, self._layout.stop_ids
        ids = self._encoded([*filled(self._layout, answer_ending(self._layout)), *pieces])
        if ids and ids[0] in stop_ids:
            ids = ids[1:]
        if last_id is None:
            return (stop_ids[0], *ids)
        return (last_id, *ids) if last_id in stop_ids else (last_id, stop_ids[0], *ids)

    def _encoded(self, pieces: Sequence[Filled]) -> tuple[int, ...]:
        return tuple(
            token
            for run in runs(pieces, self._encode)
            if not isinstance(run, Shown)
            for token in run
        )
