"""What must be right before the service listens: address, key, certificate and port."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...runtime.errors import AddressTaken, ListenUnsafe, SettingsInvalid

SHORTEST_KEY = 16
"""Letters of a key: 16 random ones are not guessed at `access.WRONG_KEYS_PER_MINUTE`."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def key_from_file(path: str) -> str:
    """The key of the service: the first line of its file.

    Raises:
        SettingsInvalid: the file cannot be read, or its key is too short.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(
            f"service.api_key_file {path} cannot be read: {error}", hint="name another file"
        ) from error
    key = lines[0].strip() if lines else ""
    if len(key) < SHORTEST_KEY:
        raise SettingsInvalid(
            f"the key in {path} has {len(key)} letters, expected {SHORTEST_KEY} or more",
            hint=f"openssl rand -hex 32 > {path}",
        )
    return key


def check_listening(host: str, key: str | None) -> None:
    """Refuse to be reached by others without a key.

    Raises:
        ListenUnsafe: the address is not of this machine alone, and there is no key.
    """
    if key is None and not is_loopback(host):
        raise ListenUnsafe(
            f"got --host {host} without a key, expected one: whoever reaches the service sees "
            "the cameras",
            hint="openssl rand -hex 32 > key, then add --api-key-file key; or keep to 127.0.0.1",
        )


def check_certificate(cert: str, key: str) -> None:
    """Refuse files with which nothing can be served over TLS.

    Args:
        cert: of the certificate chain.
        key: of its private key; empty where the same file holds it.

    Raises:
        SettingsInvalid: they cannot be read, or do not belong together.
    """
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key or None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsInvalid(
            f"service.tls_cert {cert} and its key cannot be used: {error}",
            hint="name a certificate and its private key, both in PEM",
        ) from error


@contextmanager
def listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, taken before anything that takes long.

    Raises:
        AddressTaken: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    with listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host.strip("[]"), port))
            listening.listen(1024)
        except (OSError, UnicodeError) as error:
            raise AddressTaken(
                f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', error)}",
                hint="take another one with --port, or 0 for any that is free",
            ) from error
        yield listening
