"""A dialogue along a video as rows of tokens to learn from, written by the device's own renderer.

    Seen(frame) … Seen(frame) Said(assistant) Seen … Said(user) Said(assistant) Seen …

Each frame's last position learns the decision after it: the silent token, or the token with which
the layout begins to speak. A question that a layout answers on a branch is a branch of the row.
A question that nobody answers learns the silent token, as the device takes it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeAlias

from ..runtime.prompt import ANSWER, Encode
from ..runtime.prompt_layout import PromptLayout, Text
from ..runtime.stream_prompt import StreamText
from .dialogue_stream import Said, Step
from .dialogues import USER
from .live_loss import SILENT, SPEAK, STANDBY, WORD
from .packed_prompts import UNLABELLED, PackedRow

OVERLAP = 0.25
"""Share of a row that repeats the end of the row before, unlearned: a stream has a past."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame, and the decision that is learned after it; None for none."""

    frame: int
    state: int | None


Atom: TypeAlias = Seen | Said


@dataclass(slots=True, eq=False)
class LiveRow(PackedRow):
    """See `PackedRow`; `answers` holds the learned words of each text, under who began it.

    Attributes:
        states: what each label is: WORD, or the state after a frame; 0 where there is no label.
        decisions: (frame, token) of each learned decision, in order.
    """

    states: list[int] = field(default_factory=list)
    decisions: list[tuple[int, int]] = field(default_factory=list)

    def add(self, parent: int, token: int) -> int:
        """Append a token behind another one; its number."""
        self.ids.append(token)
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
        self.labels.append(UNLABELLED)
        self.states.append(0)
        return len(self.ids) - 1

    def learn(self, at: int, token: int, state: int = WORD) -> None:
        """What is to follow a token."""
        self.labels[at], self.states[at] = token, state


def atoms_of(steps: Sequence[Step], times_s: Sequence[float], standby_s: float = 0.0) -> list[Atom]:
    """The frames and texts of a dialogue, one by one.

    Args:
        steps: of `streamed`.
        times_s: of all frames, seconds.
        standby_s: frames so shortly before the assistant speaks are on standby, seconds.
    """
    found: list[Atom] = []
    for step in steps:
        if isinstance(step, Said):
            found.append(step)
            continue
        last = step.first + step.count - 1
        for frame in range(step.first, last + 1):
            state = SILENT
            if step.speaks and times_s[last] - times_s[frame] < standby_s:
                state = STANDBY
            if step.speaks and frame == last:
                state = SPEAK
            found.append(Seen(frame, state if frame - step.first < step.learned else None))
    return found


def stretches(
    costs: Sequence[int], may_begin: Sequence[bool], most: int, first: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """(begin, learned from, end) of the stretches that a long dialogue is cut into.

    Each takes about `most` tokens, and begins with the last quarter of the one before, which is not
    learned twice.

    Args:
        costs: tokens of each atom, 1 or more.
        may_begin: a stretch may begin, and so another one end, before this atom.
        most: tokens of a stretch; one that may not end there is longer.
        first: tokens of the first one, so that other places are cut at each time; None for `most`.
    """
    ends = [0, *accumulate(costs)]
    begin = learned = 0
    limit = most if first is None else first
    while learned < len(costs):
        end = max(learned + 1, bisect_right(ends, ends[begin] + limit) - 1)
        while end < len(costs) and not may_begin[end]:
            end += 1
        yield begin, learned, end
        learned, limit = end, most
        begin = bisect_right(ends, ends[end] - int(OVERLAP * most) - 1)
        while begin < end and not may_begin[begin]:
            begin += 1


class RowWriter:
    """Writes rows.

    Args:
        layout: of the model; it has a silent token.
        encode: text → token ids, nothing added before or after.
        tokens_per_frame: rows of a frame's embeds.
    """

    def __init__(self, layout: PromptLayout, encode: Encode, tokens_per_frame: int) -> None:
        self._layout, self._encode, self._tokens = layout, encode, tokens_per_frame
        silent = layout.silent_ids
        text = StreamText(layout, encode)
        text.frame_prefix()
        speak = layout.speak_ids[:1] or text.describe()[:1]
        self._state_ids = {SILENT: silent[0], STANDBY: silent[-1], SPEAK: speak[0]}

    def costs(self, atoms: Sequence[Atom]) -> list[int]:
        """About how many tokens each takes."""
        return [
            self._tokens + 1 if isinstance(one, Seen) else 4 + len(self.answer_ids(one.text))
            for one in atoms
        ]

    def answer_ids(self, text: str) -> tuple[int, ...]:
        """A text as it follows the beginning of an answer, without a stop token."""
        begun = "".join(
            piece.text
            for piece in self._layout.segments.get("assistant", ())
            if isinstance(piece, Text)
        )
        joined = _before_answer(self._layout)
        lead = joined.rpartition(begun)[2] if begun and begun in joined else ""
        whole, opening = tuple(self._encode(begun + lead + text)), tuple(self._encode(begun))
        if opening and whole[: len(opening)] == opening:
            return whole[len(opening) :]
        return tuple(self._encode(lead + text))

    def row(self, atoms: Sequence[Atom], times_s: Sequence[float], learn_from: int = 0) -> LiveRow:
        """The row of some atoms.

        Args:
            atoms: of one dialogue.
            times_s: of all frames of its video, for layouts that write times.
            learn_from: atoms before this one are context.
        """
        row, text, at = LiveRow(), StreamText(self._layout, self._encode), -1
        now_s: float | None = None
        for number, atom in enumerate(atoms):
            learns = number >= learn_from
            if isinstance(atom, Seen):
                now_s = times_s[atom.frame]
                at = self._see(row, text, at, atom, now_s, learns)
            elif atom.role == USER:
                following = atoms[number + 1] if number + 1 < len(atoms) else None
                answer = following if isinstance(following, Said) else None
                at = self._asked(row, text, at, atom, answer, now_s, learns)
            elif not (number and isinstance(atoms[number - 1], Said)):
                at = _added(row, at, text.describe(now_s))
                at = self._said(row, text, at, atom, learns, "describe")
        return row

    def _see(
        self, row: LiveRow, text: StreamText, at: int, seen: Seen, time_s: float, learns: bool
    ) -> int:
        at = _added(row, at, text.frame_prefix(time_s))
        for number in range(self._tokens):
            at = row.add(at, 0)
            row.places.append((at, seen.frame, number))
        if learns and seen.state is not None:
            row.learn(at, self._state_ids[seen.state], seen.state)
            row.decisions.append((seen.frame, at))
        return at

    def _asked(
        self,
        row: LiveRow,
        text: StreamText,
        at: int,
        asked: Said,
        answer: Said | None,
        time_s: float | None,
        learns: bool,
    ) -> int:
        """A question with its answer, if any; where the stream goes on."""
        place, trunk = text.snapshot(), at
        at = _added(row, at, text.ask(asked.text, time_s))
        at = self._said(row, text, at, answer, learns, "answer")
        if self._layout.question_on_branch:
            text.restore(place)
            return trunk
        return at

    def _said(
        self, row: LiveRow, text: StreamText, at: int, said: Said | None, learns: bool, kind: str
    ) -> int:
        """What the assistant says; None: nothing, which is the silent token."""
        if said is None:
            ids = self._layout.silent_ids[:1]
        else:
            ids = (*self.answer_ids(said.text), self._layout.stop_ids[0])
        learned = []
        for number, token in enumerate(ids):
            if learns and (said is None or said.learn):
                row.learn(at, token)
                learned.append(at)
            if number + 1 < len(ids):  # the last one is written before whatever follows
                at = row.add(at, token)
        text.answered(ids[-1])
        if learned:
            row.answers.append((kind, learned))
        return at


def _added(row: LiveRow, at: int, ids: Sequence[int]) -> int:
    for token in ids:
        at = row.add(at, token)
    return at


def _before_answer(layout: PromptLayout) -> str:
    """The literal text just before an answer in earlier dialogue."""
    text = ""
    for piece in layout.dialogue_turn:
        if piece == ANSWER:
            return text
        text = text + piece.text if isinstance(piece, Text) else ""
    return ""
