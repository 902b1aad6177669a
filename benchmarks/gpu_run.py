"""The order of the GPU benchmark: open the peers of a shape, let them take turns, keep each figure.

A peer that cannot be opened, gives other numbers than the baseline, or breaks off is refused with
its reason, and the others go on.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import torch
from gpu_measure import (
    COSINE_MUST,
    PeakMemory,
    Plan,
    free_bytes,
    logits_behind,
    measured_round,
    stretch,
    worst_cosine,
)
from gpu_meter import Meter
from gpu_models import Random, decoder_config, random_model
from gpu_ort import OrtInt4Peer, OrtPeer
from gpu_peer import Peer
from gpu_shapes import Shape
from gpu_state import RungState, Slice, State
from gpu_torch import BoundedPeer, GrowingPeer
from gpu_trt import TrtPeer

from edgestream.edge.provider_probe import without_folders
from edgestream.runtime.errors import EdgeStreamError

T = TypeVar("T")
Opener: TypeAlias = Callable[[Random, Path], Peer]
RUNGS: Mapping[str, Opener] = MappingProxyType({
    "torch": lambda model, work: GrowingPeer(model),
    "torch_bounded": lambda model, work: BoundedPeer(model),
    "ort": lambda model, work: OrtPeer(model, work, "whole"),
    "ort_int4": lambda model, work: OrtInt4Peer(model, work, "int4"),
    "tensorrt": lambda model, work: TrtPeer(model, work, "tensorrt"),
    "tensorrt_rtx": lambda model, work: TrtPeer(model, work, "tensorrt_rtx"),
})  # fmt: skip
"""Peers by name; the first one is the baseline."""
BASELINE = "torch"
OPEN_S, OPEN_S_PER_G = 15.0, 8.0
"""Seconds to open a model, and for each 1e9 parameters; writing graphs comes on top."""
GRAPH_S_PER_G = 45.0
UNIT_S = 20.0
"""Of the first measurement of a peer; of the others, what the last one took and half of that."""


class DeviceLost(Exception):
    """A fault after which nothing runs on the device in this process any more."""


class Run:
    """One process of the benchmark.

    Args:
        state: what earlier ones measured; each figure goes into it at once.
        plan: how much.
        slice_: how much time there is.
        meter: of the GPU.
        device, dtype: of the models.
        work: folder of graphs.
        openers: of the peers, by name; the baseline first.
    """

    def __init__(
        self,
        state: State,
        plan: Plan,
        slice_: Slice,
        meter: Meter,
        device: torch.device,
        dtype: torch.dtype,
        work: Path,
        openers: Mapping[str, Opener] = RUNGS,
    ) -> None:
        self._openers = openers
        self._state, self._plan, self._slice, self._meter = state, plan, slice_, meter
        self._device, self._dtype, self._work = device, dtype, work
        self._took_s: dict[str, float] = {}

    def shape(self, shape: Shape, rungs: Sequence[str]) -> bool:
        """Measure what is not measured of a shape; whether nothing is left.

        Raises:
            DeviceLost: a peer broke the device; it is refused, another process can go on.
        """
        states = {rung: self._state.of(shape.name, rung) for rung in self._openers if rung in rungs}
        if not any(self._is_open(one) for one in states.values()):
            return True
        billions = _billions(shape)
        if not self._slice.has(OPEN_S + OPEN_S_PER_G * billions):
            return False
        print(f"{shape.title}: {billions:.2f}e9 parameters", file=sys.stderr, flush=True)
        try:
            model = random_model(shape, self._device, self._dtype)
        except torch.OutOfMemoryError:
            for one in states.values():
                one.refused = "the device has no memory for its weights"
            self._state.save()
            return True
        try:
            peers, is_whole = self._opened(model, states, billions)
            return self._in_turn(peers, states) and is_whole
        finally:
            peers = {}
            del model
            gc.collect()
            free_bytes(self._device)

    def _is_open(self, state: RungState) -> bool:
        """Whether something of a peer is left to measure."""
        if state.refused:
            return False
        if state.rounds_done < self._plan.rounds:
            return True
        speaks = len(state.rounds) > 1
        return speaks and len(state.stretches) < self._plan.stretches

    def _opened(
        self, model: Random, states: Mapping[str, RungState], billions: float
    ) -> tuple[dict[str, Peer], bool]:
        """The peers that run, and whether there was time to open all."""
        expected = None
        peers: dict[str, Peer] = {}
        folder = self._work / model.shape.name
        folder.mkdir(parents=True, exist_ok=True)
        for rung, state in states.items():
            if not self._is_open(state) and rung != BASELINE:
                continue
            writes = not rung.startswith("torch") and not state.label
            if not self._slice.has(OPEN_S + GRAPH_S_PER_G * billions * writes):
                return peers, False
            peer = self._guarded(state, partial(self._open, rung, model, folder))
            if peer is None:
                continue
            told = self._guarded(state, partial(logits_behind, peer), peer.speaks)
            if rung == BASELINE:
                expected = told
            elif told is not None and expected is not None:
                state.cosine = round(worst_cosine(told, expected), 6)
                if peer.is_exact and state.cosine < COSINE_MUST:
                    state.refused = f"it gave other logits than PyTorch: cosine {state.cosine}"
            if not state.refused:
                state.label, peers[rung] = peer.label, peer
            self._state.save()
        return peers, True

    def _open(self, rung: str, model: Random, folder: Path) -> Peer:
        before = free_bytes(self._device)
        peer = self._openers[rung](model, folder)
        peer.watch()
        after = free_bytes(self._device)
        if before is not None and after is not None:
            peer.held_bytes = max(before - after, 0)
        return peer

    def _in_turn(self, peers: dict[str, Peer], states: Mapping[str, RungState]) -> bool:
        """Rounds, then the stream, the peers in turn; whether there was time for everything."""
        names = list(peers)
        for number in range(self._plan.rounds):
            begin = number % max(len(names), 1)
            for rung in names[begin:] + names[:begin]:
                if states[rung].rounds_done > number or states[rung].refused:
                    continue
                if not self._unit(rung, peers[rung], states[rung], self._round):
                    return False
        on_stream: set[str] = set()
        for number in range(self._plan.stretches):
            for rung, peer in peers.items():
                state = states[rung]
                if not peer.speaks or state.refused or len(state.stretches) > number:
                    continue
                if rung not in on_stream:
                    on_stream.add(rung)
                    self._guarded(state, partial(_begin, peer, state))
                if not self._unit(rung, peer, state, self._stretch):
                    return False
        return True

    def _unit(
        self, rung: str, peer: Peer, state: RungState, measure: Callable[[Peer, RungState], None]
    ) -> bool:
        """Measure one thing and keep it; whether there was time for it."""
        name = f"{peer.model.shape.name} {rung} {measure.__name__}"
        needs_s = 1.5 * self._took_s.get(name, UNIT_S / 1.5)
        if not self._slice.has(needs_s, is_measurement=True):
            return False
        begun_s, before_bytes = time.monotonic(), peer.n_bytes
        with PeakMemory(self._device) as peak:
            self._guarded(state, partial(measure, peer, state))
        self._took_s[name] = time.monotonic() - begun_s
        held = max(before_bytes, peer.held_bytes) + peak.n_bytes
        state.peak_bytes = max(state.peak_bytes, held, peer.n_bytes)
        if state.refused:  # the others may need its memory
            peer.reset()
            free_bytes(self._device)
        watts = self._meter.watts(begun_s)
        if watts is not None:
            state.watts.append(round(watts, 1))
        self._state.save()
        return True

    def _round(self, peer: Peer, state: RungState) -> None:
        for metric, taken in measured_round(peer, self._plan).items():
            state.rounds.setdefault(metric, []).append([float(f"{one:.5g}") for one in taken])

    def _stretch(self, peer: Peer, state: RungState) -> None:
        state.stretches.append([float(f"{one:.6g}") for one in stretch(peer)])

    def _guarded(self, state: RungState, call: Callable[[], T], wanted: bool = True) -> T | None:
        """What the call gives; where it fails, the peer is refused from now on."""
        if not wanted or state.refused:
            return None
        try:
            return call()
        except torch.OutOfMemoryError:
            state.refused = f"the device has no memory left after {state.frames} frames"
        except torch.AcceleratorError as error:
            state.refused = _words(error)
            self._state.save()
            raise DeviceLost(state.refused) from error
        except EdgeStreamError as error:
            state.refused = error.message
        except Exception as error:  # of any library: the others go on, and the reason is told
            state.refused = _words(error)
        return None


def _words(error: Exception) -> str:
    """An error of a library in one line, without folders."""
    words = " ".join(str(error).split()) or "no reason"
    return without_folders(f"{type(error).__name__}: {words}")[:300]


def _begin(peer: Peer, state: RungState) -> None:
    """Its cache as the stream left it: empty at first, filled anew after a slice ended."""
    peer.activate()
    peer.reset()
    if state.frames:
        peer.refill(state.frames)
        state.resumed += 1


def _billions(shape: Shape) -> float:
    """How many weights the decoder has, 1e9, without making any."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        count: int = auto.from_config(decoder_config(shape)).num_parameters()
    return count / 1e9
