"""Find each setting, check it, and remember where it came from.

Order: defaults < TOML file < variables `EDGESTREAM_<TABLE>__<NAME>` < flags < `--set KEY=VALUE`.
A value in a variable or after `--set` is written as in the file; what is no TOML value is text.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from ..runtime.errors import SettingsInvalid
from .settings_tables import Settings, expected_value, setting_rows, split_key

__all__ = ["Resolved", "Settings", "load_settings", "toml_text"]

PREFIX = "EDGESTREAM_"
FILE_VARIABLE = "EDGESTREAM_SETTINGS"
FILE_NAME = "edgestream.toml"
SURE = 0.8
"""Likeness of a whole key to one that is suggested; a slip or two in ten letters."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings and where each value came from.

    Attributes:
        settings: all tables, checked.
        origins: key (`source.fps`) → origin (`default`, `file edgestream.toml`, …).
    """

    settings: Settings
    origins: Mapping[str, str]

    def value(self, key: str) -> object:
        """The value of one key."""
        table, name = key.split(".")
        return getattr(getattr(self.settings, table), name)


@dataclass(frozen=True, slots=True)
class _Given:
    key: str
    value: object
    origin: str


def load_settings(
    file: Path | None,
    sets: Sequence[str],
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    folder: Path = Path(),
) -> Resolved:
    """Every setting, checked, with where it came from.

    Args:
        file: the settings file; None for the one that EDGESTREAM_SETTINGS names, else
            `edgestream.toml` in `folder`, else `edgestream/edgestream.toml` in the user's
            configuration folder. The first that is there is read, and no other.
        sets: texts of the form `source.fps=8`; a later one wins.
        flags: key → value of a flag of its own; None where it was not given.
        environ: variables of the environment.
        folder: the current folder.

    Raises:
        SettingsInvalid: a file is missing or no TOML, a key is unknown, a value out of range.
    """
    given = [
        *_from_file(*_file_and_reason(file, environ, folder)),
        *_from_environ(environ),
        *_from_flags(flags),
        *_from_sets(sets),
    ]
    known = [row.key for row in setting_rows()]
    tree: dict[str, dict[str, object]] = {}
    origins = dict.fromkeys(known, "default")
    for item in given:
        key, entry = split_key(item.key)
        if key not in origins:
            raise _unknown(item, known)
        table, name = key.split(".")
        values = tree.setdefault(table, {})
        before = values.get(name)
        kept = before if entry and isinstance(before, dict) else {}
        values[name] = {**kept, entry: item.value} if entry else item.value
        origins[key] = item.origin
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise _out_of_range(error, origins) from error
    return Resolved(settings, MappingProxyType(origins))


def _file_and_reason(
    file: Path | None, environ: Mapping[str, str], folder: Path
) -> tuple[Path | None, str]:
    if file is not None:
        return file, " (--settings)"
    if named := environ.get(FILE_VARIABLE):
        return Path(named), f" ({FILE_VARIABLE})"
    home = environ.get("HOME")
    configuration = environ.get("XDG_CONFIG_HOME") or (home and str(Path(home) / ".config"))
    places = [folder / FILE_NAME]
    if configuration:
        places.append(Path(configuration) / "edgestream" / FILE_NAME)
    # os.path: a folder that may not be entered holds no file of ours, and is no fault.
    return next((place for place in places if os.path.isfile(place)), None), ""


def _from_file(file: Path | None, reason: str) -> Iterator[_Given]:
    if file is None:
        return
    origin = f"file {file}"
    try:
        tree = _toml().loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        cause = (error.strerror or type(error).__name__).lower()
        raise SettingsInvalid(
            f"the settings file {file}{reason} cannot be read: {cause}",
            hint=f"name another one with --settings, or unset {FILE_VARIABLE}",
        ) from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise SettingsInvalid(
            f"{file} is no TOML: {error}", hint="write it as [source] fps = 4.0"
        ) from error
    for table, values in tree.items():
        if not isinstance(values, dict):
            yield _Given(table, values, origin)
            continue
        for name, value in values.items():
            yield _Given(f"{table}.{name}", value, origin)


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Given]:
    for variable in sorted(environ):
        # Without the double underscore it is not a setting: EDGESTREAM_SETTINGS names the file.
        if variable.startswith(PREFIX) and "__" in variable:
            key = variable.removeprefix(PREFIX).lower().replace("__", ".")
            yield _Given(key, _value_from_text(environ[variable]), f"variable {variable}")


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for key, value in flags.items():
        if value is not None:
            table, _, name = key.partition(".")
            # Those of the table gate are --gate and --gate-query; others have a setting's name.
            whole = table if name == "kind" else f"{table}_{name}" if table == "gate" else name
            flag = whole.replace("_", "-")
            yield _Given(key, value, f"flag --{flag}")


def _from_sets(sets: Sequence[str]) -> Iterator[_Given]:
    for text in sets:
        key, equals, value = text.partition("=")
        if not (equals and key.strip()):
            raise SettingsInvalid(
                f"got --set {text}, expected KEY=VALUE", hint="for example --set source.fps=8"
            )
        yield _Given(key.strip(), _value_from_text(value), "flag --set")


def _toml() -> Any:
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def _value_from_text(text: str) -> object:
    """The TOML value that a text is, or the text itself."""
    try:
        tree: dict[str, object] = _toml().loads(f"value = {text}")
    except ValueError:
        return text
    return tree["value"] if tree.keys() == {"value"} else text


def toml_text(value: object) -> str:
    """A value as a settings file writes it."""
    if isinstance(value, dict):
        entries = (f"{_key_text(name)} = {toml_text(entry)}" for name, entry in value.items())
        return "{" + ", ".join(entries) + "}"
    # TOML is stricter than JSON in one place: DEL may not stand in a text as it is.
    return json.dumps(value, default=str, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key_text(name: str) -> str:
    """A key as TOML writes it: a name with a dot or a space stands in quotes."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_text(name)


def _unknown(item: _Given, known: Sequence[str]) -> SettingsInvalid:
    tables = sorted({key.partition(".")[0] for key in known})
    if item.key in tables:
        return SettingsInvalid(
            f"{item.key} is {toml_text(item.value)}, expected a table of settings ({item.origin})",
            hint=f"write [{item.key}] on a line of its own, its settings below",
        )
    near = _near(item.key, known)
    return SettingsInvalid(
        f"there is no setting {item.key} ({item.origin})",
        hint=f"did you mean {near}?" if near else "`edgestream settings` shows all there are",
    )


def _near(key: str, known: Sequence[str]) -> str | None:
    """The setting that was meant: of the same name elsewhere, or with a slip in name or table."""
    table, dot, rest = key.partition(".")
    names = {other: other.partition(".")[2] for other in known}
    if same := [other for other, name in names.items() if name == key.rpartition(".")[2]]:
        return same[0]
    # In a table that is right, names alone are compared: it would make any name look alike.
    in_table = {name: other for other, name in names.items() if other.startswith(f"{table}.")}
    if dot and in_table:
        meant, near = in_table, get_close_matches(rest, in_table, n=1)
    else:
        meant = {other if dot else name: other for other, name in names.items()}
        near = get_close_matches(key, meant, n=1, cutoff=SURE)
    return meant[near[0]] if near else None


def _out_of_range(error: ValidationError, origins: Mapping[str, str]) -> SettingsInvalid:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    origin = origins[split_key(key)[0]]
    return SettingsInvalid(
        f"{key} is {toml_text(first['input'])}, expected {expected_value(key)} ({origin})",
        hint="`edgestream settings` shows every setting with its meaning",
    )
