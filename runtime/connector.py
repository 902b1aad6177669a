"""The connector of a bundle: the vision tokens of a frame as rows that the language model reads."""

from __future__ import annotations

import numpy as np

from .engine import Engine
from .errors import EngineUnusable
from .values import Features, Float32, GateDecision
from .vision import finite_rows

STATE = "state_summary"
"""The input that takes what the model's own gate remembers."""


class EngineConnector:
    """Tokens to embeds, once per set of tokens; see `Connector`.

    It runs beside the lane: it takes less than handing a lane over does (0.06 ms for 10 tokens of
    768 on one core), and a second wait would double how long a frame may wait.

    State: the last tokens, the gate's state with them, and their embeds.

    Args:
        engine: of the part `connector`: tokens (1, n, dim), and perhaps state_summary (1, width) →
            embeds (1, n, hidden).

    Raises:
        EngineUnusable: the graph takes or gives something else.
    """

    def __init__(self, engine: Engine) -> None:
        got = {spec.name for spec in engine.inputs}
        is_known = "tokens" in got and got <= {"tokens", STATE}
        if not is_known or "embeds" not in {spec.name for spec in engine.outputs}:
            raise EngineUnusable(
                f"the connector takes {', '.join(sorted(got))}; expected tokens, perhaps with "
                f"{STATE}, in and embeds out",
                hint="export the bundle again",
            )
        self._engine = engine
        self.reads_state = STATE in got
        """It reads what the model's own gate remembers."""
        self.reset()

    def reset(self) -> None:
        """Forget the last tokens: the next step runs the engine."""
        self._last: tuple[Float32, Float32, Float32 | None] | None = None

    def step(self, features: Features, decision: GateDecision) -> Float32:
        """Embeds of the frame.

        Args:
            features: its tokens; tokens taken over from the frame before cost nothing, unless the
                gate's state is read too.
            decision: its state_summary is read by a connector that knows it.

        Returns:
            (n, hidden) float32, read-only; the very array of the frame before where what is read
            is the same.

        Raises:
            EngineNotFinite: the engine gave a number that is no number.
            EngineUnusable: it reads the gate's state, and the gate gave none.
            EngineFailed, DeviceMemoryExhausted: it broke off.
        """
        state = decision.state_summary if self.reads_state else None
        if self.reads_state and state is None:
            raise EngineUnusable(
                "the connector reads what the model's own gate remembers; got a decision without "
                "state_summary",
                hint="let the network of the gate run beside whatever gate decides (GateBeside)",
            )
        if not features.is_fresh and self._last is not None:
            tokens, embeds, before = self._last
            if _is_same_memory(tokens, features.tokens) and _is_equal(before, state):
                return embeds
        given = (
            {"tokens": features.tokens}
            if state is None
            else {"tokens": features.tokens, STATE: state}
        )
        dtypes = {spec.name: spec.dtype for spec in self._engine.inputs}
        outputs = self._engine.run(
            {name: part[None].astype(dtypes[name], copy=False) for name, part in given.items()}
        )
        embeds = finite_rows("connector", "embeds", outputs["embeds"])
        self._last = features.tokens, embeds, state
        return embeds


def _is_same_memory(kept: Float32, other: Float32) -> bool:
    """Whether these are the same numbers in the same place: one is kept, so none can move there."""
    return kept.__array_interface__ == other.__array_interface__


def _is_equal(kept: Float32 | None, other: Float32 | None) -> bool:
    return kept is other or (
        kept is not None and other is not None and bool(np.array_equal(kept, other))
    )
