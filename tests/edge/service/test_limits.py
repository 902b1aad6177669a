"""Bounds: sizes, times, rates, connections; over real connections, and the bucket by itself."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.limits import CLIENTS_KEPT, RateLimit

from .serving import serving, until

SETS = {
    "service.arrive_within_s": 1,
    "service.max_body_mb": 0.1,
    "service.max_connections": 24,
    "service.requests_per_minute": 100_000,
}


@pytest.fixture(scope="module")
def tight():
    """A service with narrow bounds and no camera."""
    words = [word for key, value in SETS.items() for word in ("--set", f"{key}={value}")]
    with serving(*words) as running:
        yield running


def connected(service):
    return socket.create_connection(("127.0.0.1", service.port), 60)


def read_all(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.medium
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nhost: local",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n",
    ],
    ids=["nothing", "half a head", "no end"],
)
def test_a_head_that_does_not_come_is_not_waited_for(tight, begun):
    with connected(tight) as connection:
        connection.sendall(begun)
        assert b"408" in read_all(connection)


@pytest.mark.medium
def test_a_head_that_comes_byte_by_byte_is_not_waited_for(tight):
    with connected(tight) as connection:
        begun_s = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(600):
                connection.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - begun_s < 30


@pytest.mark.medium
def test_a_body_that_does_not_come_is_not_waited_for(tight):
    with connected(tight) as connection:
        connection.sendall(
            b"POST /v1/cameras HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{"
        )
        answer = read_all(connection)
    assert b"408" in answer and b"body-too-slow" in answer


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(tight, is_declared):
    with connected(tight) as connection:
        head = "content-length: 1000000" if is_declared else "transfer-encoding: chunked"
        connection.sendall(
            f"POST /v1/cameras HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n".encode()
        )
        answer = b""
        try:
            for _ in range(0 if is_declared else 4):
                connection.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            answer = connection.recv(65536)
        except OSError:
            answer = answer or b"413 reset"
    assert b"413" in answer


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 40_000,
        b'{"a":' * 15_000,
        b"\xff\xfe",
        b"{",
        b"",
        b"null",
        b"[]",
        b'"\\ud800"',
        b'{"name": "\\ud800", "address": "browser:"}',
        b'{"name": "a", "address": ' + b"1" * 50_000 + b"}",
        b'{"name": "a", "address": "browser:", "further": 1}',
        b'{"name": NaN, "address": Infinity}',
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_a_body_that_is_no_such_value_is_refused(tight, body):
    for path in ("/v1/cameras", "/v1/standing", "/v1/chat/completions", "/v1/session"):
        status, headers, text = tight.ask("POST", path, body, {"content-type": "application/json"})
        assert status in (400, 422), (path, status, text)
        assert headers["content-type"] == "application/json"
        assert json.loads(text)["error"]["code"] == "request-invalid"
        assert "Traceback" not in text.decode()


def test_what_is_not_there_has_the_shape_of_every_fault(tight):
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("PUT", "/v1/cameras", 405),
        ("GET", "/web/../app.py", 404),
        ("GET", "/web/%2e%2e/app.py", 404),
        ("GET", "/web/..%2fapp.py", 404),
    ):
        got, value = tight.json(method, path)
        assert got == status and set(value["error"]) == {"code", "message", "hint"}


def test_there_are_no_more_connections_than_may_be(tight):
    held = []
    try:
        for _ in range(60):
            held.append(connected(tight))
        answers = []

        def refused():
            for connection in held:
                connection.setblocking(False)
                try:
                    answers.append(connection.recv(4096))
                except BlockingIOError:
                    continue
                except OSError:
                    answers.append(b"reset")
            return any(b"503" in one for one in answers)

        until(refused)
    finally:
        for connection in held:
            connection.close()
    until(lambda: is_answered(tight))


def is_answered(service):
    try:
        return service.json("GET", "/health")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.medium
def test_a_connection_may_be_used_again(tight):
    connection = http.client.HTTPConnection("127.0.0.1", tight.port, timeout=60)
    for _ in range(3):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
        time.sleep(0.6)  # together longer than a head may take
    connection.close()


@pytest.mark.medium
def test_who_asks_too_often_waits():
    with serving("--set", "service.requests_per_minute=30", waits=False) as service:
        found = [service.ask("GET", "/health") for _ in range(40)]
        refused = [one for one in found if one[0] == 429]
        assert 5 <= len(refused) <= 10
        assert all(int(headers["retry-after"]) >= 1 for _, headers, _ in refused)


@pytest.mark.slow
def test_a_page_of_slow_clients_stops_nobody(tight):
    """Twenty clients that never end their head: others are answered all the while."""
    held = [connected(tight) for _ in range(20)]
    for connection in held:
        connection.sendall(b"GET / HTTP/1.1\r\n")
    answered = []
    threads = [
        threading.Thread(target=lambda: answered.append(tight.json("GET", "/health")[0]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answered == [200] * 3
    for connection in held:
        connection.close()


@given(st.integers(1, 600), st.lists(st.floats(0, 30), min_size=1, max_size=100))
def test_no_window_has_more_than_a_bucket_and_what_flows_in(per_minute, gaps_s):
    clock = [0.0]
    limit = RateLimit(per_minute, lambda: clock[0])
    let_in = []
    for gap_s in gaps_s:
        clock[0] += gap_s
        wait_s = limit.wait_s("a")
        if wait_s == 0:
            let_in.append(clock[0])
        else:
            assert 0 < wait_s <= 60 / per_minute + 1e-6
    for index, begun_s in enumerate(let_in):
        for other, end_s in enumerate(let_in[index:], 1):
            assert other <= per_minute + (end_s - begun_s) * per_minute / 60 + 1 + 1e-6


def test_a_client_that_waits_as_long_as_it_is_told_comes_in():
    clock = [0.0]
    limit = RateLimit(6, lambda: clock[0])
    assert [limit.wait_s("a") == 0 for _ in range(7)] == [True] * 6 + [False]
    clock[0] += limit.wait_s("a") + 1e-9
    assert limit.wait_s("a") == 0
    assert limit.wait_s("b") == 0, "others have buckets of their own"


@pytest.mark.medium
def test_clients_that_come_and_go_take_no_room():
    limit = RateLimit(1, lambda: 0.0)
    for number in range(3 * CLIENTS_KEPT):
        limit.wait_s(str(number))
    assert len(limit._left) == CLIENTS_KEPT
