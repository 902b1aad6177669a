"""Typed reading of parsed JSON: every fault names the place, what was got and what was expected."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from .errors import EdgeStreamError

Made = TypeVar("Made")
Fault = Callable[[str], EdgeStreamError]

_SHOWN_CHARACTERS = 60


def frozen(value: Any) -> Any:
    """The same JSON value with its objects and lists made read-only, all the way down."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: frozen(part) for key, part in value.items()})
    if isinstance(value, list | tuple):
        return tuple(frozen(part) for part in value)
    return value


def plain(value: Any) -> Any:
    """What `frozen` was given: dicts and lists that `json.dumps` takes."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def json_from_value(value: Any) -> dict[str, Any]:
    """A frozen dataclass as a JSON object, the keys of its `extra` beside its own.

    A None is left out unless the field's metadata says `shown_as_null`; metadata `key` is the name
    in JSON where it is not the field's.
    """
    written: dict[str, Any] = plain(value.extra)
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if field.name != "extra" and (part is not None or "shown_as_null" in field.metadata):
            written[field.metadata.get("key", field.name)] = _json_from_part(part)
    return written


def _json_from_part(part: Any) -> Any:
    if dataclasses.is_dataclass(part):
        return json_from_value(part)
    if isinstance(part, Mapping):
        return {key: _json_from_part(below) for key, below in part.items()}
    if isinstance(part, list | tuple):
        return [_json_from_part(below) for below in part]
    return part


class Fields:
    """One JSON object while it is read field by field.

    Args:
        value: what stands there; refused unless it is an object.
        place: where that is, for example `parts[0]`; empty for the whole file.
        fault: makes the error that is raised out of a message.
    """

    def __init__(self, value: Any, place: str, fault: Fault) -> None:
        self.place = place
        self._fault = fault
        self._read: set[str] = set()
        if not isinstance(value, Mapping):
            raise fault(_wrong(place or "the whole file", value, "an object"))
        self._value = value

    def __contains__(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._value.get(key) is not None

    def text(self, key: str, *, one_of: Collection[str] = ()) -> str:
        """A text; one of those given, or any that is not empty."""
        value = self._get(key)
        if one_of:
            if not isinstance(value, str) or value not in one_of:
                raise self.refused(key, value, f"one of {', '.join(one_of)}")
        elif not isinstance(value, str) or not value:
            raise self.refused(key, value, "a text")
        return str(value)

    def matching(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        """A text of which a pattern describes the whole."""
        text = self.text(key)
        if not pattern.fullmatch(text):
            raise self.refused(key, text, expected)
        return text

    def whole(self, key: str, *, at_least: int = 1) -> int:
        """A whole number from a bound on."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise self.refused(key, value, f"a whole number of at least {at_least}")
        return value

    def number(
        self,
        key: str,
        *,
        above: float = -math.inf,
        at_least: float = -math.inf,
        at_most: float = math.inf,
    ) -> float:
        """A finite number within bounds; a whole one stays whole."""
        value = self._get(key)
        if not (_is_number(value) and value > above and at_least <= value <= at_most):
            bounds = {"above": above, "of at least": at_least, "of at most": at_most}
            told = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
            raise self.refused(key, value, " ".join(["a number", " and ".join(told)]).rstrip())
        return value  # type: ignore[no-any-return]

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.refused(key, value, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self._each(key, lambda part: isinstance(part, str), "a list of texts"))

    def wholes(self, key: str, *, at_least: int = 1) -> tuple[int, ...]:
        """A list of whole numbers from a bound on."""
        expected = f"a list of whole numbers of at least {at_least}"
        return tuple(self._each(key, lambda part: _is_whole(part) and part >= at_least, expected))

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(self._each(key, _is_number, "a list of numbers"))

    def mapping(
        self, key: str, each: Callable[[Any], bool] | None = None, expected: str = "an object"
    ) -> Mapping[str, Any]:
        """An object taken as it is, read-only, if `each` of its values is as it should be."""
        value = self._get(key)
        if not isinstance(value, Mapping) or (each and not all(map(each, value.values()))):
            raise self.refused(key, value, expected)
        return frozen(value)  # type: ignore[no-any-return]

    def anything(self, key: str) -> Any:
        """Whatever stands there, null included; read-only."""
        return frozen(self._get(key))

    def object(self, key: str, made: Callable[[Fields], Made]) -> Made:
        """An object, made into a value."""
        return made(Fields(self._get(key), self._at(key), self._fault))

    def maybe(self, key: str, made: Callable[[Fields], Made]) -> Made | None:
        """An object, made into a value; None where it is absent."""
        return self.object(key, made) if key in self else None

    def objects(self, key: str, made: Callable[[Fields], Made]) -> tuple[Made, ...]:
        """A list of objects, each made into a value."""
        return tuple(
            made(Fields(part, f"{self._at(key)}[{index}]", self._fault))
            for index, part in enumerate(self._list(key, "a list of objects"))
        )

    def named(self, key: str) -> Iterator[tuple[str, Fields]]:
        """The objects in an object of objects, by name."""
        for name, part in self.mapping(key).items():
            yield name, Fields(part, f"{self._at(key)}[{name!r}]", self._fault)

    def rest(self) -> Mapping[str, Any]:
        """The fields that nobody read, as they are; read-only."""
        return frozen({k: v for k, v in self._value.items() if k not in self._read})  # type: ignore[no-any-return]

    def refused(self, key: str, value: Any, expected: str) -> EdgeStreamError:
        """The error for a field that holds something else than it should."""
        return self._fault(_wrong(self._at(key), value, expected))

    def _each(self, key: str, holds: Callable[[Any], bool], expected: str) -> Sequence[Any]:
        value = self._list(key, expected)
        if not all(map(holds, value)):
            raise self.refused(key, plain(value), expected)
        return value

    def _list(self, key: str, expected: str) -> Sequence[Any]:
        value = self._get(key)
        if not isinstance(value, list | tuple):
            raise self.refused(key, value, expected)
        return value

    def _get(self, key: str) -> Any:
        self._read.add(key)
        if key not in self._value:
            raise self._fault(f"{self._at(key)} is missing")
        return self._value[key]

    def _at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if isinstance(value, int):  # JSON may hold whole numbers that no float can
        return not isinstance(value, bool) and abs(value) < 1 << 63
    return isinstance(value, float) and math.isfinite(value)


def _wrong(place: str, value: Any, expected: str) -> str:
    shown = repr(plain(value))
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[: _SHOWN_CHARACTERS - 1] + "…"
    return f"{place}: got {shown}, expected {expected}"
