"""Faults as HTTP says them: one status per class, one shape, nothing of ours in it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from ...runtime import errors
from ...runtime.errors import EdgeStreamError
from ...runtime.outlet import utf8_text

Scope: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[MutableMapping[str, Any]]]"
Send: TypeAlias = "Callable[[MutableMapping[str, Any]], Awaitable[None]]"
App: TypeAlias = "Callable[[Scope, Receive, Send], Awaitable[None]]"

# The most derived class of a fault that stands here decides.
STATUS: dict[type[EdgeStreamError], int] = {
    errors.EdgeStreamError: 500,
    errors.UsageError: 400,
    errors.QuestionRefused: 429,
    errors.SourceError: 422,
    errors.OutputError: 507,
    errors.EngineError: 503,
    errors.CameraUnknown: 404,
    errors.CameraExists: 409,
    errors.CamerasFull: 409,
    errors.CameraNotWatching: 409,
    errors.CameraTaken: 409,
    errors.WebRtcMissing: 501,
    errors.AddressRefused: 403,
    errors.PictureMissing: 404,
    errors.PageMissing: 404,
    errors.ModelUnknown: 404,
    errors.RequestInvalid: 400,
    errors.KeyNeeded: 401,
    errors.OriginRefused: 403,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.TooManyRequests: 429,
    errors.ServiceFull: 503,
    errors.StandingUnknown: 404,
    errors.StandingRefused: 409,
    errors.AnswerLost: 503,
    errors.StreamBusy: 503,
}
OPENAI_PATHS = ("/v1/chat/", "/v1/models")
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
                429: "rate_limit_error"}  # fmt: skip


def status_of(fault: EdgeStreamError) -> int:
    """The HTTP status of a fault."""
    return next(STATUS[kind] for kind in type(fault).__mro__ if kind in STATUS)


def is_openai(path: str) -> bool:
    """Whether clients of OpenAI ask there."""
    return path.startswith(OPENAI_PATHS)


def fault_body(fault: EdgeStreamError, path: str, status: int, param: str | None = None) -> bytes:
    """The JSON of a fault, as the asker of this path understands it."""
    facts: dict[str, Any] = dict(fault.as_json()["error"])
    facts = {name: None if one is None else utf8_text(one) for name, one in facts.items()}
    if is_openai(path):
        usual = "invalid_request_error" if status < 500 else "server_error"
        facts.update(type=OPENAI_TYPES.get(status, usual), param=param)
    return json.dumps({"error": facts}, ensure_ascii=False).encode()


async def send_fault(
    scope: Scope,
    send: Send,
    fault: EdgeStreamError,
    *,
    status: int | None = None,
    retry_after_s: float | None = None,
) -> None:
    """Answer a request with a fault; a WebSocket that was not accepted is refused with it."""
    status = status_of(fault) if status is None else status
    body = fault_body(fault, scope["path"], status)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(retry_after_s + 0.5))))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 408:
        headers.append((b"connection", b"close"))
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": fault.code})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
