"""Streams that are painted and written here: a coloured shape, then another, and talk about them.

Each supervised token is determined by what came before it: the stream is silent while the picture
stays, speaks when it changes, and answers questions about the two pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgestream.models.live_layout import LivePrompt, live_layout

from .checkpoints import SYSTEM

SIDE_PX = 64
COLOURS = {"red": (220, 40, 40), "green": (40, 190, 60), "blue": (50, 80, 230),
           "yellow": (230, 210, 50), "white": (235, 235, 235), "pink": (230, 110, 190)}  # fmt: skip
SHAPES = ("circle", "square", "cross", "bar")


def painted(colour: str, shape: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """(64, 64, 3) uint8 RGB: the shape somewhere on a dark, noisy ground."""
    ground = random.integers(10, 50) + random.normal(0, 6, (SIDE_PX, SIDE_PX, 3))
    size = int(random.integers(14, 20))
    x, y = random.integers(size + 2, SIDE_PX - size - 2, 2)
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    down, right = np.abs(rows - y), np.abs(columns - x)
    is_in = {
        "circle": np.hypot(down, right) <= size,
        "square": np.maximum(down, right) <= size * 0.85,
        "cross": (np.minimum(down, right) <= size / 4) & (np.maximum(down, right) <= size),
        "bar": (down <= size / 3) & (right <= size),
    }[shape]
    ground[is_in] = np.array(COLOURS[colour]) + random.normal(0, 6, (int(is_in.sum()), 3))
    return ground.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class StreamSequence:
    """Token ids, with -1 - p for the tokens of picture p, and which of them are supervised."""

    ids: tuple[int, ...]
    is_target: tuple[bool, ...]


class StreamWriter:
    """Writes sequences in the layout of the family."""

    def __init__(self, tokenizer: Tokenizer, names: Iterable[tuple[str, str]]) -> None:
        self._tokenizer = tokenizer
        self._layout = live_layout(LivePrompt(SYSTEM, "</s>", "<s>"), tokenizer)
        names = list(names)
        self._of = {name: [i for i, other in enumerate(names) if other == name] for name in names}

    def sequence(self, random: np.random.Generator) -> StreamSequence:
        """One stream: a thing, another thing, what is said about it, two questions."""
        kinds = list(self._of)
        before, now = (kinds[i] for i in random.choice(len(kinds), 2, replace=False))
        count = int(random.integers(1, 4))
        pieces: list[tuple[list[int], bool]] = [
            ([self._layout.bos_id or 0, *self._ids(SYSTEM + "\n")], False),
            (self._ids("\n["), False),
        ]
        for index in range(count + 1):
            name = now if index == count else before
            pieces.append(([-1 - int(random.choice(self._of[name]))] * 10, False))
            pieces.append((self._ids("]\n" if index == count else ","), True))
        said = f" The {' '.join(before)} went away and a {' '.join(now)} came."
        pieces += [(self._ids("Assistant:"), False), (self._ids(said) + self._stop, True)]
        for which in random.choice(4, 2, replace=False):
            question, answer = self._exchange(int(which), before, now, count)
            pieces.append((self._ids(f"\nUser: {question}\nAssistant:"), False))
            pieces.append((self._ids(f" {answer}") + self._stop, True))
        ids = [token for part, _ in pieces for token in part]
        return StreamSequence(tuple(ids), tuple(flag for part, flag in pieces for _ in part))

    def _exchange(
        self, which: int, before: tuple[str, str], now: tuple[str, str], count: int
    ) -> tuple[str, str]:
        numbers, colours = ("one frame", "two frames", "three frames"), list(COLOURS)
        colour = colours[(colours.index(now[0]) + 1) % len(colours)]
        shape = SHAPES[(SHAPES.index(now[1]) + 1) % len(SHAPES)]
        return (
            ("What is there now?", f"There is a {' '.join(now)} in the picture now."),
            ("What was there before?", f"Before that there was a {' '.join(before)}."),
            ("How long?", f"The {' '.join(before)} stayed for {numbers[count - 1]}."),
            ("What comes next?", f"After {now[0]} comes {colour}, after {now[1]} comes {shape}."),
        )[which]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @property
    def _stop(self) -> list[int]:
        return list(self._layout.stop_ids)


def grammar_text() -> str:
    """Text that the tokenizer learns from: what the grammar can say."""
    exchanges = "\nUser: What is there now?\nAssistant: There is a in the picture now."
    exchanges += "\nUser: What was there before?\nAssistant: Before that there was a."
    exchanges += "\nUser: How long?\nAssistant: The stayed for one frame two frames three frames."
    exchanges += "\nUser: What comes next?\nAssistant: After comes, after comes."
    exchanges += f"\n[,]\nAssistant: The went away and a came. {SYSTEM}\n"
    names = " ".join(f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES)
    return f"{names}. {exchanges}" * 3
