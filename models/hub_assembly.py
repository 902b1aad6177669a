"""The checkpoint that the parts of a model of the Hub make, where it has no gate of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from torch import nn

from ..runtime.manifest_values import FrameInput
from ..runtime.values import Float32
from .decoder_weights import DecoderWeights
from .family import Checkpoint
from .hub_checkpoint import HubCheckpoint
from .template_words import HubPrompt
from .text_decoder import Decoder
from .transformers_parts import rotary_positions

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def gateless_checkpoint(
    hub: HubCheckpoint,
    family: str,
    *,
    vision: nn.Module,
    connector: nn.Module,
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: HubPrompt,
    frame: FrameInput,
    tokens: int,
    stored: DecoderWeights | None,
    grid: tuple[int, int] | None = None,
    config: str = "config.json.text_config",
    own_rows: Mapping[int, Float32] = MappingProxyType({}),
) -> Checkpoint:
    """A checkpoint whose bundle runs with the gate `change`.

    Args:
        hub: the opened folder.
        family: name of its family.
        vision, connector, decoder, tokenizer: as `Checkpoint` has them.
        prompt: how it is written.
        frame: what `vision` expects.
        tokens: of a frame.
        stored: of a decoder that stays in its files.
        grid: (rows, columns) of a frame's tokens, for positions on three axes.
        own_rows: as `Checkpoint` has them.
        config: place of the decoder's config, for messages.

    Raises:
        CheckpointInvalid: a rotation that a bundle cannot describe, or a damaged README.md.
    """
    return Checkpoint(
        vision=vision.eval().requires_grad_(False),
        connector=connector.eval().requires_grad_(False),
        decoder=decoder,
        gate=None,
        gate_facts=None,
        tokenizer=tokenizer,
        layout=prompt.layout,
        positions=rotary_positions(decoder, config, grid),
        frame_input=frame,
        tokens_per_frame=tokens,
        source=hub.source(family),
        stored_decoder=stored,
        own_rows=own_rows,
        notes=prompt.notes,
    )


def hub_frame(
    hub: HubCheckpoint,
    size_px: tuple[int, int],
    fps: float,
    resize: str,
    colours: tuple[tuple[float, ...], tuple[float, ...]],
    usual_filter: str = "bicubic",
) -> FrameInput:
    """Pictures of one size, three colours.

    Args:
        hub: the opened folder.
        size_px: (height, width), px.
        fps: frames a second.
        resize: letterbox, squash or crop.
        colours: mean and std where the folder does not say.
        usual_filter: what a picture is made smaller with where it does not say.

    Raises:
        CheckpointInvalid: the folder's colours are none.
    """
    mean, std = hub.colours(*colours)
    kind = hub.filter(usual_filter)
    return FrameInput(size_px, fps, resize, channels=3, mean=mean, std=std, filter=kind)
