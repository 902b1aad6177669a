"""Where records may go: an address from the settings, checked before anything is opened.

Addresses come from the settings alone, never from a request or a record. What is said of one in a
message is its host and port: a path or a query may be a password.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ....runtime.errors import SettingsInvalid

PORTS = {"http": 80, "https": 443}
SMALLEST_SECRET_BYTES = 16
MOST_SECRET_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address of a webhook.

    Attributes:
        is_tls: https.
        host: without brackets.
        port: of it.
        path: with the query; begins with a slash.
    """

    is_tls: bool
    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        """What messages call it: host and port alone."""
        return f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address alone; nothing is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def checked_target(url: str, *, allow_plain: bool) -> Target:
    """The target that `webhook.url` names.

    Raises:
        SettingsInvalid: it is no http or https address, holds a user, or is plain http to another
            machine and that is not allowed.
    """
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise _refused("has a space or a letter outside ASCII in it, expected it percent-encoded")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _refused("cannot be read, expected https://host/path") from None
    if parts.scheme not in PORTS or not host:
        raise _refused("is no web address, expected https://host/path")
    if parts.username is not None or parts.password is not None:
        raise _refused("has a user in it, expected none", "sign with webhook.secret_file")
    if parts.fragment:
        raise _refused("has a part behind #, expected none")
    target = Target(
        is_tls=parts.scheme == "https",
        host=host,
        port=PORTS[parts.scheme] if port is None else port,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )
    check_plain("webhook", target.host, is_tls=target.is_tls, allow_plain=allow_plain)
    return target


def check_plain(table: str, host: str, *, is_tls: bool, allow_plain: bool) -> None:
    """Refuse what would leave this machine in plain text and was not allowed to.

    Raises:
        SettingsInvalid: it would.
    """
    if is_tls or allow_plain or is_loopback(host):
        return
    encrypted = {"webhook": "write https:// in webhook.url", "mqtt": "set mqtt.tls = true"}[table]
    raise SettingsInvalid(
        f"[{table}] sends to {host} in plain text, expected TLS to another machine",
        hint=f"{encrypted}, or {table}.allow_plain = true where you trust everyone on the way",
    )


def secret_from(path: str, key: str, *, least_bytes: int = 1) -> bytes:
    """The text of a file that holds a secret, without the white space around it.

    Args:
        path: of the file.
        key: the setting that names it, for messages.
        least_bytes: how long it must be.

    Raises:
        SettingsInvalid: it cannot be read, or holds too little or too much.
    """
    try:
        with open(Path(path).expanduser(), "rb") as file:
            content = file.read(MOST_SECRET_BYTES + 1)
    except OSError as error:
        raise SettingsInvalid(
            f"{key}: {path} cannot be read: {(error.strerror or str(error)).lower()}",
            hint="name a file that this user may read",
        ) from error
    secret = content.strip()
    if len(secret) < least_bytes or len(content) > MOST_SECRET_BYTES:
        raise SettingsInvalid(
            f"{key}: {path} holds {len(secret)} bytes, expected {least_bytes} to "
            f"{MOST_SECRET_BYTES}",
            hint="`openssl rand -hex 32` makes a good one",
        )
    return secret


def _refused(what: str, hint: str = "write it as https://host/path") -> SettingsInvalid:
    """Without the address itself, which may hold a password."""
    return SettingsInvalid(f"webhook.url {what}", hint=hint)
