"""Cameras as they are named on the command line, and settings that a service takes otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ...runtime.errors import UsageError

if TYPE_CHECKING:
    from ..settings import Resolved, Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NAMED = re.compile(rf"({NAME.pattern})=(.+)", re.DOTALL)
_LIKE_A_NAME = re.compile(r"([^=:/?]*)=.")


def cameras_from_words(words: Sequence[str]) -> dict[str, str]:
    """Name → address of `[NAME=]ADDRESS` words; without a name it is made of the address.

    Raises:
        UsageError: two have the same name, or one is no name.
    """
    cameras: dict[str, str] = {}
    for word in words:
        match = _NAMED.fullmatch(word)
        named = _LIKE_A_NAME.match(word)
        if named and not match and not Path(word).exists():
            check_names({named[1]: ""}, "write NAME=ADDRESS")
        name, address = match.groups() if match else (name_from_address(word), word)
        if name in cameras:
            raise UsageError(
                f"got two cameras with the name {name}, expected one", hint=f"{name}2=ADDRESS"
            )
        cameras[name] = address
    return cameras


def name_from_address(address: str) -> str:
    """A name that says which address it is: the stem of a file, the host of a camera."""
    host = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/:?#]+)", address)
    text = host[1] if host else PurePath(address).stem
    letters = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:64]
    return letters or "camera"


def check_names(cameras: Mapping[str, str], hint: str = "rename it in service.cameras") -> None:
    """Raises UsageError where a camera has a name that is no folder's."""
    for name in cameras:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"got the camera name {name!r}, expected letters, digits, - and _, at most 64",
                hint=hint,
            )


def with_pictures(resolved: Resolved) -> Settings:
    """The settings with a small picture of every key frame, unless somebody said otherwise.

    The page shows them; `memory.thumbnails` alone is off, because nothing else reads them.
    """
    settings = resolved.settings
    if resolved.origins["memory.thumbnails"] != "default":
        return settings
    memory = settings.memory.model_copy(update={"thumbnails": True})
    return settings.model_copy(update={"memory": memory})
