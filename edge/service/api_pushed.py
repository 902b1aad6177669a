"""HTTP: the WebSocket over which a page sends the pictures of its camera."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...runtime.errors import (
    CameraNotWatching,
    CameraTaken,
    CameraUnknown,
    EdgeStreamError,
    TooManyRequests,
)
from ...runtime.source_pushed import PushedSource
from .access import client_of
from .limits import RateLimit

if TYPE_CHECKING:
    from fastapi import APIRouter, WebSocket

    from .app import Service

START_WITHIN_S, LOOK_EVERY_S = 10.0, 0.05
PICTURES_PER_MINUTE = 60 * 60
"""Of one page: twice what a camera gives, and far more than is looked at."""
REFUSED, TRY_LATER, NOT_BYTES, GONE = 1008, 1013, 1003, 4004
"""Codes with which a WebSocket is closed; the last is ours: there is nothing to try again."""


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
            await socket.close(REFUSED, fault.code)
            return
        try:
            await socket.accept()
            with pushed.connected() as has_place:
                await _take(service, name, socket, pushed, has_place)
        except WebSocketDisconnect:
            pass
        except CameraTaken as fault:
            await socket.close(TRY_LATER, fault.code)
        except CameraUnknown:
            await socket.close(GONE)
        except KeyError:  # text, and no bytes in it
            await socket.close(NOT_BYTES)
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


def is_fed_by(service: "Service", name: str, pushed: PushedSource) -> bool:
    """Whether this is what takes the pictures of a camera still.

    Raises:
        CameraUnknown: it was removed.
    """
    run = service.board.camera(name).run
    return run is not None and run.pushed is pushed


async def _take(
    service: "Service",
    name: str,
    socket: "WebSocket",
    pushed: PushedSource,
    has_place: Callable[[], bool],
) -> None:
    """Hand on pictures; each is answered, so that a page sends no more than gets through.

    Raises:
        CameraUnknown, CameraTaken: they are wanted no more.
    """
    rate, seen = RateLimit(PICTURES_PER_MINUTE), 0
    while True:
        picture = await socket.receive_bytes()
        if not (is_fed_by(service, name, pushed) and has_place()):
            raise CameraTaken(f"the place at camera {name} was given away")
        try:
            if rate.wait_s(client_of(socket.scope)):
                raise TooManyRequests(f"got more than {PICTURES_PER_MINUTE} pictures a minute")
            pushed.push(picture)
        except EdgeStreamError as fault:
            await socket.send_text(json.dumps(fault.as_json()))
            continue
        seen += 1
        await socket.send_text(json.dumps({"seen": seen}))
