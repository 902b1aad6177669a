"""Puts what schemes leave of weights into a PyTorch module, so that engines are held to it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from .numerics import fake_quantized
from .schemes import Scheme


def fake_quantize_(module: nn.Module, schemes: Mapping[str, Scheme]) -> None:
    """Replace weights, in place, by what is left of them after quantizing and back.

    Args:
        module: float32.
        schemes: parameter name → scheme; names as in `named_parameters`. Rows (out, in).

    Raises:
        KeyError: the module has no such parameter.

    Cost: one copy of the largest weight.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, scheme in schemes.items():
            weight = parameters[name]
            weight.copy_(torch.from_numpy(fake_quantized(weight.detach().numpy(), scheme, name)))
