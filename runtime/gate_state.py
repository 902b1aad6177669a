"""The state of a gate as JSON values, and back: checked field by field against its dataclass."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from .errors import StateInvalid
from .gate import EveryGate, EveryState, Gate, NeverGate
from .gate_change import ChangeGate, ChangeState
from .gate_learned import GateBeside, LearnedGate, LearnedGateState
from .gate_network import QUERY
from .learned_phases import LearnedState
from .state_snapshot import ANOTHER, SavedPart

STATES: dict[type, type] = {
    ChangeGate: ChangeState,
    EveryGate: EveryState,
    NeverGate: type(None),
}
"""Kind of gate without a network → what its `snapshot` gives."""
SPOKE_S = "spoke_s"
"""When a gate that reads it last spoke, stream time in seconds; absent where it has not yet."""


def saved_gate(gate: Gate, name: str) -> SavedPart:
    """The state of a gate, to be saved.

    Args:
        gate: of a kind in STATES, a `LearnedGate`, or one of STATES in a `GateBeside`.
        name: as the user's setting has it, `every:5`.
    """
    if isinstance(gate, LearnedGate):
        state = gate.snapshot()
        asked = {QUERY: gate.network.query.text} if gate.network.query.text else {}
        told = gate.network.reads_spoken and state.spoke_s is not None
        spoke = {SPOKE_S: float(state.spoke_s or 0.0)} if told else {}
        values = {"gate": name, **asked, **spoke, "state": _json(state.decided)}
        return SavedPart(values, dict(state.arrays))
    if isinstance(gate, GateBeside):
        return SavedPart(saved_gate(gate.gate, name).values, dict(gate.network.snapshot()))
    return SavedPart({"gate": name, "state": _json(gate.snapshot())}, {})


def restore_gate(gate: Gate, name: str, saved: SavedPart) -> bool:
    """Put a saved state back, if it is one of this gate.

    What a network remembers is put back whichever gate decides now, and whatever it looks for.

    Args:
        gate: as it was made.
        name: as the user's setting has it now.
        saved: of `saved_gate`.

    Returns:
        False: it is of another gate or looked for something else, and this one starts anew.

    Raises:
        StateInvalid: a field is missing or holds something else than it should.
    """
    values = saved.values.get("state")
    arrays = {name: np.asarray(array) for name, array in saved.arrays.items()}
    is_same: bool = saved.values.get("gate") == name
    if isinstance(gate, LearnedGate):
        is_same &= saved.values.get(QUERY, "") == gate.network.query.text
        if is_same:
            decided = _value(LearnedState, values, "state")
            spoke_s = _value(float | None, saved.values.get(SPOKE_S), SPOKE_S)
            gate.restore(LearnedGateState(arrays, decided, spoke_s))
        elif arrays:
            gate.network.restore(arrays)
        return is_same
    if isinstance(gate, GateBeside):
        gate.network.restore(arrays)
        return restore_gate(gate.gate, name, saved)
    if is_same:
        gate.restore(_value(STATES[type(gate)], values, "state"))
    return is_same


def _json(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name: _json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: _json(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_json(part) for part in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    return float(value)  # also the scalars of numpy, exactly


def _value(kind: Any, found: Any, place: str) -> Any:
    """The value of a type that a JSON value stands for."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, found, place)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        inner = next(part for part in parts if part is not type(None))
        return None if found is None else _value(inner, found, place)
    if origin is Literal:
        return _checked(found, found in parts, f"one of {', '.join(parts)}", place)
    if origin is tuple:
        return _tuple(parts, found, place)
    if origin is not None and issubclass(origin, Mapping):
        _checked(found, isinstance(found, Mapping), "an object", place)
        return {key: _value(parts[1], part, f"{place}.{key}") for key, part in found.items()}
    if kind is float:
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return float(_checked(found, is_number and math.isfinite(found), "a number", place))
    return _checked(found, type(found) is kind, f"a value of type {kind.__name__}", place)


def _dataclass(kind: type, found: Any, place: str) -> Any:
    names = [field.name for field in dataclasses.fields(kind)]
    is_one = isinstance(found, Mapping) and found.keys() == set(names)
    _checked(found, is_one, f"an object of {', '.join(names)}", place)
    hints = get_type_hints(kind)
    try:
        return kind(**{n: _value(hints[n], found[n], f"{place}.{n}") for n in names})
    except ValueError as error:  # each field is right, and together they make no sense
        raise StateInvalid(f"the saved gate: {place}: {error}", hint=ANOTHER) from error


def _tuple(parts: tuple[Any, ...], found: Any, place: str) -> tuple[Any, ...]:
    _checked(found, isinstance(found, list | tuple), "a list", place)
    if parts[-1] is Ellipsis:
        return tuple(_value(parts[0], one, f"{place}[{n}]") for n, one in enumerate(found))
    _checked(found, len(found) == len(parts), f"a list of {len(parts)}", place)
    return tuple(
        _value(kind, one, f"{place}[{n}]")
        for n, (kind, one) in enumerate(zip(parts, found, strict=True))
    )


def _checked(found: Any, is_right: bool, expected: str, place: str) -> Any:
    if not is_right:
        shown = repr(found)[:60]
        raise StateInvalid(
            f"the saved gate: {place}: got {shown}, expected {expected}", hint=ANOTHER
        )
    return found
