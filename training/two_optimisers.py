"""Muon for the matrices inside, AdamW for everything else, as one optimiser with a plain state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

MATRIX_DECAY, OTHER_DECAY = 0.05, 0.01
BETAS = (0.9, 0.98)
GREATEST_NORM = 1.0
"""Of all gradients together; beyond it they are scaled down."""


class MuonAndAdamW:
    """One step of both with the same rate.

    Muon orthogonalises the step of a matrix; scaled to AdamW's root mean square, one rate fits
    both. Embeddings, heads, norms and biases are AdamW's.

    Args:
        parameters: by name, all that are trained.
        is_matrix: which of the two-dimensional ones are Muon's, by name.

    Source: K. Jordan, "Muon", 2024; J. Liu et al., arXiv 2502.16982 (match_rms_adamw).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], is_matrix: set[str]) -> None:
        self.parameters = dict(parameters)
        inside = [one for name, one in self.parameters.items() if name in is_matrix]
        rest = [one for name, one in self.parameters.items() if name not in is_matrix]
        self._optimisers: list[torch.optim.Optimizer] = []
        if inside:
            self._optimisers.append(
                torch.optim.Muon(
                    inside, lr=1e-3, weight_decay=MATRIX_DECAY, adjust_lr_fn="match_rms_adamw"
                )
            )
        if rest:
            self._optimisers.append(
                torch.optim.AdamW(rest, lr=1e-3, weight_decay=OTHER_DECAY, betas=BETAS)
            )

    def clear(self) -> None:
        """Forget the gradients."""
        for one in self._optimisers:
            one.zero_grad(set_to_none=True)

    def step(self, rate: float) -> float:
        """Clip the gradients and take a step.

        Returns:
            Norm of all gradients before clipping.
        """
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), GREATEST_NORM)
        for one in self._optimisers:
            for group in one.param_groups:
                group["lr"] = rate
            one.step()
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """All that it carries, by `parameter:quantity`."""
        found: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            for one in self._optimisers:
                for quantity, value in one.state.get(parameter, {}).items():
                    found[f"{name}:{quantity}"] = value.detach().clone()
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`."""
        owners = {
            id(parameter): one
            for one in self._optimisers
            for group in one.param_groups
            for parameter in group["params"]
        }
        for key, value in state.items():
            name, _, quantity = key.rpartition(":")
            parameter = self.parameters[name]
            # AdamW counts its steps on the CPU, wherever the weights are.
            there = value if quantity == "step" else value.to(parameter.device)
            owners[id(parameter)].state[parameter][quantity] = there.clone()
