"""What was asked of the service: counted by status, and one JSON line each where that is wanted."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

from ...runtime.outlet import utc_now, utf8_text
from .faults import App, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Others are counted as one: a client must not make up counters."""


class RequestCounts:
    """Requests so far, by method and status. State: one number for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, int]] = Counter()

    def add(self, method: str, status: int) -> None:
        """One more."""
        with self._lock:
            self._counts[method if method in METHODS else "other", status] += 1

    def all(self) -> dict[tuple[str, int], int]:
        """(method, status) → requests."""
        with self._lock:
            return dict(self._counts)


class Logged:
    """Counts every request and logs it when it is over. Queries are left out: they may hold keys.

    Args:
        app: that answers.
        counts: takes each.
        is_on: whether lines are written to stderr.
    """

    def __init__(self, app: App, counts: RequestCounts, *, is_on: bool) -> None:
        self._app, self._counts, self._is_on = app, counts, is_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        begun_s, status, sent = time.perf_counter(), 0, 0

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "websocket.accept":
                status = 101
            status = message.get("status", status)
            sent += len(message.get("body") or message.get("bytes") or b"")
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            method = scope.get("method", "GET")
            self._counts.add(method, status)
            if self._is_on:
                _write(scope, method, status, sent, time.perf_counter() - begun_s)


def _write(scope: Scope, method: str, status: int, sent: int, took_s: float) -> None:
    line = {
        "time": utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "client": scope["client"][0] if scope.get("client") else None,
        "method": method,
        "path": utf8_text(scope["path"]),
        "status": status,
        "bytes": sent,
        "ms": round(took_s * 1e3, 1),
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
