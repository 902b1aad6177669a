"""Tells systemd that the service is ready, alive or leaving, where systemd started it.

Source: sd_notify(3) and sd_watchdog_enabled(3): datagrams to a socket that the environment names.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell systemd; whether there was one to tell.

    Args:
        state: READY, STOPPING, ALIVE or `STATUS=…`.
        environ: names the socket as NOTIFY_SOCKET; a name that begins with @ is an abstract one.

    A socket that has gone is no fault of the service: False.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    place = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # who supervises us must not hold us up
            sender.sendto(state.encode(), place)
    except OSError:
        return False
    return True


def watchdog_every_s(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float:
    """How often to tell ALIVE, seconds: a third of what systemd waits; 0: it does not wait."""
    if environ.get("WATCHDOG_PID", str(pid or os.getpid())) != str(pid or os.getpid()):
        return 0.0
    waits_us = environ.get("WATCHDOG_USEC", "0")
    return int(waits_us) / 3e6 if waits_us.isascii() and waits_us.isdigit() else 0.0
