"""Connections that must send their requests in time and take their answers, of a bounded number."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ...runtime.errors import BodyTooSlow, EdgeStreamError, ServiceFull
from .faults import fault_body, status_of
from .limits import Limits

if TYPE_CHECKING:
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol as Base
else:
    Base = object  # uvicorn is loaded when a server is made

STALLED_S = 60.0
"""A client that takes nothing for so long has gone, or holds us up; a slow one takes something."""
GRACE_S = 1.0
"""A body that is late is answered by `BodyLimit` first, which can say why."""
PHRASES = {408: "Request Timeout", 503: "Service Unavailable"}


class Guard(Base):
    """What a connection does beside HTTP; stands before uvicorn's protocol among its bases.

    State: what the client is sending, and until when it has to; until when it has to read.
    """

    limits: Limits
    _sending: Any = None
    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; one too many is told so."""
        super().connection_made(transport)
        most = self.limits.connections
        if len(self.connections) <= most:
            self._expect()
            return
        self._refuse(
            ServiceFull(
                f"{most} connections are open, which is the limit",
                hint="close one, or raise service.max_connections",
            )
        )

    def data_received(self, data: bytes) -> None:
        """A part of a request has come."""
        super().data_received(data)
        self._expect()

    def _expect(self) -> None:
        """Give the head, and then the body, its time; a connection at rest has one of uvicorn's."""
        import h11

        sending = self.conn.their_state
        if sending is self._sending and self._late is not None:
            return
        _cancel(self._late)
        self._sending, self._late = sending, None
        if sending in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing():
            grace_s = GRACE_S if sending is h11.SEND_BODY else 0.0
            within_s = self.limits.arrive_within_s + grace_s
            self._late = self.loop.call_later(within_s, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        self._refuse(
            BodyTooSlow(
                f"the request did not arrive within {self.limits.arrive_within_s:g} s",
                hint="raise service.arrive_within_s",
            )
        )

    def _refuse(self, fault: EdgeStreamError) -> None:
        if not self.transport.is_closing():
            self.transport.write(_response(fault))
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not take what it asked for."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes something again."""
        super().resume_writing()
        _cancel(self._stalled)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """From here on the WebSocket has its own pings."""
        _cancel(self._late)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        _cancel(self._late)
        _cancel(self._stalled)
        super().connection_lost(exc)


def guarded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol of one connection, within bounds.

    Args:
        limits: arrive_within_s and connections are read.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return type("GuardedProtocol", (Guard, H11Protocol), {"limits": limits})


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _response(fault: EdgeStreamError) -> bytes:
    """A whole response, for a connection that gets no further."""
    status = status_of(fault)
    body = fault_body(fault, "/", status)
    head = (
        f"HTTP/1.1 {status} {PHRASES[status]}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
