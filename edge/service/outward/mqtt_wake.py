"""A wake-up call for a thread that waits on sockets."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Wake:
    """Something to wait on that is readable once somebody has called. Any thread may call.

    State: two sockets that are joined, and whether they are closed.
    """

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._lock = threading.Lock()
        self._is_closed = False

    def call(self) -> None:
        """End the wait that goes on, or the next one."""
        with self._lock:
            if not self._is_closed:
                with suppress(BlockingIOError):  # full: it has been called often enough
                    self._write.send(b"x")

    def clear(self) -> None:
        """Forget the calls so far."""
        with suppress(BlockingIOError):  # nobody has called
            while self._read.recv(4096):
                pass

    def fileno(self) -> int:
        """What to wait on."""
        return self._read.fileno()

    def close(self) -> None:
        """Give the sockets back; calling it twice is harmless."""
        with self._lock:
            self._is_closed = True
            self._write.close()
            self._read.close()
