"""Golden calls: inputs and expected outputs that travel in a bundle and prove it on any device.

Each call stands alone: what a graph carries from run to run (a gate's state, a decoder's cache) is
among its inputs. One `.npz` file holds all arrays, each different one once, and as the member
`calls` a JSON text that says which call uses which.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .array_file import read_arrays, write_arrays
from .errors import FormatTooNew, GoldenInvalid
from .file_names import GOLDEN_FILE
from .json_fields import Fields

FORMAT = 2
"""Of a file with calls of adapters, which a reader of format 1 would run without them."""
_PLAIN_FORMAT = 1
_INDEX = "calls"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may be from what is expected; a bound that is None is not asked.

    Attributes:
        max_abs: largest difference of any element.
        min_cosine: smallest cosine between rows of the last axis.
        min_argmax: smallest share of rows whose largest element is at the same place, [0, 1].
    """

    max_abs: float | None = None
    min_cosine: float | None = None
    min_argmax: float | None = None

    def __post_init__(self) -> None:
        if self.max_abs is None and self.min_cosine is None and self.min_argmax is None:
            raise ValueError("a Tolerance without a bound would let anything pass")


@dataclass(frozen=True, slots=True, eq=False)
class GoldenCall:
    """One run of one variant, and what has to come out.

    Attributes:
        role: of the part.
        variant: its id.
        name: what is run, for example `prefill 8 tokens`.
        inputs: all inputs of the graph, by name.
        outputs: expected outputs, by name; those that are left out are not compared.
        tolerances: of each expected output.
        adapter: of the bundle, whose tensors are inputs as well; None for none.
    """

    role: str
    variant: str
    name: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    adapter: str | None = None

    def __post_init__(self) -> None:
        if not self.outputs or set(self.outputs) != set(self.tolerances):
            raise ValueError(
                f"golden call {self.name!r}: got tolerances for {sorted(self.tolerances)}, "
                f"expected one for each output: {sorted(self.outputs)}"
            )
        for name in ("inputs", "outputs", "tolerances"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


def write_golden(file: Path | IO[bytes], calls: Sequence[GoldenCall]) -> None:
    """Write calls; the bytes depend on the calls alone."""
    arrays: dict[str, NDArray[Any]] = {}
    names: dict[tuple[str, tuple[int, ...], str], str] = {}

    def name_of(array: NDArray[Any]) -> str:
        content = hashlib.sha256(np.asarray(array, order="C").tobytes()).hexdigest()
        key = (array.dtype.str, array.shape, content)
        if key not in names:
            names[key] = f"a{len(names)}"
            arrays[names[key]] = array
        return names[key]

    told = [_call_as_json(call, name_of) for call in calls]
    number = FORMAT if any(call.adapter is not None for call in calls) else _PLAIN_FORMAT
    index = json.dumps({"format": number, "calls": told}, sort_keys=True, ensure_ascii=False)
    # As bytes: an array of text would be four bytes a character.
    write_arrays(file, {_INDEX: np.frombuffer(index.encode(), np.uint8), **arrays})


def read_golden(path: Path) -> tuple[GoldenCall, ...]:
    """The calls of a golden file.

    Raises:
        GoldenInvalid: it is none, or damaged.
        FormatTooNew: a later version wrote it.
    """
    try:
        arrays = read_arrays(path)
        index = json.loads(bytes(arrays.pop(_INDEX)))
    except (OSError, ValueError, KeyError) as error:
        raise GoldenInvalid(f"{path.name} cannot be read: {error}") from error
    fields = Fields(index, "", lambda message: GoldenInvalid(f"{path.name}: {message}"))
    number = fields.whole("format")
    if number > FORMAT:
        raise FormatTooNew(
            f"{path.name}: got format {number}, expected at most {FORMAT}",
            hint="a newer edgestream wrote this bundle; update this one",
        )
    return fields.objects("calls", lambda call: _call(call, arrays))


def golden_of(folder: Path) -> tuple[GoldenCall, ...]:
    """The calls of the bundle in a folder; see `read_golden`."""
    return read_golden(folder / GOLDEN_FILE)


def _call_as_json(call: GoldenCall, name_of: Any) -> dict[str, Any]:
    def outputs() -> dict[str, Any]:
        return {
            name: {"array": name_of(array), **_bounds(call.tolerances[name])}
            for name, array in call.outputs.items()
        }

    return {
        "role": call.role,
        "variant": call.variant,
        "name": call.name,
        "inputs": {name: name_of(array) for name, array in call.inputs.items()},
        "outputs": outputs(),
        **({} if call.adapter is None else {"adapter": call.adapter}),
    }


def _bounds(tolerance: Tolerance) -> dict[str, float]:
    bounds = {name: getattr(tolerance, name) for name in ("max_abs", "min_cosine", "min_argmax")}
    return {name: float(bound) for name, bound in bounds.items() if bound is not None}


def _call(fields: Fields, arrays: Mapping[str, NDArray[Any]]) -> GoldenCall:
    def array_of(place: Fields, key: str) -> NDArray[Any]:
        name = place.text(key)
        if name not in arrays:
            raise place.refused(key, name, "an array of this file")
        return arrays[name]

    inputs = fields.object(
        "inputs", lambda at: {k: array_of(at, k) for k in fields.mapping("inputs")}
    )
    outputs, tolerances = {}, {}
    for name, expected in fields.named("outputs"):
        outputs[name] = array_of(expected, "array")
        tolerances[name] = _tolerance(expected)
    if not outputs:
        raise fields.refused("outputs", {}, "at least one output")
    return GoldenCall(
        fields.text("role"),
        fields.text("variant"),
        fields.text("name"),
        inputs,
        outputs,
        tolerances,
        fields.text("adapter") if "adapter" in fields else None,
    )


def _tolerance(fields: Fields) -> Tolerance:
    bounds = {
        name: fields.number(name)
        for name in ("max_abs", "min_cosine", "min_argmax")
        if name in fields
    }
    if not bounds:
        raise fields.refused("array", None, "a bound beside it: max_abs, min_cosine or min_argmax")
    return Tolerance(**bounds)
