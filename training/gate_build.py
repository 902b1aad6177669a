"""New gates for a checkpoint: on the extractor of its own gate where it has one, else on a new one.

Where the base has a gate, its extractor stays as it is: its events and attributes are read from it,
and so is what the connector tells the language model. What is new is what says whether to speak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ..models.cognition_gate import QUERY, SPOKEN, CognitionGate, GateShape
from ..models.family import Checkpoint
from ..models.gate_heads import (
    CROSS_ATTENTION,
    FRAME_ROWS,
    LINEAR,
    MLP,
    QUERY_ROWS,
    HeadShape,
    LinearHead,
)
from ..models.llm_head import LlmHead, early_layers, fill_from_
from ..runtime.errors import SettingsInvalid
from ..runtime.motion_input import MAP_STD
from .gate_stage import HEAD

HEADS: Mapping[str, str] = {
    "linear": "linear in the state, whose numbers the query weighs",
    "narrow": "the same, of a query that is narrowed to a few numbers",
    "mlp": "two hidden layers over state and query",
    "cross-query": "the state looks into rows made of the query",
    "cross-frame": "query and state look into the frame's tokens",
    "llm-1": "the first layer of the language model, over query and frame",
    "llm-4": "its first four layers",
}
"""Name of a head → what it is."""
CELLS, NARROW = 7, 48


@dataclass(frozen=True, slots=True)
class ExtractorSize:
    """Of an extractor that is made anew.

    Attributes:
        width: channels inside.
        layers: of the recurrence.
        token_width: that tokens are narrowed to; 0: as they are.
        reads: of a frame; of a model with many tokens the summary says enough.
    """

    width: int = 128
    layers: int = 2
    token_width: int = 0
    reads: tuple[str, ...] = ("summary", "motion")


def head_shape(name: str, checkpoint: Checkpoint) -> HeadShape:
    """The head of this name.

    Raises:
        SettingsInvalid: the language model has no such layers.
    """
    if name.startswith("llm-"):
        try:
            return early_layers(checkpoint.decoder, int(name.removeprefix("llm-")))
        except ValueError as error:
            raise SettingsInvalid(
                f"got --head {name}, but {error}", hint="try --head mlp"
            ) from error
    if name.startswith("cross-"):
        over = FRAME_ROWS if name == "cross-frame" else QUERY_ROWS
        return HeadShape(CROSS_ATTENTION, over=over)
    if name == "narrow":
        return HeadShape(LINEAR, narrow=NARROW)
    return HeadShape(MLP if name == MLP else LINEAR)


def shape_for(
    checkpoint: Checkpoint,
    head: HeadShape,
    size: ExtractorSize,
    *,
    asked: bool,
    spoken: bool = False,
    anew: bool = False,
) -> GateShape:
    """The sizes of a gate for a checkpoint; arguments as those of `gate_for`.

    Raises:
        SettingsInvalid: the head needs what such a gate does not read.
    """
    own = None if anew else _own(checkpoint)
    plain = _new_shape(checkpoint, size) if own is None else own.shape
    heard = {QUERY: asked, SPOKEN: spoken}
    reads = (*plain.frame_reads, *(name for name in heard if heard[name]))
    query_dim = int(checkpoint.embeddings.shape[1]) if asked else 0
    try:
        return replace(plain, reads=reads, query_dim=query_dim, head=head)
    except ValueError as error:
        raise SettingsInvalid(
            f"no such gate can be made: {error}", hint="try --head mlp"
        ) from error


def gate_for(
    checkpoint: Checkpoint,
    head: HeadShape,
    size: ExtractorSize,
    *,
    asked: bool,
    seed: int,
    spoken: bool = False,
    anew: bool = False,
) -> CognitionGate:
    """A gate for a checkpoint, to be trained.

    Args:
        checkpoint: the base.
        head: what says whether to speak; early layers are those of its language model.
        size: of the extractor, where it is made anew.
        asked: it reads a query.
        seed: of the weights; the generators of the caller go on as they were.
        spoken: it hears when it last spoke; as it is made, that says nothing to it.
        anew: the extractor is made anew although the base has one; then it tells no events.

    Raises:
        SettingsInvalid: the head needs what such a gate does not read.
    """
    shape = shape_for(checkpoint, head, size, asked=asked, spoken=spoken, anew=anew)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gate = CognitionGate(shape)
    own = None if anew else _own(checkpoint)
    if own is not None:
        copy_extractor_(gate, own)
    if isinstance(gate.speak, LlmHead):
        fill_from_(gate.speak, checkpoint.decoder_weights())
    return gate


@torch.no_grad()
def copy_extractor_(gate: CognitionGate, other: CognitionGate) -> None:
    """Put another gate's extractor into a gate, with what it tells of events and attributes.

    Only a gate whose head is linear and that is asked nothing takes the other's wish to speak as
    well, where that is of the same kind.
    """
    there = dict(other.named_parameters())
    for name, one in gate.named_parameters():
        if name.startswith(HEAD):
            continue
        if name.startswith("head."):  # a first row that is too many is that of `speak`
            found = there.get(name, one[:0])
            rows = min(len(one), len(found))
            one[len(one) - rows :] = found[len(found) - rows :]
        else:
            one.copy_(there[name])
    if isinstance(gate.speak, LinearHead) and gate.speak.ask is None:
        _copy_wish_(gate, gate.speak, other)


def _copy_wish_(gate: CognitionGate, head: LinearHead, other: CognitionGate) -> None:
    """Put another gate's wish to speak into a linear head, where that is linear too."""
    if other.speak is None and other.head is not None:
        head.told.weight.copy_(other.head.weight[:1])
        head.told.bias.copy_(other.head.bias[:1])
    elif isinstance(other.speak, LinearHead) and other.speak.ask is None:
        head.load_state_dict(other.speak.state_dict())
        if gate.since is not None and other.since is not None:
            gate.since.load_state_dict(other.since.state_dict())


def _own(checkpoint: Checkpoint) -> CognitionGate | None:
    return checkpoint.gate if isinstance(checkpoint.gate, CognitionGate) else None


def _new_shape(checkpoint: Checkpoint, size: ExtractorSize) -> GateShape:
    return GateShape(
        dim=_width_of_summary(checkpoint),
        tokens=checkpoint.tokens_per_frame,
        events=0,
        width=size.width,
        layers=size.layers,
        cells=CELLS,
        map_std=MAP_STD,
        reads=size.reads,
        token_width=size.token_width if "tokens" in size.reads else 0,
    )


def _width_of_summary(checkpoint: Checkpoint) -> int:
    """Numbers of a frame's summary, and of a token: what vision gives for an empty picture."""
    frames = checkpoint.frame_input
    pixels = torch.zeros(1, frames.channels or 3, *frames.size_px)
    with torch.inference_mode():
        summary = checkpoint.vision(pixels)[1]
    return int(summary.shape[-1])
