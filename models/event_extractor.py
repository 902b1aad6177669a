"""StreamMind's event-preserving feature extractor: one perception token a frame, in constant time.

Modules are named as the released code names them, so that its tensors fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, silu, softplus

from .selective_state_space import scan_of


@dataclass(frozen=True, slots=True)
class ExtractorShape:
    """Sizes of an extractor; the defaults are the released ones.

    Attributes:
        dim: of a frame's mean patch.
        width: of a perception token, which is the language model's hidden size.
        blocks: of the recurrence.
        expand: channels of a block, in widths.
        state: numbers that each channel remembers.
        taps: frames that the short convolution sees.
    """

    dim: int = 1024
    width: int = 4096
    blocks: int = 1
    expand: int = 2
    state: int = 16
    taps: int = 4

    @property
    def inner(self) -> int:
        """Channels of a block."""
        return self.expand * self.width

    @property
    def rank(self) -> int:
        """Width of the bottleneck that a step's length comes from."""
        return -(-self.width // 16)


class Mixer(nn.Module):
    """The selective state space of Mamba, frame by frame or all frames at once.

    State: conv (batch, inner, taps − 1), the last inputs, and ssm (batch, inner, state).

    Source: Mamba (arXiv 2312.00752), algorithm 2, in plain operators.
    """

    def __init__(self, shape: ExtractorShape) -> None:
        super().__init__()
        self.shape = shape
        inner, state = shape.inner, shape.state
        self.in_proj = nn.Linear(shape.width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, shape.taps, groups=inner)
        self.x_proj = nn.Linear(inner, shape.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(shape.rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, state + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, shape.width, bias=False)

    def step(self, z: Tensor, conv: Tensor, ssm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One frame.

        Args:
            z: (batch, width).
            conv, ssm: as the frame before left them.

        Returns:
            (batch, width), and the new conv and ssm.
        """
        x, gate = self.in_proj(z).chunk(2, dim=-1)
        seen = torch.cat([conv, x[..., None]], dim=-1)
        assert self.conv1d.bias is not None
        u = silu((seen * self.conv1d.weight[:, 0]).sum(-1) + self.conv1d.bias)
        kept, added, told = self._selected(u)
        ssm = kept * ssm + added
        return self._given(ssm, told, u, gate), seen[..., 1:], ssm

    def scan(self, z: Tensor, conv: Tensor, ssm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same as `step` frame after frame; z is (batch, frames, width)."""
        frames = z.shape[1]
        x, gate = self.in_proj(z).chunk(2, dim=-1)
        seen = torch.cat([conv, x.transpose(1, 2)], dim=-1)
        u = silu(self.conv1d(seen)).transpose(1, 2)
        kept, added, told = self._selected(u)
        states = scan_of(kept.flatten(2), added.flatten(2), ssm.flatten(1)).view_as(kept)
        return self._given(states, told, u, gate), seen[..., frames:], states[:, -1]

    def _selected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the state keeps and gets, (…, inner, state), and what is read of it, (…, state)."""
        sizes = (self.shape.rank, self.shape.state, self.shape.state)
        step, written, told = self.x_proj(u).split(sizes, dim=-1)
        dt = softplus(self.dt_proj(step))
        kept = torch.exp(dt[..., None] * -torch.exp(self.A_log))
        return kept, (dt * u)[..., None] * written[..., None, :], told

    def _given(self, states: Tensor, told: Tensor, u: Tensor, gate: Tensor) -> Tensor:
        y = (states * told[..., None, :]).sum(-1) + self.D * u
        out: Tensor = self.out_proj(y * silu(gate))
        return out


class Block(nn.Module):
    """A mixer behind its norm; the path around it is the extractor's."""

    def __init__(self, shape: ExtractorShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self.mixer = Mixer(shape)


class Recurrence(nn.Module):
    """The blocks, and the norm behind them."""

    def __init__(self, shape: ExtractorShape) -> None:
        super().__init__()
        self.ssms = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm_fn = nn.LayerNorm(shape.width)


class Projection(nn.Module):
    """A linear layer, named as in the released code."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.fc3 = nn.Linear(columns, rows)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.fc3(x)
        return projected


class EventExtractor(nn.Module):
    """See the file; `step` is one frame as the device runs it, `scan` whole streams.

    State: conv (blocks, batch, inner, taps − 1) and ssm (blocks, batch, inner, state), float32; a
    stream starts with `first_state`, all zero. 160 Ki numbers a stream at the released sizes.

    Cost: 126 M parameters at the released sizes, each read once a frame.
    Source: StreamMind (arXiv 2503.06220) and its code at 4274776; differs: the code reads all
        frames of the stream again at each frame, this one its state.
    """

    def __init__(self, shape: ExtractorShape) -> None:
        super().__init__()
        self.extractor_shape = shape
        self.pre_net = Projection(shape.dim, shape.width)
        self.mamba_model = Recurrence(shape)
        self.post_net = Projection(shape.width, shape.width)

    def first_state(self, batch: int = 1) -> tuple[Tensor, Tensor]:
        """conv and ssm before the first frame."""
        shape, like = self.extractor_shape, self.post_net.fc3.weight
        return (
            like.new_zeros(shape.blocks, batch, shape.inner, shape.taps - 1),
            like.new_zeros(shape.blocks, batch, shape.inner, shape.state),
        )

    def step(self, frame: Tensor, conv: Tensor, ssm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One frame.

        Args:
            frame: (batch, dim), the mean of its patches.
            conv, ssm: as the frame before left them.

        Returns:
            (batch, width), its perception token, and the new conv and ssm.
        """
        return self._run("step", frame, conv, ssm)

    def scan(self, frames: Tensor, conv: Tensor, ssm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same as `step` frame after frame.

        Args:
            frames: (batch, frames, dim).
            conv, ssm: before the first of them.

        Returns:
            (batch, frames, width), and conv and ssm after the last frame.
        """
        return self._run("scan", frames, conv, ssm)

    def _run(self, way: str, x: Tensor, conv: Tensor, ssm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = leaky_relu(self.pre_net(x))
        convs, ssms = [], []
        for index, block in enumerate(self._blocks()):
            run = getattr(block.mixer, way)
            told, new_conv, new_ssm = run(block.norm(h), conv[index], ssm[index])
            h = h + told
            convs.append(new_conv)
            ssms.append(new_ssm)
        token = self.post_net(leaky_relu(self.mamba_model.norm_fn(h)))
        return token, torch.stack(convs), torch.stack(ssms)

    def _blocks(self) -> Iterator[Block]:
        for block in self.mamba_model.ssms:
            assert isinstance(block, Block)
            yield block
