"""What is timed of a peer: rounds of short measurements, half minutes of a stream, agreement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from gpu_peer import Peer

WATCH, PREFILL, APPEND, DECODE, QUESTION = "watch", "prefill", "append", "decode", "first_token"
FORCED_TOKENS = 16
HALF_MINUTE_S = 30.0
COSINE_MUST = 0.99
"""Two ways to compute the same in half precision stay far above it; another model is far below."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: in which the peers take turns.
        frames, prefills, appends, tokens, questions: samples of each in one round; one more comes
            before them, and does not count.
        minutes: of the stream whose speeds are compared, the first and the last.
    """

    rounds: int = 3
    frames: int = 40
    prefills: int = 3
    appends: int = 12
    tokens: int = 48
    questions: int = 3
    minutes: tuple[int, int] = (1, 10)

    @property
    def stretches(self) -> int:
        """Half minutes of the stream."""
        return 2 * self.minutes[1]


TINY_PLAN = Plan(rounds=2, frames=8, prefills=2, appends=4, tokens=8, questions=2)


def measured_round(peer: Peer, plan: Plan) -> dict[str, list[float]]:
    """Seconds of every sample of one round, by metric; those of a token or a frame."""
    peer.activate()
    taken = {WATCH: _timed(peer, peer.watch, plan.frames)}
    if not peer.speaks:
        return taken
    shape = peer.model.shape
    prompt = peer.embeds(shape.prefill_tokens)

    def prefill() -> None:
        peer.reset()
        peer.read(prompt).argmax().item()

    taken[PREFILL] = _timed(peer, prefill, plan.prefills)
    peer.fill(shape.capacity // 2)
    frame = peer.embeds(shape.frame_tokens + 1)

    def append() -> None:
        peer.read(frame).argmax().item()
        peer.note("frame", frame.shape[1])

    taken[APPEND] = []
    for _ in range(1 + plan.appends):
        peer.make_room(frame.shape[1])  # an eviction is no part of reading; the stream counts it
        taken[APPEND] += _timed(peer, append, 1, warm_up=False)
    taken[APPEND] = taken[APPEND][1:]
    taken[DECODE] = []
    for _ in range(1 + plan.tokens):
        peer.make_room(1)
        taken[DECODE] += _timed(peer, lambda: peer.answer(1), 1, warm_up=False)
    taken[DECODE] = taken[DECODE][1:]
    taken[QUESTION] = [peer.first_token_s() for _ in range(1 + plan.questions)][1:]
    return taken


def stretch(peer: Peer) -> list[float]:
    """Half a minute of the stream, as fast as it goes, each frame seen and put into the cache.

    Returns:
        Frames, seconds of all, and the median of one.
    """
    peer.activate()
    frames = max(round(peer.model.shape.fps * HALF_MINUTE_S), 1)
    taken = _timed(peer, peer.take_frame, frames, warm_up=False)
    return [frames, sum(taken), median(taken)]


def logits_behind(peer: Peer) -> torch.Tensor:
    """Logits behind a prompt, behind a frame, and behind some tokens one by one, on the CPU."""
    peer.activate()
    peer.reset()
    shape = peer.model.shape
    prompt = peer.embeds(shape.prefill_tokens // 2)
    told = [_kept(peer.read(prompt))]
    peer.note("frame", prompt.shape[1])
    frame = peer.embeds(shape.frame_tokens + 1, seed=6)
    told.append(_kept(peer.read(frame)))
    peer.note("frame", frame.shape[1])
    for row in peer.embeds(FORCED_TOKENS, seed=7).unbind(1):
        peer.make_room(1)
        told.append(_kept(peer.read(row[:, None])))
        peer.note("text", 1)
    return torch.stack(told)


def _kept(logits: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU: the next call of some peers writes over what they gave."""
    return logits.to("cpu", torch.float32, copy=True)


def worst_cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """The least cosine of two rows of logits; 0 where something is no number."""
    if not bool(one.isfinite().all() and other.isfinite().all()):
        return 0.0
    return float(torch.cosine_similarity(one.double(), other.double(), dim=-1).min())


class PeakMemory:
    """Device memory that PyTorch takes inside this block beyond what it has at its begin."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.n_bytes, self._before = device, 0, 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            most = torch.cuda.max_memory_allocated(self._device)
            self.n_bytes = max(most - self._before, 0)


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU; None of other devices."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def _timed(peer: Peer, call: Callable[[], Any], times: int, *, warm_up: bool = True) -> list[float]:
    """Seconds of each call, with all that the device does for it."""
    if warm_up:
        call()
    taken = []
    for _ in range(times):
        peer.settle()
        begun_s = time.perf_counter()
        call()
        peer.settle()
        taken.append(time.perf_counter() - begun_s)
    return taken
