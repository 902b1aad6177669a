"""A selective state space whose memory fades with the seconds: as a scan over frames, or by steps.

How to think about it: each of `channels` numbers follows its own input `u` as a leaky average does,
h' = rate · (u − h), and the frame itself chooses how fast. Over dt seconds that is, exactly,
h ← a·h + (1 − a)·u with a = exp(−rate · dt); so the state never grows, at any frame rate. One frame
costs the same after an hour as at the start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

TAPS = 3
"""Frames that the short convolution sees: enough to tell a turn from a jerk."""
SPREAD = 2
"""State numbers for each channel of the width; the trial had the same."""
FASTEST_S, SLOWEST_S = 0.1, 30.0
"""Time constants at the start of training, seconds: from less than a frame to a clip and more."""


class SelectiveStateSpace(nn.Module):
    """One block with a residual path.

    State: conv (batch, width, TAPS − 1), the last inputs, and ssm (batch, SPREAD · width).

    Args:
        width: numbers of a frame.

    Cost: 7 · width² multiplications a frame.
    Source: Mamba (arXiv 2312.00752), section 3; differs: each state number has an input of its own
        in place of B and C, dt is scaled by the time between frames, and its input by 1 − a.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.channels = width, SPREAD * width
        self.norm = nn.LayerNorm(width)
        self.taps = nn.Parameter(torch.randn(width, TAPS) / TAPS**0.5)
        self.tap_bias = nn.Parameter(torch.zeros(width))
        self.select = nn.Linear(width, 2 * self.channels)
        self.pass_on = nn.Linear(width, width)
        self.write = nn.Linear(self.channels, width)
        with torch.no_grad():
            slow = torch.linspace(0.0, 1.0, self.channels)
            rate = 1.0 / (FASTEST_S * (SLOWEST_S / FASTEST_S) ** slow)
            self.select.bias[self.channels :] = torch.log(torch.expm1(rate))

    def first_state(self, batch: int = 1) -> tuple[Tensor, Tensor]:
        """conv and ssm before the first frame: all zero."""
        weight = self.write.weight
        return (
            weight.new_zeros(batch, self.width, TAPS - 1),
            weight.new_zeros(batch, self.channels),
        )

    def step(
        self, x: Tensor, dt_s: Tensor, conv: Tensor, ssm: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One frame.

        Args:
            x: (batch, width).
            dt_s: (batch, 1) since the frame before, seconds, 0 or more.
            conv, ssm: as the frame before left them.

        Returns:
            (batch, width), and the new conv and ssm.
        """
        z = self.norm(x)
        seen = torch.cat([conv, z[..., None]], dim=-1)
        u, rate = self._selected(silu((seen * self.taps).sum(-1) + self.tap_bias))
        kept = torch.exp(-rate * dt_s)
        ssm = kept * ssm + (1.0 - kept) * u
        return x + self.write(ssm) * silu(self.pass_on(z)), seen[..., 1:], ssm

    def scan(
        self, x: Tensor, dt_s: Tensor, conv: Tensor, ssm: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same as `step` frame after frame, all frames at once.

        Args:
            x: (batch, frames, width).
            dt_s: (batch, frames), seconds.
            conv, ssm: before the first of them.

        Returns:
            (batch, frames, width), and conv and ssm after the last frame.
        """
        z = self.norm(x)
        frames = x.shape[1]
        seen = torch.cat([conv, z.transpose(1, 2)], dim=-1)
        pieces = [seen[..., tap : tap + frames] * self.taps[:, tap, None] for tap in range(TAPS)]
        mixed = silu(torch.stack(pieces, -1).sum(-1) + self.tap_bias[:, None]).transpose(1, 2)
        u, rate = self._selected(mixed)
        kept = torch.exp(-rate * dt_s[..., None])
        states = scan_of(kept, (1.0 - kept) * u, ssm)
        y = x + self.write(states) * silu(self.pass_on(z))
        return y, seen[..., frames:], states[:, -1]

    def _selected(self, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """What each state number follows, and how fast, 1/s."""
        u, rate = self.select(mixed).chunk(2, dim=-1)
        return u, softplus(rate)


def scan_of(kept: Tensor, added: Tensor, first: Tensor) -> Tensor:
    """h(t) = kept(t) · h(t − 1) + added(t) for all t, in log2(frames) sweeps.

    A sweep joins each stretch with the one before it, so that nothing is ever divided: the
    quotients of the usual cumulative products overflow where the past has faded.

    Args:
        kept: (batch, frames, channels), in [0, 1].
        added: the same shape.
        first: (batch, channels), h before the first frame.

    Returns:
        (batch, frames, channels).

    Source: Hillis and Steele, "Data parallel algorithms", 1986.
    """
    added = torch.cat([added[:, :1] + kept[:, :1] * first[:, None], added[:, 1:]], dim=1)
    reach, frames = 1, kept.shape[1]
    while reach < frames:
        joined = added[:, reach:] + kept[:, reach:] * added[:, :-reach]
        added = torch.cat([added[:, :reach], joined], dim=1)
        kept = torch.cat([kept[:, :reach], kept[:, reach:] * kept[:, :-reach]], dim=1)
        reach *= 2
    return added
