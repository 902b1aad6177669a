"""HTTP: the page and its files, health, sign-in, counters and the description of the API."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.errors import KeyNeeded, PageMissing
from .access import client_of
from .api_values import Health, Ready, SessionKey, SessionState
from .docs_page import docs_html
from .metrics_text import metrics_text

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .app import Service

WEB = Path(__file__).parent / "web"
NOT_READY = frozenset({"starting", "failed"})
TEXT_CONTENT = {"text/plain": {"schema": {"type": "string"}}}


def router(service: "Service") -> "APIRouter":
    """Every path that is not about one camera."""
    from fastapi import APIRouter

    routes = APIRouter(tags=["service"])
    _add_page(routes)
    _add_health(routes, service)
    _add_session(routes, service)
    _add_descriptions(routes, service)
    return routes


def _add_page(routes: "APIRouter") -> None:
    from fastapi.responses import FileResponse, Response

    def file_at(path: str) -> Any:
        if "\0" in path:  # no file system has such a name
            raise PageMissing("there is no such file of the page", hint="open /")
        place = (WEB / path).resolve()
        if not place.is_relative_to(WEB.resolve()) or not place.is_file():
            raise PageMissing("there is no such file of the page", hint="open /")
        return FileResponse(place, headers={"cache-control": "no-cache"})

    @routes.get("/", include_in_schema=False)
    def page() -> Any:
        return file_at("index.html")

    @routes.get("/web/{path:path}", include_in_schema=False)
    def page_file(path: str) -> Any:
        return file_at(path)

    @routes.get("/favicon.ico", include_in_schema=False)
    def favicon() -> Any:
        return Response(status_code=204)


def _add_health(routes: "APIRouter", service: "Service") -> None:
    from fastapi.responses import JSONResponse

    @routes.get("/health")
    def health() -> Health:
        """The process runs and answers."""
        return Health(uptime_s=round(service.monotonic() - service.started_s, 3))

    @routes.get("/ready", responses={503: {"model": Ready}})
    def ready() -> Any:
        """Whether no camera is starting or has failed."""
        states = {camera.name: camera.state.state for camera in service.board.all()}
        found = Ready(ready=not NOT_READY & set(states.values()), cameras=states)
        return JSONResponse(found.model_dump(), 200 if found.ready else 503)


def _add_session(routes: "APIRouter", service: "Service") -> None:
    from fastapi import Request, Response

    access = service.access

    @routes.post("/v1/session", status_code=204)
    def sign_in(body: SessionKey, request: Request, response: Response) -> None:
        """Take the key once; the cookie that comes back stands for it."""
        if not access.is_key(body.key, client_of(request.scope)):
            raise KeyNeeded("this is not the key of the service", hint="look into its key file")
        response.headers["set-cookie"] = access.opened_session()

    @routes.get("/v1/session")
    def session(request: Request) -> SessionState:
        """Whether the service asks for a key, and whether this request had one."""
        return SessionState(needs_key=access.needs_key, is_open=access.is_open(request.scope))


def _add_descriptions(routes: "APIRouter", service: "Service") -> None:
    from fastapi import Request
    from fastapi.responses import HTMLResponse, PlainTextResponse

    @routes.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={200: {"content": TEXT_CONTENT, "description": "Prometheus text."}},
    )
    def metrics() -> Any:
        """Counters of the service and of every camera."""
        return PlainTextResponse(
            metrics_text(service), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    @routes.get("/docs", include_in_schema=False)
    def docs(request: Request) -> Any:
        html, policy = docs_html(request.app.openapi())
        return HTMLResponse(html, headers={"content-security-policy": policy})
