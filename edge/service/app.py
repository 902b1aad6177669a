"""The HTTP application: one router per part of the API, and the guards in front of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...runtime.adapters import BASE
from ...runtime.errors import EdgeStreamError, PageMissing, RequestInvalid
from .access import Access, Guarded
from .api_values import ErrorBody
from .camera import Camera
from .cameras import CameraBoard
from .faults import App, Receive, Scope, Send, is_openai, send_fault, status_of
from .guest import Guest
from .hub import Hub
from .limits import BodyLimit, Limits, RateLimit
from .request_log import Logged, RequestCounts
from .standing_board import StandingBoard

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

# Fields that schemathesis, clients and readers find at every path.
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request is at fault: got, expected, try."},
    "5XX": {"model": ErrorBody, "description": "The service cannot do it now."},
}


@dataclass(frozen=True, slots=True)
class Service:
    """What the API is in front of.

    Attributes:
        board: the cameras.
        standing: what they are to tell whenever it comes true.
        hub: their records.
        guest: answers about pictures that are sent along.
        access: who may come in.
        limits: how much of everything.
        counts: requests so far.
        model: name of the bundle.
        created: when it was made, seconds since 1970.
        started_s: when the service began, by `monotonic`.
    """

    board: CameraBoard
    standing: StandingBoard
    hub: Hub
    guest: Guest
    access: Access
    limits: Limits
    model: str
    created: int
    counts: RequestCounts = field(default_factory=RequestCounts)
    monotonic: Callable[[], float] = time.monotonic
    started_s: float = field(default_factory=time.monotonic)

    def camera_of(self, name: str | None) -> Camera:
        """The camera of a name, or the only one there is.

        Raises:
            CameraUnknown: there is none of this name.
            RequestInvalid: no name was given, and there is not exactly one camera.
        """
        if name is not None:
            return self.board.camera(name)
        cameras = self.board.all()
        if len(cameras) != 1:
            raise RequestInvalid(
                f"got no camera, expected the name of one: there are {len(cameras)}",
                hint="name one as camera",
            )
        return cameras[0]

    def check_adapter(self, name: str | None, *, is_of_camera: bool) -> None:
        """Whether a request may choose this adapter.

        Raises:
            RequestInvalid: the bundle has none of this name, or the camera's frames are all in a
                cache that another one computed.
        """
        settings = self.board.shared.settings
        own = settings.session.adapter or BASE
        names = self.guest.model.session.adapters.names
        if is_of_camera and settings.context.kind == "continuous":
            names = (own,)
        if name is not None and name not in names:
            raise RequestInvalid(
                f"adapter: got {name!r}, expected {' or '.join(names)}",
                hint="leave it out, or export the bundle with --adapters",
            )


def service_app(service: Service, *, logs_json: bool = False) -> App:
    """The whole application: log → headers → guard → rate → body → routes.

    Args:
        service: what it is in front of.
        logs_json: one JSON line per request on stderr.
    """
    limits = service.limits
    app: App = _routes(service)
    app = BodyLimit(app, limits)
    app = Guarded(app, service.access, RateLimit(limits.requests_per_minute))
    return Logged(NoSecrets(app), service.counts, is_on=logs_json)


def _routes(service: Service) -> FastAPI:
    from fastapi import FastAPI

    from . import (
        api_cameras,
        api_chat,
        api_events,
        api_pages,
        api_pushed,
        api_recall,
        api_standing,
        api_webrtc,
    )

    app = FastAPI(
        title="EdgeStream",
        version=__version__,
        description="Cameras that are watched by a model on this very device.",
        docs_url=None,  # FastAPI's own page loads its scripts from elsewhere
        redoc_url=None,
        responses=ERRORS,
    )
    pages = (api_pages, api_pushed, api_webrtc)
    for part in (*pages, api_cameras, api_recall, api_events, api_standing, api_chat):
        app.include_router(part.router(service))
    _answer_faults(app)
    return app


def _answer_faults(app: FastAPI) -> None:
    """Every fault in one shape, whoever raised it."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    @app.exception_handler(EdgeStreamError)
    async def told(request: Request, fault: EdgeStreamError) -> Any:
        return FaultResponse(fault)

    @app.exception_handler(Exception)  # Starlette raises it again: `NoSecrets` logs it
    async def failed(request: Request, error: Exception) -> Any:
        return FaultResponse(own_fault(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, fault: RequestValidationError) -> Any:
        # OpenAI says 400 where FastAPI would say 422.
        status = 400 if is_openai(request.url.path) else 422
        return FaultResponse(_invalid(fault.errors()), status)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, fault: HTTPException) -> Any:
        kind = PageMissing if fault.status_code == 404 else RequestInvalid
        where = f"{request.method} {request.url.path}"
        return FaultResponse(
            kind(f"{where}: {fault.detail}", hint="GET /docs lists what there is"),
            fault.status_code,
            dict(fault.headers or {}),
        )


def _invalid(errors: Any) -> RequestInvalid:
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"])
    return RequestInvalid(f"{where}: {first['msg']}", hint="GET /docs shows what is expected")


def own_fault(error: Exception) -> EdgeStreamError:
    """What a client is told of a fault of ours."""
    return EdgeStreamError(
        f"a fault of EdgeStream itself: {type(error).__name__}",
        hint="the log of the service has it all",
    )


class FaultResponse:
    """A response that is a fault.

    Args:
        fault: what was wrong.
        status: of HTTP; None for that of its class.
        headers: further ones.
    """

    background = None

    def __init__(
        self,
        fault: EdgeStreamError,
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.fault, self.headers = fault, headers or {}
        self.status_code = status_of(fault) if status is None else status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        further = [(name.lower().encode(), one.encode()) for name, one in self.headers.items()]

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if "headers" in message:
                message["headers"] = [*message["headers"], *further]
            await send(message)

        wait_s = 1.0 if self.status_code == 429 else None
        await send_fault(
            scope, with_headers, self.fault, status=self.status_code, retry_after_s=wait_s
        )


class NoSecrets:
    """What is no fault of ours to tell becomes 500 without a traceback, which the log has."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        has_begun = has_ended = False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal has_begun, has_ended
            has_begun = True
            has_ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            log.exception("%s failed", scope["path"])
            if not has_begun:
                await send_fault(scope, send, own_fault(error))
            elif not has_ended:
                raise  # the connection is closed, so that nobody takes the half for the whole
