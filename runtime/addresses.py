"""Addresses of live sources: what of them may be shown, the names they give, their options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from .errors import SettingsInvalid

HIDDEN = "***"
LONGEST_NAME = 80

NETWORK = re.compile(r"(?s)([A-Za-z][A-Za-z0-9+.-]*):(/{0,2})(.*)")
LOCAL_SCHEMES = frozenset({"test", "v4l2", "screen", "loop", "browser", "file"})
URL_IN_TEXT = re.compile(
    r"\"[A-Za-z][A-Za-z0-9+.-]*://[^\"]*\"|[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']+"
)

# What a camera's own address may say openly: which of its streams is meant. Everything else in a
# query is hidden, since there is no telling under which key a camera takes its password.
OPEN_KEYS = frozenset(
    {"camera", "channel", "fps", "height", "profile", "quality", "resolution"}
) | {"rate", "size", "stream", "subtype", "width"}
OPEN_VALUE = re.compile(r"[A-Za-z0-9x._-]{1,16}")
SECRET_WORD = r"(?:user|usr|login|pass|pwd|pw|token|key|secret|auth|sig|cred|cookie)"
# Some cameras have `/user=admin_password=secret_channel=1.sdp` for a path.
SECRET_SEGMENT = re.compile(rf"(?i){SECRET_WORD}[A-Za-z_-]*=")
SECRET_SETTING = re.compile(
    rf"(?i)([A-Za-z0-9_-]*{SECRET_WORD}[A-Za-z0-9_-]*\s*=\s*)(\"[^\"]*\"|'[^']*'|\S+)"
)
# Shorter ones are left where other words may hold them by chance; FFmpeg's texts hold none at all.
SHORTEST_SECRET = 4


def redacted(address: str) -> str:
    """The address as it may be shown: without user, password, and query values that may be one.

    Where it is not clear what is meant (a password that is not percent-encoded and holds `/`, `?`
    or `@`), more is left out rather than less.

    Args:
        address: of any source; paths of files come back unchanged.
    """
    match = NETWORK.fullmatch(address)
    if match is None:
        return address
    scheme, slashes, rest = match.groups()
    if scheme.lower() == "gst":
        return f"{scheme}:{without_secrets(slashes + rest)}"
    if scheme.lower() in LOCAL_SCHEMES or not (slashes or "@" in rest):
        return address
    return f"{scheme}:{slashes}{_open_part(rest)}"


def _open_part(rest: str) -> str:
    """Of what follows `scheme://`: host, path and harmless options."""
    place, mark, query = rest.replace("#", "/").partition("?")
    if "@" in query:  # perhaps the password holds the question mark, and what is before it too
        return HIDDEN
    place = place.rpartition("@")[2]
    segments = [
        HIDDEN if SECRET_SEGMENT.search(segment) else segment for segment in place.split("/")
    ]
    shown = "&".join(_open_option(option) for option in re.split("[&;]", query)) if query else ""
    return "/".join(segments) + mark + shown


def _open_option(option: str) -> str:
    key, mark, value = option.partition("=")
    is_open = key.lower() in OPEN_KEYS and OPEN_VALUE.fullmatch(value)
    return option if mark and is_open else f"{key}={HIDDEN}" if mark else HIDDEN


def without_secrets(text: str, address: str = "") -> str:
    """A text of somebody else (a program's error, a pipeline) as it may be shown.

    Args:
        text: addresses in it are redacted, values of settings such as `user-pw=` hidden.
        address: its user and password are hidden wherever they stand.
    """
    text = URL_IN_TEXT.sub(lambda match: _redacted_in_text(match[0]), text)
    text = SECRET_SETTING.sub(lambda match: match[1] + HIDDEN, text)
    for secret in _secrets_in(address):
        text = text.replace(secret, HIDDEN)
    return text


def _redacted_in_text(found: str) -> str:
    bare = found.strip('"')
    return found.replace(bare, redacted(bare))


def _secrets_in(address: str) -> list[str]:
    """User and password as they are written and as they are meant, longest first."""
    match = NETWORK.fullmatch(address)
    if match is None or match[1].lower() in LOCAL_SCHEMES or "@" not in match[3]:
        return []
    written = match[3].rpartition("@")[0]
    parts = {written, *written.split(":", 1)}
    both = parts | {unquote(part) for part in parts}
    return sorted((one for one in both if len(one) >= SHORTEST_SECRET), key=len, reverse=True)


def camera_name(address: str) -> str:
    """The name of a network camera in records: its host and path, nothing secret.

    Args:
        address: `rtsp://user:password@door:554/stream1?x=y` gives `door/stream1`.
    """
    place = redacted(address).partition("://")[2].partition("?")[0]
    host, _, path = place.partition("/")
    host = re.sub(r":\d+$", "", host)
    segments = [segment for segment in path.split("/") if segment and segment != HIDDEN]
    return "/".join([host or "camera", *segments])[:LONGEST_NAME]


def check_network_address(address: str) -> None:
    """Whether a host can be told from a password.

    Raises:
        SettingsInvalid: no host, or a port that is no number, as where a password is not encoded.
    """
    authority = re.split("[/?#]", address.partition("://")[2], maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    if re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:@\s]+)(:\d{1,5})?", host) is None:
        raise SettingsInvalid(
            f"got the source {redacted(address)!r}, expected a host and perhaps a port after ://",
            hint="in user name and password write % as %25, / as %2F, ? as %3F, # as %23, "
            "@ as %40 and : as %3A",
        )


def options_in(address: str, prefix: str, allowed: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """What stands between prefix and `?`, and the options behind it.

    Args:
        address: `v4l2:/dev/video0?size=1280x720&fps=30`.
        prefix: what it begins with; left out.
        allowed: option → pattern of its value.

    Raises:
        SettingsInvalid: an option is unknown, given twice or has another value.
    """
    place, mark, query = address.removeprefix(prefix).partition("?")
    options: dict[str, str] = {}
    for part in query.split("&") if mark else ():
        key, _, value = part.partition("=")
        if key in options or re.fullmatch(allowed.get(key, r"(?!)"), value) is None:
            known = " and ".join(f"{name}= ({pattern})" for name, pattern in allowed.items())
            raise SettingsInvalid(
                f"got {part!r} in the source {address!r}, expected each of {known} at most once"
            )
        options[key] = value
    return place, options
