"""The weights of a decoder, one tensor or some of its rows at a time, from memory or from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedConfig

from ..runtime.values import Float32
from .decoder_shape import DecoderShape, decoder_shape
from .weights import Stored, check_stored, fill_, opened

Rows: TypeAlias = slice | list[int]
ALL = slice(None)
LARGEST_IN_MEMORY = 1_200_000_000
"""Parameters of a decoder that is loaded whole: 5 GB in float32, and its proof takes twice that."""
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class DecoderWeights(Protocol):
    """Where the writer and the proof take a decoder's weights from.

    Names are canonical: those of `DecoderShape.parameters()`.
    """

    @property
    def shape(self) -> DecoderShape:
        """Of the decoder."""
        ...

    def tensor(self, name: str, rows: Rows = ALL) -> Float32:
        """A tensor, or some of its rows, float32; not to be changed.

        Raises:
            KeyError: there is none of this name.
        """
        ...


class ModuleWeights:
    """Weights of a module in memory.

    Args:
        decoder: a causal language model with `.config`; see `decoder_shape`. Where it has
            `deep_levels`, its rows are that much wider.

    Attributes:
        shape: of the decoder.

    Raises:
        BundleError: it has a part that the writer does not know.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self._tensors = dict(decoder.named_parameters(remove_duplicate=False))
        config = decoder.config
        assert isinstance(config, PreTrainedConfig)
        deep_levels = int(getattr(decoder, "deep_levels", 0))
        self.shape: DecoderShape = decoder_shape(config, self._tensors.keys(), deep_levels)

    def tensor(self, name: str, rows: Rows = ALL) -> Float32:
        """A view of the module's own memory where that is float32."""
        found: Float32 = self._tensors[name].detach()[rows].float().cpu().numpy()
        return found


class FileWeights:
    """Weights that stay in their safetensors files.

    Args:
        config: of the decoder, in `transformers` form.
        stored: name in the files → where, as `stored_tensors` found them.
        names: canonical name → name in the files.
        deep_levels: see `DecoderShape`.

    Attributes:
        shape: of the decoder.

    Raises:
        BundleError: the decoder has a part that the writer does not know.
        CheckpointInvalid: a tensor is missing, or has another shape or no floating point numbers.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        stored: Mapping[str, Stored],
        names: Mapping[str, str],
        deep_levels: int = 0,
    ) -> None:
        self.shape: DecoderShape = decoder_shape(config, names.keys(), deep_levels)
        self._stored, self._names = stored, names
        for name, size in self.shape.parameters().items():
            check_stored(names[name], size, stored)

    def tensor(self, name: str, rows: Rows = ALL) -> Float32:
        """Read from the file now; its numbers are converted exactly."""
        inside = self._names[name]
        with opened(self._stored[inside].file) as tensors:
            if isinstance(rows, slice):
                found = tensors.get_slice(inside)[rows]
            else:  # a map of the file, of which the chosen rows are copied
                found = tensors.get_tensor(inside)[torch.tensor(rows)]
            array: Float32 = found.float().numpy()
        return array


def head_name(shape: DecoderShape) -> str:
    """Which tensor the head multiplies with."""
    return EMBEDDINGS if shape.is_tied else HEAD


def left_in_files(
    decoder: nn.Module,
    stored: Mapping[str, Stored],
    names: Mapping[str, str],
    largest: int | None = None,
) -> FileWeights | None:
    """The weights of a decoder that is too large for the memory, left where they are.

    Args:
        decoder: not filled yet; where it is too large, its parameters go to the device `meta`.
        stored: name in the files → where.
        names: canonical name → name in the files.
        largest: parameters that may be in memory; None for LARGEST_IN_MEMORY.

    Returns:
        None where the decoder may be filled.

    Raises:
        BundleError, CheckpointInvalid: as `FileWeights` says.
    """
    limit = LARGEST_IN_MEMORY if largest is None else largest
    if sum(one.numel() for one in decoder.parameters()) <= limit:
        return None
    decoder.to("meta")
    config = decoder.config
    assert isinstance(config, PreTrainedConfig)
    return FileWeights(config, stored, names, int(getattr(decoder, "deep_levels", 0)))


def fill_beside_decoder_(
    decoder: nn.Module, modules: Mapping[str, nn.Module], stored: Mapping[str, Stored]
) -> FileWeights | None:
    """Give all parts of a model their weights, or leave those of a large decoder where they are.

    Args:
        decoder: its names in the files are the canonical ones.
        modules: prefix of the names in the files → part, as `fill_` takes them; all others are
            the decoder's.
        stored: name in the files → where.

    Returns:
        As `left_in_files`.

    Raises:
        BundleError, CheckpointInvalid: as `left_in_files` and `fill_`.
    """
    own = [name for name in stored if not name.startswith(tuple(modules))]
    left = left_in_files(decoder, stored, {name: name for name in own})
    if left is None:
        fill_({**modules, "": decoder}, stored)
    else:
        fill_(modules, {name: where for name, where in stored.items() if name not in own})
    return left
