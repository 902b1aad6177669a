"""HTTP: the WebSocket over which a page sends the pictures of its camera."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

import asyncio
import json
from typing import TYPE_CHECKING

from ...runtime.errors import CameraNotWatching, EdgeStreamError, TooManyRequests
from ...runtime.source_pushed import PushedSource
from .access import client_of
from .limits import RateLimit

if TYPE_CHECKING:
    from fastapi import APIRouter, WebSocket

    from .app import Service

START_WITHIN_S, LOOK_EVERY_S = 10.0, 0.05
PICTURES_PER_MINUTE = 60 * 60
"""Of one page: twice what a camera gives, and far more than is looked at."""


def router(service: "Service") -> "APIRouter":
    """/v1/cameras/{name}/frames."""
    from fastapi import APIRouter, WebSocket, WebSocketDisconnect

    routes = APIRouter()

    @routes.websocket("/v1/cameras/{name}/frames")
    async def frames(name: str, socket: WebSocket) -> None:
        try:
            pushed = await fed_by_pages(service, name)
            seat = service.hub.sit()
        except EdgeStreamError as fault:
            await socket.close(1008, fault.code)
            return
        await socket.accept()
        try:
            with pushed.connected():
                await _take(socket, pushed)
        except WebSocketDisconnect:
            pass
        finally:
            service.hub.leave(seat)

    return routes


async def fed_by_pages(service: "Service", name: str) -> PushedSource:
    """What takes the pictures of a camera; one that is starting is waited for.

    Raises:
        CameraUnknown, CameraNotWatching: there is no such camera, or it is none of a page.
    """
    camera = service.board.camera(name)
    deadline_s = service.monotonic() + START_WITHIN_S
    while camera.state.state == "starting" and service.monotonic() < deadline_s:
        await asyncio.sleep(LOOK_EVERY_S)
    pushed = camera.watching().pushed
    if pushed is None:
        raise CameraNotWatching(
            f"camera {name} takes no pictures of a page", hint="add one with the address browser:"
        )
    return pushed


async def _take(socket: "WebSocket", pushed: PushedSource) -> None:
    """Hand on pictures; each is answered, so that a page sends no more than gets through."""
    rate, seen = RateLimit(PICTURES_PER_MINUTE), 0
    while True:
        picture = await socket.receive_bytes()
        try:
            if rate.wait_s(client_of(socket.scope)):
                raise TooManyRequests(f"got more than {PICTURES_PER_MINUTE} pictures a minute")
            pushed.push(picture)
        except EdgeStreamError as fault:
            await socket.send_text(json.dumps(fault.as_json()))
            continue
        seen += 1
        await socket.send_text(json.dumps({"seen": seen}))
