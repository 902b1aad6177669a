"""Who may come in: host names, the pages of which sites, the key of the service, its sessions."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from ...runtime.errors import (
    EdgeStreamError,
    KeyNeeded,
    OriginRefused,
    TooManyRequests,
)
from .faults import App, Receive, Scope, Send, send_fault
from .limits import RateLimit

COOKIE = "edgestream_session"
SESSIONS_KEPT = 256
WRONG_KEYS_PER_MINUTE = 10
OPEN_PATHS = frozenset({"/", "/health", "/v1/session", "/favicon.ico"})
"""Needed before somebody has signed in; they tell nothing of any camera."""
OPEN_BELOW = "/web/"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=()"),
)
CONTENT_POLICY = (
    b"default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Access:
    """Decides who may come in. For one thread.

    State: sessions that are open, at most SESSIONS_KEPT, until they expire; recent wrong keys.

    Args:
        key: that every request needs; None for none.
        checks_host: on this machine alone, other host names are refused: a page of another site
            may have its name point here (DNS rebinding).
        session_s: how long a session lasts, seconds.
        is_tls: cookies are sent over https alone.
        monotonic: seconds.
    """

    def __init__(
        self,
        key: str | None,
        *,
        checks_host: bool,
        session_s: float,
        is_tls: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = None if key is None else _digest(key)
        self._checks_host, self._session_s, self._is_tls = checks_host, session_s, is_tls
        self._monotonic = monotonic
        self._sessions: dict[bytes, float] = {}
        self._wrong = RateLimit(WRONG_KEYS_PER_MINUTE, monotonic)

    @property
    def needs_key(self) -> bool:
        """Whether the service asks for a key."""
        return self._key is not None

    def check(self, scope: Scope) -> None:
        """Let a request in, or not.

        Raises:
            OriginRefused, KeyNeeded, TooManyRequests: why not.
        """
        headers = _headers(scope)
        host = headers.get("host", "")
        if self._checks_host and _name_of(host) not in LOOPBACK_NAMES:
            raise OriginRefused(
                f"got the host name {host!r}, expected one of this machine",
                hint="open it as http://127.0.0.1 or http://localhost",
            )
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if changes:
            _check_origin(headers, host)
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_BELOW):
            return
        if not self.is_open(scope):
            raise KeyNeeded(
                f"{path} needs the key of the service; got none that is right",
                hint="send it as Authorization: Bearer KEY, or sign in on the page",
            )

    def is_open(self, scope: Scope) -> bool:
        """Whether a request has the key, or the cookie of a session.

        Raises:
            TooManyRequests: too many wrong keys came from there.
        """
        if self._key is None:
            return True
        headers = _headers(scope)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_key(given.strip(), client_of(scope))
        return self._has_session(headers.get("cookie", ""))

    def is_key(self, given: str, client: str) -> bool:
        """Whether this is the key; as long for a wrong one as for a right one.

        Raises:
            TooManyRequests: too many wrong ones came from there.
        """
        is_right = self._key is None or hmac.compare_digest(_digest(given), self._key)
        if not is_right and self._wrong.wait_s(client):
            raise TooManyRequests(
                f"got more than {WRONG_KEYS_PER_MINUTE} wrong keys a minute", hint="wait a minute"
            )
        return is_right

    def opened_session(self) -> str:
        """A new session, as the value of a Set-Cookie header."""
        now_s = self._monotonic()
        self._sessions = {name: end for name, end in self._sessions.items() if end > now_s}
        while len(self._sessions) >= SESSIONS_KEPT:
            del self._sessions[next(iter(self._sessions))]
        name = secrets.token_urlsafe(32)
        self._sessions[_digest(name)] = now_s + self._session_s
        secure = "; Secure" if self._is_tls else ""
        return (
            f"{COOKIE}={name}; HttpOnly; SameSite=Strict; Path=/; "
            f"Max-Age={int(self._session_s)}{secure}"
        )

    def _has_session(self, cookies: str) -> bool:
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(cookies)
        except CookieError:
            return False
        given = jar.get(COOKIE)
        # Looked up by its hash: how long that takes says nothing of the name.
        end_s = None if given is None else self._sessions.get(_digest(given.value))
        return end_s is not None and end_s > self._monotonic()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def client_of(scope: Scope) -> str:
    """The address of a client, without its port."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _name_of(host: str) -> str:
    """The host name of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _check_origin(headers: dict[str, str], host: str) -> None:
    """Refuse what the page of another site has sent (CSRF); programs send no Origin."""
    origin = headers.get("origin")
    is_own = origin is None or urlsplit(origin).netloc.lower() == host.lower() != ""
    if not is_own or headers.get("sec-fetch-site", "none") == "cross-site":
        raise OriginRefused(
            f"got a request from the page of {origin}, expected one of {host}",
            hint="open the page of the service itself",
        )


class Guarded:
    """Lets in what may come in, and puts the security headers on every response.

    Args:
        app: that answers.
        access: who may come in.
        rate: how often one client may.
    """

    def __init__(self, app: App, access: Access, rate: RateLimit) -> None:
        self._app, self._access, self._rate = app, access, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"].endswith("response.start"):
                message["headers"] = _with_security(list(message.get("headers", ())))
            await send(message)

        wait_s = self._rate.wait_s(client_of(scope))
        try:
            if wait_s:
                raise TooManyRequests(
                    "got more requests than service.requests_per_minute", hint="ask less often"
                )
            self._access.check(scope)
        except EdgeStreamError as fault:
            after_s = wait_s or 60 / WRONG_KEYS_PER_MINUTE
            is_often = isinstance(fault, TooManyRequests)
            await send_fault(scope, guarded, fault, retry_after_s=after_s if is_often else None)
            return
        await self._app(scope, receive, guarded)


def _with_security(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in headers}
    headers += HEADERS
    if b"content-security-policy" not in names:
        headers.append((b"content-security-policy", CONTENT_POLICY))
    if b"cache-control" not in names:
        headers.append((b"cache-control", b"no-store"))
    return headers
