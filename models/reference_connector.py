"""The connector of the reference assistant: what the gate remembers joins the first token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

START_SCALE = 0.1
"""Of the rows at the start of training: near those of the token embeddings, which are 0.02, and
large enough to be heard beside them."""


class ReferenceConnector(nn.Module):
    """Tokens (batch, n, dim) and state_summary (batch, state) → embeds (batch, n, hidden), float32.

    A norm and a linear map per token, a row of its own for each place in the frame, and on the
    first token a linear map of the gate's state: so the narrator reads what the gate saw.

    Args:
        dim: of a token.
        state: of the gate's summary.
        hidden: of the language model.
        tokens: of a frame.
    """

    def __init__(self, dim: int, state: int, hidden: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.read = nn.Linear(dim, hidden)
        self.read_state = nn.Linear(state, hidden)
        self.place = nn.Parameter(torch.zeros(tokens, hidden))
        with torch.no_grad():
            for linear in (self.read, self.read_state):
                linear.weight.mul_(START_SCALE)
                linear.bias.zero_()

    def forward(self, tokens: Tensor, state_summary: Tensor) -> Tensor:
        rows = self.read(self.norm(tokens)) + self.place
        # As a row of its own, so that the graph multiplies it as it does the tokens.
        first = rows[..., :1, :] + self.read_state(state_summary[..., None, :])
        return torch.cat([first, rows[..., 1:, :]], dim=-2)
