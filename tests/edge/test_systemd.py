"""What systemd hears: real datagrams on a real socket."""

from __future__ import annotations

import socket

import pytest

from edgestream.edge.systemd import ALIVE, READY, notify, watchdog_every_s


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_hears_each_word(tmp_path, is_abstract):
    name = f"@edgestream-{tmp_path.name}-{id(tmp_path)}" if is_abstract else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if is_abstract else name)
        manager.settimeout(5)
        assert notify(READY, {"NOTIFY_SOCKET": name}) and notify(ALIVE, {"NOTIFY_SOCKET": name})
        assert [manager.recv(64), manager.recv(64)] == [b"READY=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_systemd_nothing_is_told(environ):
    assert not notify(READY, environ)


@pytest.mark.medium
def test_a_socket_that_has_gone_or_is_full_holds_nobody_up(tmp_path):
    assert not notify(READY, {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "deaf"))
        told = [notify(ALIVE, {"NOTIFY_SOCKET": str(tmp_path / "deaf")}) for _ in range(20_000)]
    assert told[0] and not told[-1]


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "often"}, 0.0),
        ({}, 0.0),
    ],
)
def test_how_often_it_says_that_it_lives(environ, every_s):
    assert watchdog_every_s(environ, pid=7) == every_s
