"""The connector: from the vision tower's tokens to what the language model reads."""

from __future__ import annotations

from torch import nn


class Connector(nn.Sequential):
    """Linear, exact (erf) GELU, Linear, both with bias, row by row.

    Args:
        dim: width of a vision token.
        hidden: width of the language model.

    Takes tokens (1, n, dim) float32, gives embeds (1, n, hidden) float32. The weights are named as
    VideoLLM-online names them: `0.weight`, `0.bias`, `2.weight`, `2.bias`.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden))
