"""Which addresses a request may have opened: scheme, host, port and path are compared one by one.

An address as a whole would not do: `rtsp://10.0.0.*` would let `rtsp://10.0.0.1@elsewhere` in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

from ...runtime.errors import AddressRefused

ALWAYS = "browser:"
"""A camera that a page feeds opens nothing."""
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[^/?#@\s\\]*@)?"
    r"(?P<host>\[[0-9a-f:.*?]+\]|[^/?#@:\s\[\]\\]*)(?::(?P<port>[0-9*]{1,5}))?(?P<path>[/?#]\S*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """Of an address or pattern: each in lower case but the path, which is of a file system."""

    scheme: str
    host: str
    port: str
    path: str


def check_address(address: str, allowed: Sequence[str]) -> None:
    """Refuse what no pattern allows.

    Args:
        address: of a camera, as a request names it.
        allowed: patterns with `*` and `?`, as `service.allow_addresses` has them.

    Raises:
        AddressRefused: none allows it.
    """
    if address == ALWAYS or any(is_allowed(address, pattern) for pattern in allowed):
        return
    raise AddressRefused(
        "this address may not be added by a request: no pattern of service.allow_addresses "
        "allows it",
        hint="add a pattern to service.allow_addresses, or name the camera when the service starts",
    )


def is_allowed(address: str, pattern: str) -> bool:
    """Whether a pattern allows an address.

    Of a URL, scheme and host must match; port and path where the pattern names them. Anything else
    is compared as a whole, a file by where it really is.
    """
    wanted = _parts(pattern)
    if wanted is None:
        is_plain = "://" not in address and not (":" in address and ".." in address)
        return is_plain and fnmatchcase(_plain(address), pattern)
    got = _parts(address)
    if got is None or got.scheme != wanted.scheme:
        return False
    is_port = not wanted.port or fnmatchcase(got.port, wanted.port)
    # `..` may mean another path to who serves it than to who reads the pattern.
    is_path = wanted.path in ("", "/*") or (
        ".." not in unquote(got.path) and fnmatchcase(got.path, wanted.path)
    )
    return fnmatchcase(got.host, wanted.host) and is_port and is_path


def _parts(text: str) -> Parts | None:
    """The parts of a URL; None of anything else."""
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme, host, port, path = (match[name] or "" for name in ("scheme", "host", "port", "path"))
    # A bracket would begin a set of letters in a pattern.
    return Parts(scheme.lower(), host.lower().strip("[]"), port, path)


def _plain(address: str) -> str:
    """An address that is no URL: where a file really is, links followed; `test:clock` as it is."""
    if re.match(r"[a-z][a-z0-9+-]+:", address):
        return address
    return os.path.realpath(address)
