"""The gate `learned`: a bundle's own network says what happened and whether it is worth a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .gate import Gate
from .gate_network import GateNetwork
from .learned_phases import LearnedPhases, LearnedRules, LearnedState
from .values import Features, Float32, GateDecision


@dataclass(frozen=True, slots=True, eq=False)
class LearnedGateState:
    """All that a `LearnedGate` carries from frame to frame: its network's arrays, its phases."""

    arrays: Mapping[str, Float32]
    decided: LearnedState


class LearnedGate:
    """See `Gate`; `speaks` of its decisions says which of them make a Turn.

    State: the network's, and that of the phases.

    Args:
        network: of the bundle.
        rules: of the manifest, with what the user chose put over it.
    """

    def __init__(self, network: GateNetwork, rules: LearnedRules) -> None:
        self.network = network
        self._phases = LearnedPhases(rules)

    def reset(self) -> None:
        """Starts again as if no frame had been seen."""
        self.network.reset()
        self._phases.reset()

    def snapshot(self) -> LearnedGateState:
        """The state, to be put back by `restore`."""
        return LearnedGateState(self.network.snapshot(), self._phases.snapshot())

    def restore(self, state: LearnedGateState) -> None:
        """Continues from a state as if nothing had been between.

        Raises:
            StateInvalid, SettingsInvalid: it is of another network or of other event types.
        """
        self.network.restore(state.arrays)
        self._phases.restore(state.decided)

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """Events at one frame; see `GateNetwork.step` and `LearnedPhases.step`."""
        reading = self.network.step(features, dt_s)
        decision = self._phases.step(features.time_s, reading.scores, reading.attributes)
        return replace(decision, state_summary=reading.state_summary)

    def idle(self, time_s: float) -> GateDecision:
        """Time-outs at a tick without a frame."""
        return self._phases.idle(time_s)


class GateBeside:
    """Another gate decides, and the network remembers: the connector reads its summary.

    State: both.

    Args:
        network: of the bundle.
        gate: that decides.
    """

    def __init__(self, network: GateNetwork, gate: Gate) -> None:
        self.network, self.gate = network, gate

    def reset(self) -> None:
        """Starts both again."""
        self.network.reset()
        self.gate.reset()

    def snapshot(self) -> tuple[Mapping[str, Float32], Any]:
        """The network's arrays, and the state of the gate."""
        return self.network.snapshot(), self.gate.snapshot()

    def restore(self, state: tuple[Mapping[str, Float32], Any]) -> None:
        """Continues from a state as if nothing had been between."""
        self.network.restore(state[0])
        self.gate.restore(state[1])

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """The decision of the gate, with what the network remembers."""
        reading = self.network.step(features, dt_s)
        decision = self.gate.step(features, dt_s)
        return replace(decision, state_summary=reading.state_summary)

    def idle(self, time_s: float) -> GateDecision:
        """The decision of the gate."""
        return self.gate.idle(time_s)
