"""What every peer of the GPU benchmark can do, whatever runs it: see, read, speak, make room."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from gpu_models import Random
from torch import Tensor

from edgestream.runtime.eviction import Span

QUESTION_TOKENS = 32
REFILL_TOKENS = 256


class Peer(ABC):
    """One way to run a model; tokens of its cache lie on the device.

    Args:
        model: with random weights; peers of PyTorch share it.

    Attributes:
        held_bytes: of the device's memory that opening it took, where that can be seen.
        label: what runs, in words.
        is_exact: it computes with the weights as they are; its logits must be the baseline's.
        speaks: it has a language model; without one it watches alone.
    """

    label = ""
    is_exact: ClassVar[bool] = True
    speaks: ClassVar[bool] = True

    def __init__(self, model: Random) -> None:
        self.model = model
        self.state: tuple[Tensor, ...] = model.watch.first_state()
        # As a camera's picture arrives: in the computer's memory, from which a GPU can fetch it.
        side = model.shape.side_px
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randint(0, 256, (4, 1, side, side, 3), dtype=torch.uint8,
                               generator=generator)  # fmt: skip
        self._pixels = pixels.pin_memory() if model.device.type == "cuda" else pixels
        self._seen = 0
        self.held_bytes = 0

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens in the cache."""

    @property
    @abstractmethod
    def n_bytes(self) -> int:
        """Of weights and cache."""

    @abstractmethod
    def reset(self) -> None:
        """An empty cache."""

    @abstractmethod
    def read(self, embeds: Tensor) -> Tensor:
        """Put embeds (1, tokens, hidden) into the cache; logits of the last one, (vocabulary,)."""

    @abstractmethod
    def step(self, token: int) -> int:
        """Put a token into the cache; the likeliest one behind it."""

    @abstractmethod
    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The watch path of one picture in the computer's memory: scores and embeds."""

    def activate(self) -> None:  # noqa: B027
        """It is this peer's turn; peers of PyTorch share one model and set how it attends."""

    def make_room(self, tokens: int) -> None:  # noqa: B027
        """So many tokens are about to be read; a growing cache does nothing."""

    def note(self, kind: str, tokens: int) -> None:  # noqa: B027
        """So many tokens were read; a growing cache does nothing."""

    def settle(self) -> None:
        """Wait until the device has done what it was told."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)

    def watch(self) -> Tensor:
        """The next picture through the watch path; its scores are read, its embeds returned."""
        scores, embeds = self.look(self._pixels[self._seen % len(self._pixels)])
        self._seen += 1
        scores.max().item()
        return embeds

    def take_frame(self) -> None:
        """See a frame and put it into the cache, with the token that joins frames."""
        embeds = self.watch()
        join = self.model.embed(torch.tensor([[2]], device=self.model.device))
        rows = torch.cat([embeds, join], dim=1)
        self.make_room(rows.shape[1])
        self.read(rows)
        self.note("frame", rows.shape[1])

    def refill(self, frames: int) -> None:
        """As after so many frames of a stream; what it said of them does not matter for time."""
        self.fill(frames * (self.model.shape.frame_tokens + 1))

    def fill(self, tokens: int) -> None:
        """An empty cache, then so many tokens in it, or what it holds of them."""
        self.reset()
        left, frame = tokens, self.model.shape.frame_tokens + 1
        most = min(REFILL_TOKENS, self.model.shape.capacity // 4)
        while left > 0:
            # In whole frames, so that they can leave as frames do.
            size = min(left, frame * max(most // frame, 1))
            self.make_room(size)
            self.read(self.embeds(size))
            for begin in range(0, size, frame):
                self.note("frame", min(frame, size - begin))
            left -= size

    def embeds(self, tokens: int, seed: int = 3) -> Tensor:
        """Embeds of random tokens, (1, tokens, hidden); the same ones for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        most = self.model.shape.text["vocab_size"]
        ids = torch.randint(3, most, (1, tokens), generator=generator)
        return self.model.embed(ids.to(self.model.device))

    def answer(self, tokens: int, after: int = 5) -> list[int]:
        """So many greedy tokens behind this one; each is read back, as a stop must be found."""
        said = []
        for _ in range(tokens):
            self.make_room(1)
            after = self.step(after)
            self.note("text", 1)
            said.append(after)
        return said

    def first_token_s(self) -> float:
        """Seconds from a question about what is in the cache to the first token of its answer."""
        question = self.embeds(QUESTION_TOKENS, seed=4)
        self.make_room(QUESTION_TOKENS + 1)
        self.settle()
        begun_s = time.perf_counter()
        int(self.read(question).argmax().item())
        taken_s = time.perf_counter() - begun_s
        self.note("text", QUESTION_TOKENS)
        return taken_s

    def _noted(self, kind: str, tokens: int) -> Span:
        return Span("text" if kind == "text" else "frame", tokens, float(self._seen))
