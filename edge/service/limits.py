"""Bounds of the service: size and time of a request's body, requests of one client a minute."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...runtime.errors import BodyTooLarge, BodyTooSlow, ServiceFull
from .faults import App, Receive, Scope, Send, send_fault

if TYPE_CHECKING:
    from ..settings_service import ServiceSettings

CLIENTS_KEPT = 4096
"""Client addresses whose rate is known; a megabyte."""
BODIES_AT_ONCE = 8
"""Bodies of the largest size that may be on their way together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """See `ServiceSettings`.

    Attributes:
        body_bytes: of one request or message.
        arrive_within_s: head, and then body.
        requests_per_minute: of one client.
        connections: at a time.
        images_waiting: requests about pictures that wait.
        image_px: pixels of one picture.
    """

    body_bytes: int
    arrive_within_s: float
    requests_per_minute: int
    connections: int
    images_waiting: int
    image_px: int


def limits_of(service: ServiceSettings) -> Limits:
    """The bounds of the settings."""
    return Limits(
        int(service.max_body_mb * 1e6),
        service.arrive_within_s,
        service.requests_per_minute,
        service.max_connections,
        service.images_waiting,
        int(service.max_image_mpx * 1e6),
    )


class RateLimit:
    """A bucket of requests for each client; it fills as time goes by. For one thread.

    State: at most CLIENTS_KEPT buckets, the one that was used longest ago goes first.

    Args:
        per_minute: requests, also all at once.
        monotonic: seconds.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._monotonic = per_minute, monotonic
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """0 where this request may come in, which it then has; else seconds until one may."""
        now_s = self._monotonic()
        left, at_s = self._left.pop(client, (float(self._per_minute), now_s))
        left = min(self._per_minute, left + (now_s - at_s) * self._per_minute / 60)
        is_in = left >= 1
        self._left[client] = (left - is_in, now_s)
        if len(self._left) > CLIENTS_KEPT:
            self._left.popitem(last=False)
        return 0.0 if is_in else (1 - left) * 60 / self._per_minute


class BodyLimit:
    """Reads the whole body of a request before anything is done with it, within size and time.

    State: bytes of bodies that are being read or used.
    """

    def __init__(self, app: App, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            await asyncio.wait_for(self._read(scope, receive, body), self._limits.arrive_within_s)
        except asyncio.TimeoutError:
            fault = BodyTooSlow(
                f"the body did not arrive within {self._limits.arrive_within_s:g} s",
                hint="send less, or raise service.arrive_within_s",
            )
            await self._refuse(scope, send, fault, body)
        except (BodyTooLarge, ServiceFull) as fault:
            await self._refuse(scope, send, fault, body)
        except ConnectionResetError:  # the client went away in the middle
            self._held -= len(body)
        else:
            try:
                await self._app(scope, _replayed(bytes(body), receive), send)
            finally:
                self._held -= len(body)

    async def _refuse(self, scope: Scope, send: Send, fault: Any, body: bytearray) -> None:
        self._held -= len(body)
        body.clear()
        await send_fault(scope, send, fault)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        most = self._limits.body_bytes
        if (declared := _declared_bytes(scope)) > most:
            raise _too_large(declared, most)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            part = message.get("body", b"")
            if len(body) + len(part) > most:
                raise _too_large(len(body) + len(part), most)
            if self._held + len(part) > BODIES_AT_ONCE * most:
                raise ServiceFull("too many large requests are on their way", hint="ask again")
            body += part
            self._held += len(part)
            if not message.get("more_body"):
                return


def _too_large(size: int, most: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"got a body of {size} bytes or more, expected at most {most}",
        hint="send less, or raise service.max_body_mb",
    )


def _has_body(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return bool(names & {b"content-length", b"transfer-encoding"})


def _declared_bytes(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one piece, then whatever the connection says."""
    parts = [body]

    async def replayed() -> MutableMapping[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        return await receive()

    return replayed
