"""The gate `learned`: a bundle's own network says what happened and whether it is worth a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .gate import Gate
from .gate_network import GateNetwork
from .last_spoke import LastSpoke
from .learned_phases import LearnedPhases, LearnedRules, LearnedState
from .values import Features, Float32, GateDecision


@dataclass(frozen=True, slots=True, eq=False)
class LearnedGateState:
    """All that a `LearnedGate` carries from frame to frame.

    Attributes:
        arrays: of its network.
        decided: its phases.
        spoke_s: when it last spoke, seconds; None where it has not yet.
    """

    arrays: Mapping[str, Float32]
    decided: LearnedState
    spoke_s: float | None = None


class LearnedGate:
    """See `Gate`; `speaks` of its decisions says which of them make a Turn.

    State: the network's, that of the phases, and when it last spoke.

    Args:
        network: of the bundle.
        rules: of the manifest, with what the user chose put over it.
    """

    def __init__(self, network: GateNetwork, rules: LearnedRules) -> None:
        self.network = network
        self._phases = LearnedPhases(rules)
        self._spoke = LastSpoke()

    def reset(self) -> None:
        """Starts again as if no frame had been seen."""
        self.network.reset()
        self._phases.reset()
        self._spoke = LastSpoke()

    def snapshot(self) -> LearnedGateState:
        """The state, to be put back by `restore`."""
        decided = self._phases.snapshot()
        return LearnedGateState(self.network.snapshot(), decided, self._spoke.spoke_s)

    def restore(self, state: LearnedGateState) -> None:
        """Continues from a state as if nothing had been between.

        Raises:
            StateInvalid, SettingsInvalid: it is of another network or of other event types.
        """
        self.network.restore(state.arrays)
        self._phases.restore(state.decided)
        self._spoke = LastSpoke(state.spoke_s)

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """Events at one frame; see `GateNetwork.step` and `LearnedPhases.step`."""
        reading = self.network.step(features, dt_s, self._spoke.at(features.time_s))
        decision = self._phases.step(features.time_s, reading.scores, reading.attributes)
        self._spoke.step(features.time_s, speaks=decision.speaks)
        return replace(decision, state_summary=reading.state_summary)

    def idle(self, time_s: float) -> GateDecision:
        """Time-outs at a tick without a frame."""
        return self._phases.idle(time_s)


class GateBeside:
    """Another gate decides, and the network remembers: the connector reads its summary.

    What the network would say is heard by nobody, so to it nothing was ever said.

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
