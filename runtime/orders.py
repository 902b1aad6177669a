"""Orders: what other threads want done in a running stream, between two of its frames.

Requests and memory belong to the thread that watches. Whoever else wants them changed hands an
order in; it is carried out at the next frame boundary, and is part of what a run was delivered.
"""

from __future__ import annotations

import threading
from typing import TypeAlias

from .governor import Load
from .standing_request import StandingOrder

Order: TypeAlias = "StandingOrder | Load"


class Orders:
    """Orders that wait for the next frame boundary. Safe from any thread.

    State: what waits; whether the run is over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Order] = []
        self._is_closed = False

    def put(self, order: Order) -> bool:
        """Hand an order in; False where the run is over and nobody will carry it out."""
        with self._lock:
            if not self._is_closed:
                self._waiting.append(order)
            return not self._is_closed

    def take(self) -> tuple[Order, ...]:
        """All that waits, oldest first."""
        with self._lock:
            taken = tuple(self._waiting)
            self._waiting.clear()
            return taken

    def close(self) -> tuple[Order, ...]:
        """The run is over: take no more, and give what still waits."""
        with self._lock:
            self._is_closed = True
        return self.take()
