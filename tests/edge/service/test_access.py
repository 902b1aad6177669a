"""Who may come in: keys, cookies, host names, other sites; over real connections."""

from __future__ import annotations

import asyncio
import json

import pytest

from edgestream.edge.cli import main
from edgestream.edge.service.access import Access
from edgestream.edge.service.listening import check_listening, is_loopback, key_from_file
from edgestream.runtime.errors import (
    KeyNeeded,
    ListenUnsafe,
    OriginRefused,
    SettingsInvalid,
    TooManyRequests,
)

from .serving import BUNDLE, CLIP, serving

websockets = pytest.importorskip("websockets", reason="the service needs the extra `serve`")

KEY = "k" * 32
OPEN = ["/", "/health", "/v1/session", "/web/nothing.js", "/favicon.ico"]
CLOSED = [
    "/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/v1/models",
    "/v1/cameras",
    "/v1/cameras/door/picture.jpg",
    "/v1/cameras/door/live.mjpg",
    "/v1/cameras/door/memory",
    "/v1/events",
    "/v1/records",
    "/v1/standing",
    "/no/such/path",
]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text(f"{KEY}\nthe second line is a note\n")
    return path


@pytest.fixture(scope="module")
def locked(key_file):
    """A service that other machines could reach, with a key."""
    words = ("--host", "0.0.0.0", "--api-key-file", str(key_file))
    with serving(f"door=loop:{CLIP}", *words, waits=False) as running:
        yield running


def bearer(key=KEY):
    return {"authorization": f"Bearer {key}"}


@pytest.mark.medium
@pytest.mark.parametrize("path", OPEN)
def test_what_is_needed_to_sign_in_is_open(locked, path):
    assert locked.ask("GET", path)[0] in (200, 204, 404)


@pytest.mark.parametrize("path", CLOSED)
def test_everything_else_needs_the_key(locked, path):
    for headers in ({}, bearer("w" * 32), {"authorization": f"Basic {KEY}"}, {"cookie": "x=y"}):
        status, found, body = locked.ask("GET", path, headers=headers)
        assert status in (401, 429), (path, headers)
        assert json.loads(body)["error"]["code"] in ("key-needed", "too-many-requests")
        assert KEY not in body.decode()
        assert found["www-authenticate" if status == 401 else "retry-after"]
    if path not in ("/v1/cameras/door/live.mjpg", "/v1/events"):
        assert locked.ask("GET", path, headers=bearer())[0] not in (401, 429)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/cameras"),
        ("DELETE", "/v1/cameras/door"),
        ("POST", "/v1/cameras/door/pause"),
        ("DELETE", "/v1/cameras/door/memory"),
        ("POST", "/v1/standing"),
        ("POST", "/v1/chat/completions"),
    ],
)
def test_nothing_is_changed_without_the_key(locked, method, path):
    assert locked.json(method, path, {})[0] == 401
    rows = locked.json("GET", "/v1/cameras", **bearer())[1]["cameras"]
    assert [(row["name"], row["is_paused"]) for row in rows] == [("door", False)]


def test_a_session_stands_for_the_key(locked):
    status, state = locked.json("GET", "/v1/session")
    assert (status, state) == (200, {"needs_key": True, "is_open": False})
    status, headers, _ = locked.ask("POST", "/v1/session", {"key": KEY})
    cookie = headers["set-cookie"]
    assert status == 204 and KEY not in cookie
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    sent = {"cookie": cookie.partition(";")[0]}
    assert locked.ask("GET", "/v1/cameras", headers=sent)[0] == 200
    assert locked.json("GET", "/v1/session", **sent)[1]["is_open"]
    changed = {"cookie": sent["cookie"][:-1] + ("a" if sent["cookie"][-1] != "a" else "b")}
    assert locked.ask("GET", "/v1/cameras", headers=changed)[0] == 401


def test_a_page_of_another_site_changes_nothing(locked):
    own = f"http://127.0.0.1:{locked.port}"
    path = "/v1/cameras/door/resume"
    for origin in ("http://evil.example", "null", f"{own}0", f"{own}.evil.example", ""):
        assert locked.json("POST", path, origin=origin, **bearer())[0] == 403, origin
    assert locked.json("POST", path, sec_fetch_site="cross-site", **bearer())[0] == 403
    assert locked.json("POST", path, origin=own, **bearer())[0] == 200
    assert locked.json("POST", path, **bearer())[0] == 200, "programs send no origin"


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/cameras/door/frames"])
def test_web_sockets_are_guarded_as_everything_else(locked, path):
    url = f"ws://127.0.0.1:{locked.port}{path}"

    async def status_of(**headers):
        try:
            async with websockets.connect(url, additional_headers=headers):
                return 101
        except websockets.InvalidStatus as fault:
            return fault.response.status_code

    assert asyncio.run(status_of()) == 401
    assert asyncio.run(status_of(**bearer(), origin="http://evil.example")) == 403
    assert asyncio.run(status_of(**bearer())) == (101 if path == "/v1/stream" else 403)


@pytest.mark.medium
def test_a_service_of_this_machine_goes_by_no_other_name(service):
    for host in ("evil.example", f"evil.example:{service.port}", "127.0.0.1.evil.example", ""):
        status, value = service.json("GET", "/health", host=host)
        assert status == 403 and value["error"]["code"] == "origin-refused", host
    for host in ("localhost", f"LOCALHOST:{service.port}", f"[::1]:{service.port}"):
        assert service.json("GET", "/health", host=host)[0] == 200


@pytest.mark.parametrize("path", ["/", "/v1/cameras", "/docs", "/no/such", "/web/x"])
def test_every_response_has_the_security_headers(service, path):
    _, headers, _ = service.ask("GET", path)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy and "http" not in policy


@pytest.mark.medium
def test_other_machines_are_let_in_with_a_key_alone(capsys):
    assert main(["serve", "--bundle", str(BUNDLE), "--host", "0.0.0.0", "--port", "0"]) == 7
    assert "error[listen-unsafe]" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_addresses_of_this_machine(host):
    assert is_loopback(host)
    check_listening(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "localhost.evil.example", ""])
def test_addresses_that_others_reach(host):
    assert not is_loopback(host)
    with pytest.raises(ListenUnsafe):
        check_listening(host, None)
    check_listening(host, KEY)


def test_a_key_is_a_line_of_sixteen_letters_or_more(tmp_path):
    path = tmp_path / "key"
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        key_from_file(str(path))
    for text in ("", "\n\n", "short\n"):
        path.write_text(text)
        with pytest.raises(SettingsInvalid, match="16 or more") as caught:
            key_from_file(str(path))
        assert "short" not in caught.value.message
    path.write_text("  sixteen-letters-  \n")
    assert key_from_file(str(path)) == "sixteen-letters-"


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def request(path="/v1/cameras", method="GET", kind="http", client="10.0.0.9", **headers):
    sent = [(k.replace("_", "-").encode(), v.encode()) for k, v in {"host": "h", **headers}.items()]
    scope = {"type": kind, "path": path, "headers": sent, "client": (client, 1)}
    return {**scope, "method": method} if kind == "http" else scope


def access(clock, **changes):
    made = {"checks_host": False, "session_s": 60.0, "is_tls": True, **changes}
    return Access(changes.pop("key", KEY), monotonic=clock, **made)


def test_a_session_ends_and_the_oldest_makes_room():
    clock = Clock()
    guard = access(clock)
    first = guard.opened_session().partition(";")[0]
    guard.check(request(cookie=first))
    clock.now_s = 59.9
    guard.check(request(cookie=first))
    clock.now_s = 60.0
    with pytest.raises(KeyNeeded):
        guard.check(request(cookie=first))
    names = [guard.opened_session().partition(";")[0] for _ in range(257)]
    with pytest.raises(KeyNeeded):
        guard.check(request(cookie=names[0]))
    guard.check(request(cookie=names[1]))
    assert "; Secure" in guard.opened_session()


def test_wrong_keys_are_counted_by_client_and_a_right_one_is_not():
    clock = Clock()
    guard = access(clock)
    for _ in range(10):
        with pytest.raises(KeyNeeded):
            guard.check(request(authorization="Bearer wrong"))
    with pytest.raises(TooManyRequests):
        guard.check(request(authorization="Bearer wrong"))
    guard.check(request(authorization=f"bearer {KEY}"))
    with pytest.raises(KeyNeeded):
        guard.check(request(authorization="Bearer wrong", client="10.0.0.10"))
    clock.now_s = 60.0
    with pytest.raises(KeyNeeded):
        guard.check(request(authorization="Bearer wrong"))


@pytest.mark.parametrize("cookie", ["", ";;;", "edgestream_session", "edgestream_session=", "\x00"])
def test_a_cookie_that_is_none_is_no_fault(cookie):
    with pytest.raises(KeyNeeded):
        access(Clock()).check(request(cookie=cookie))


@pytest.mark.medium
def test_origins_are_those_of_the_host_itself():
    guard = access(Clock())
    sent = {"authorization": f"Bearer {KEY}", "method": "POST"}
    guard.check(request(host="cam:8600", origin="https://cam:8600", **sent))
    for origin in ("https://cam", "https://cam:8601", "https://cam:8600.evil", "cam:8600", "null"):
        with pytest.raises(OriginRefused):
            guard.check(request(host="cam:8600", origin=origin, **sent))
