"""Parts of a bundle on the ladder: what runs each now, and the next rung when one breaks off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Arrays, BoundCall
from .engines.ladder import Refusal, Rung
from .errors import BundleError, EngineError, EngineNotFinite, EngineUnusable, InputMismatch
from .manifest import TensorSpec, Variant
from .records import Record, warning


@dataclass(slots=True)
class RungsInUse:
    """What runs the parts of one stream, and what does not.

    Attributes:
        variants: role → what runs it now.
        refusals: variants that are not used, each with what was noted first.
        tell: hears when a part goes on with another variant.
    """

    variants: dict[str, Variant] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    tell: Callable[[Record], None] = lambda record: None

    def refuse(self, refusal: Refusal) -> None:
        """Note why a variant is not used; what was noted first says most."""
        known = [(one.role, one.variant) for one in self.refusals]
        if (refusal.role, refusal.variant) not in known:
            self.refusals.append(refusal)

    def as_json(self) -> dict[str, Any]:
        """`used`: role → provider and variant; `refused`: each that is not used."""
        return {
            "used": {
                role: {"provider": one.provider, "variant": one.id}
                for role, one in self.variants.items()
            },
            "refused": [asdict(one) for one in self.refusals],
        }


class PartRungs:
    """An engine of a part that goes on with the next rung where one breaks off; see `Engine`.

    For parts that keep nothing in their engine: the same arrays are run again. A rung that gives
    NaN or infinity has broken off too. The decoder has a cache to bring along: `DecoderRungs`.

    State: which rung is in use, which variants failed.

    Args:
        role: of the part, for the message.
        open: the ids of variants that failed → the highest rung that is left.
        in_use: hears of refusals.

    Raises:
        EngineUnusable: no rung stands.
    """

    def __init__(
        self, role: str, open: Callable[[tuple[str, ...]], Rung], in_use: RungsInUse
    ) -> None:
        self._role, self._open, self._in_use = role, open, in_use
        self._failed: tuple[str, ...] = ()
        self._rung = open(())

    @property
    def provider(self) -> str:
        """That runs it now."""
        return self._rung.engine.provider

    @provider.setter
    def provider(self, name: str) -> None:
        raise AttributeError("the ladder chooses the provider")

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the rung in use takes."""
        return self._rung.engine.inputs

    @inputs.setter
    def inputs(self, specs: tuple[TensorSpec, ...]) -> None:
        raise AttributeError("the graph says what it takes")

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the rung in use gives."""
        return self._rung.engine.outputs

    @outputs.setter
    def outputs(self, specs: tuple[TensorSpec, ...]) -> None:
        raise AttributeError("the graph says what it gives")

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs; see `Engine.run`. Other float types are converted."""
        while True:
            outputs: dict[str, NDArray[Any]] | None = None
            fault: EngineError | None
            try:
                outputs = self._rung.engine.run(_fitted(arrays, self.inputs))
                fault = _not_finite(self._role, outputs)
            except InputMismatch:  # the caller's, on every rung
                raise
            except EngineError as error:
                fault = error
            if fault is None or not self._falls(fault):
                if outputs is None:
                    assert fault is not None
                    raise fault
                return outputs

    def bind(self, inputs: Arrays, outputs: Arrays) -> BoundCall:
        """A call on the rung in use, which does not change it; see `Engine.bind`."""
        return self._rung.engine.bind(inputs, outputs)

    def _falls(self, fault: EngineError) -> bool:
        """Go on with the next rung; False where there is none, and this one stays."""
        variant = self._rung.variant
        try:
            below = self._open((*self._failed, variant.id))
        except (EngineUnusable, BundleError):
            return False
        self._failed = (*self._failed, variant.id)
        self._in_use.refuse(Refusal(self._role, variant.id, variant.provider, fault.message))
        self._rung.engine.__exit__(None, None, None)
        self._rung = below
        words = f"{self._role} goes on as {below.variant.id}: {fault.message}"
        self._in_use.tell(warning("next-rung", words))
        return True

    def __enter__(self) -> PartRungs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rung.engine.__exit__(kind, error, trace)


def _fitted(arrays: Arrays, specs: tuple[TensorSpec, ...]) -> Mapping[str, NDArray[Any]]:
    """Float arrays as the float type that a graph takes; rungs of one part may differ in it."""
    dtypes = {spec.name: spec.dtype for spec in specs}

    def fitted(name: str, array: NDArray[Any]) -> NDArray[Any]:
        dtype = dtypes.get(name, "")
        is_float = array.dtype.kind == "f" and dtype.startswith("float")
        return array.astype(dtype, copy=False) if is_float else array

    return {name: fitted(name, array) for name, array in arrays.items()}


def _not_finite(role: str, outputs: Arrays) -> EngineNotFinite | None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return EngineNotFinite(f"{role}: {name} holds NaN or infinity, expected numbers")
    return None
