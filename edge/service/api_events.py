"""HTTP: the records of the cameras, as server-sent events, over a WebSocket and as a list."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...runtime.errors import EdgeStreamError, RequestInvalid, TooManyRequests
from ...runtime.records import RECORD_TYPES
from .access import client_of
from .answers import Answer
from .api_values import MOST_LETTERS, CameraName, RecordRows
from .hub import Hub
from .limits import RateLimit
from .listener import Listener, Numbered, Wanted

if TYPE_CHECKING:
    from fastapi import APIRouter, WebSocket

    from .app import Service

ALIVE_EVERY_S = 15.0
"""Of the comment that says so: proxies close what is silent for half a minute."""
ASKED_PER_MINUTE = 120
"""Questions of one WebSocket: more than a person can type."""
EVENT_CONTENT = {"text/event-stream": {"schema": {"type": "string"}}}

_TYPE = f"({'|'.join(RECORD_TYPES)})"
Types = Annotated[
    str,
    Field(
        max_length=256,
        pattern=rf"^({_TYPE}(,{_TYPE})*)?$",
        description=f"Types of records, with commas between: {', '.join(RECORD_TYPES)}.",
    ),
]
CameraOrAll = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$", description="Of one camera; empty: of all.")
]
Number = Annotated[int, Field(ge=0, le=2**53, description="Replay what came after this id.")]


class AskedOver(BaseModel):
    """What a client may send over the WebSocket of records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ask: str = Field(min_length=1, max_length=MOST_LETTERS)
    camera: CameraName | None = None


def wanted_from(camera: str, types: str) -> Wanted:
    """Which records a client wants; types with commas between."""
    return Wanted(camera, frozenset(name for name in types.split(",") if name))


NOT_TEXT = 1003
"""Code with which a WebSocket is closed that sends messages of another kind."""


def router(service: "Service") -> "APIRouter":
    """Every path that gives records."""
    from fastapi import APIRouter

    routes = APIRouter(tags=["records"])
    _add_events(routes, service)
    _add_records(routes, service)
    _add_stream(routes, service)
    return routes


def _add_events(routes: "APIRouter", service: "Service") -> None:
    from fastapi import Header
    from fastapi.responses import StreamingResponse

    @routes.get(
        "/v1/events",
        response_class=StreamingResponse,
        responses={200: {"content": EVENT_CONTENT, "description": "Server-sent events."}},
    )
    async def events(
        camera: CameraOrAll = "",
        types: Types = "",
        after: Number | None = None,
        last_event_id: Annotated[str, Header(max_length=64)] = "",
    ) -> Any:
        """Records as they come; with `Last-Event-ID` or `after`, first those that are kept."""
        since = int(last_event_id) if last_event_id.isdecimal() else after
        listener = service.hub.listen(wanted_from(camera, types), since)
        return StreamingResponse(
            _events(service.hub, listener),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )


async def _events(hub: Hub, listener: Listener) -> AsyncIterator[str]:
    """Texts of a stream of events: one each record, comments for gaps and when nothing comes."""
    try:
        yield f": from {hub.last}\n\n"
        while not listener.is_closed:
            missed, records = await listener.take(ALIVE_EVERY_S)
            if missed:
                yield f": missed {missed}\n\n"
            elif not records:
                yield ": alive\n\n"
            if records:
                yield "".join(_event(record) for record in records)
    finally:
        hub.leave(listener)


def _event(record: Numbered) -> str:
    return f"id: {record.number}\nevent: {record.type}\ndata: {record.text}\n\n"


def with_id(record: Numbered) -> dict[str, Any]:
    """A record as an object with its number."""
    return {"id": record.number, **json.loads(record.text)}


def _add_records(routes: "APIRouter", service: "Service") -> None:
    @routes.get("/v1/records")
    def records(
        camera: CameraOrAll = "",
        types: Types = "",
        limit: Annotated[int, Field(ge=1, le=1000)] = 100,
    ) -> RecordRows:
        """The newest records that are kept, oldest first."""
        kept = service.hub.kept(wanted_from(camera, types), limit)
        return RecordRows(records=[with_id(record) for record in kept])


def _add_stream(routes: "APIRouter", service: "Service") -> None:
    from fastapi import WebSocket, WebSocketDisconnect

    @routes.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        given = socket.query_params
        try:
            listener = service.hub.listen(
                wanted_from(given.get("camera", ""), given.get("types", ""))
            )
        except EdgeStreamError as fault:
            await socket.close(1008, fault.code)
            return
        await socket.accept()
        telling = asyncio.create_task(_tell(socket, listener))
        try:
            await _hear(service, socket)
        except WebSocketDisconnect:
            pass
        except KeyError:  # bytes, and no text in them
            await socket.close(NOT_TEXT)
        finally:
            telling.cancel()
            service.hub.leave(listener)


async def _tell(socket: "WebSocket", listener: Listener) -> None:
    """Send records as they come, until there is nobody or nothing any more."""
    while not listener.is_closed:
        missed, records = await listener.take(ALIVE_EVERY_S)
        if missed:
            await socket.send_text(json.dumps({"missed": missed}))
        for record in records:
            await socket.send_text(f'{{"id": {record.number}, {record.text[1:]}')
    await socket.close(1001, "the service stops")


async def _hear(service: "Service", socket: "WebSocket") -> None:
    """Ask what the client asks; the answer comes with the records."""
    rate = RateLimit(ASKED_PER_MINUTE)
    while True:
        text = await socket.receive_text()
        try:
            if rate.wait_s(client_of(socket.scope)):
                raise TooManyRequests(f"got more than {ASKED_PER_MINUTE} questions a minute")
            asked = _asked_over(text)
            service.camera_of(asked.camera).ask(asked.ask, Answer())
        except EdgeStreamError as fault:
            await socket.send_text(json.dumps(fault.as_json()))


def _asked_over(text: str) -> AskedOver:
    try:
        return AskedOver.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestInvalid(
            f"{where or 'the message'}: {first['msg']}", hint='{"ask": "Who is there?"}'
        ) from error
