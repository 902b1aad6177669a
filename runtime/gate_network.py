"""The network of a bundle's gate, one frame a step, and what it remembers between frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .engine import Engine
from .errors import EngineUnusable, StateInvalid
from .gate_query import GateQuery, no_query
from .last_spoke import NEVER
from .manifest_values import GateFacts, Manifest
from .values import Features, Float32
from .vision import finite_rows

SPEAK = "speak"
"""The score that says whether a frame is worth a word, beside those of the event types."""
ATTRIBUTE, NEW = "attribute_", "new_"
"""Begin the names of outputs: of an attribute's probabilities, and of the state after a frame."""
QUERY, SPOKEN = "query", "spoken"
FRAME_INPUTS = ("tokens", "summary", "motion", QUERY, SPOKEN, "dt_s")


def has_learned_gate(manifest: Manifest) -> bool:
    """Whether a bundle has a gate of its own."""
    has_part = manifest.part("gate") is not None
    return has_part and manifest.gate is not None and manifest.gate.kind == "learned"


@dataclass(frozen=True, slots=True, eq=False)
class GateReading:
    """What the network says of one frame.

    Attributes:
        scores: per event type, and `speak` where the network has it, in [0, 1].
        attributes: attribute → value → probability; what is left to 1 is "none of them".
        state_summary: (width,) float32, read-only; None where the network gives none.
    """

    scores: Mapping[str, float]
    attributes: Mapping[str, Mapping[str, float]]
    state_summary: Float32 | None


class GateNetwork:
    """Runs the part `gate`. State: the arrays that the manifest names.

    It runs beside the lane, as the connector does: it takes 0.1 ms, less than a lane's hand-over.

    Args:
        engine: takes some of FRAME_INPUTS and the state by its names; gives `scores` (1, events)
            or (1, 1 + events) with `speak` first, `attribute_<name>` (1, values), perhaps
            `state_summary` (1, width), and each array of the state as `new_<name>`.
        facts: of the manifest.
        fps: frames a second that it was trained for: what goes before a first frame.
        query: that it is given at every step, where it reads one; None for none.

    Raises:
        EngineUnusable: the graph and the manifest do not fit each other.
    """

    def __init__(
        self, engine: Engine, facts: GateFacts, fps: float, query: GateQuery | None = None
    ) -> None:
        self._engine, self._facts, self._first_dt_s = engine, facts, 1.0 / fps
        self.query = no_query(facts.query_dim or 0) if query is None else query
        """What it looks for."""
        taken = {spec.name: spec for spec in engine.inputs}
        given = {spec.name: spec.shape for spec in engine.outputs}
        self._state = {spec.name: spec for spec in facts.state or ()}
        attributes = facts.attributes or {}
        named = {"scores", *(ATTRIBUTE + name for name in attributes)}
        named |= {NEW + name for name in self._state}
        unknown = set(taken) - {*FRAME_INPUTS, *self._state}
        missing = (set(self._state) - set(taken)) | (named - set(given))
        scores = given.get("scores", (1, 0))[-1]
        wide = taken[QUERY].shape[-1] if QUERY in taken else None
        counts = (len(facts.events), 1 + len(facts.events))
        self.reads_spoken = SPOKEN in taken
        """Whether it reads when it last spoke."""
        unlike = wide != facts.query_dim or scores not in counts
        unlike |= self.reads_spoken != bool(facts.reads_spoken)
        if unknown or missing or unlike:
            raise EngineUnusable(
                f"the gate takes {', '.join(taken)} and gives {', '.join(given)} with {scores} "
                f"scores and a query of {wide or 0} numbers; the manifest names "
                f"{len(facts.events)} events, the state {', '.join(self._state) or 'nothing'}, "
                f"the attributes {', '.join(attributes) or 'none'} and a query of "
                f"{facts.query_dim or 0}"
                + (", and that it reads when it last spoke" if facts.reads_spoken else ""),
                hint="export the bundle again",
            )
        has_speak = scores != len(facts.events)
        self.names = ((SPEAK,) if has_speak else ()) + facts.events
        """Of the scores, in their order."""
        self._reads = [name for name in FRAME_INPUTS if name in taken]
        self.reset()

    def reset(self) -> None:
        """Starts again: the next frame is a first frame."""
        self._kept = {
            name: np.zeros(tuple(int(size) for size in spec.shape), spec.dtype)
            for name, spec in self._state.items()
        }

    def snapshot(self) -> Mapping[str, Float32]:
        """The state, to be put back by `restore`; nothing changes it later."""
        return dict(self._kept)

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Continues from a state as if nothing had been between.

        Raises:
            StateInvalid: it is not of this network.
        """
        got = {name: (array.shape, str(array.dtype)) for name, array in state.items()}
        expected = {name: (spec.shape, spec.dtype) for name, spec in self._state.items()}
        if got != expected:
            raise StateInvalid(
                f"the saved gate has the arrays {got}, expected {expected}",
                hint="name another folder with --state",
            )
        self._kept = dict(state)

    def step(self, features: Features, dt_s: float | None, spoken: float = NEVER) -> GateReading:
        """What the network says of a frame; its state goes on.

        Args:
            features: of the frame; tokens may be those of an earlier one, motion is its own.
            dt_s: since the frame before, seconds; None for a first frame.
            spoken: when it last spoke, as `LastSpoke.at` has it, where it reads that.

        Raises:
            EngineNotFinite: the engine gave a number that is no number; the state is as before.
            EngineFailed, DeviceMemoryExhausted, InputMismatch: as `Engine.run` says.
        """
        seconds = self._first_dt_s if dt_s is None else dt_s
        given = {
            "tokens": features.tokens[None],
            "summary": features.summary[None],
            "motion": features.motion.maps[None],
            QUERY: self.query.vector,
            SPOKEN: np.full((1, 1), spoken, np.float32),
            "dt_s": np.full((1, 1), seconds, np.float32),
        }
        outputs = self._engine.run({**{name: given[name] for name in self._reads}, **self._kept})
        rows = {
            name: finite_rows("gate", name, part)
            for name, part in outputs.items()
            if not name.startswith(NEW)
        }
        for name in self._state:
            finite_rows("gate", name, outputs[NEW + name])
        self._kept = {  # in its own type, whichever variant runs
            name: outputs[NEW + name].astype(spec.dtype, copy=False)
            for name, spec in self._state.items()
        }
        attributes = {
            name: dict(zip(values, rows[ATTRIBUTE + name].tolist(), strict=True))
            for name, values in (self._facts.attributes or {}).items()
        }
        scores = dict(zip(self.names, rows["scores"].tolist(), strict=True))
        return GateReading(scores, attributes, rows.get("state_summary"))
