"""Recorded runs (CUDA graphs): what is launched in one go instead of kernel by kernel.

A phase whose shapes are fixed (a word, a frame, a step of the gate) runs plainly once, is recorded
at its second run, and launched from then on. A device or a version that refuses to record loses
nothing but time: it says why in `refusal`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Protocol

from ..errors import EngineError
from .cuda_device import Device


class Recordable(Protocol):
    """What can be recorded; `is_fixed`: its shapes are the same at every run."""

    @property
    def is_fixed(self) -> bool: ...


class Graphs:
    """Recorded runs on one set of buffers, one for each phase.

    Args:
        device, stream: where they run.

    State: recorded graphs; phases that ran once; `refusal`: why nothing is recorded any more.
    """

    def __init__(self, device: Device, stream: int) -> None:
        self.refusal: str | None = None
        self._device, self._stream = device, stream
        self._graphs: dict[int, int] = {}
        self._ran: set[int] = set()
        self.close = weakref.finalize(self, _give_back, device, self._graphs)
        self.close.atexit = False

    def launch(self, phase: Recordable) -> bool:
        """Put a recorded run into the stream; False where there is none."""
        graph = self._graphs.get(id(phase))
        if graph is None:
            return False
        self._device.launch(graph, self._stream)
        return True

    def recorded(self, phase: Recordable, enqueue: Callable[[], bool]) -> bool:
        """Put a run into the stream, and record it if it is time to.

        Args:
            phase: of the engine that owns this; it lives as long.
            enqueue: puts the run into the stream; whether it could.

        Returns:
            What `enqueue` says.
        """
        is_second = phase.is_fixed and id(phase) in self._ran and self.refusal is None
        self._ran.add(id(phase))
        if not is_second:
            return enqueue()
        if not self._record(phase, enqueue):
            return enqueue()
        return self.launch(phase)

    def _record(self, phase: Recordable, enqueue: Callable[[], bool]) -> bool:
        try:
            self._device.begin_recording(self._stream)
            is_enqueued = enqueue()
            graph = self._device.end_recording(self._stream)
        except EngineError as fault:
            self.refusal = fault.message
            return False
        if not is_enqueued:
            self._device.close_graph(graph)
            self.refusal = "the engine does not run while it is recorded"
            return False
        self._graphs[id(phase)] = graph
        return True


def _give_back(device: Device, graphs: dict[int, int]) -> None:
    while graphs:
        try:
            device.close_graph(graphs.popitem()[1])
        except EngineError:  # the device is gone
            continue
