"""What a run starts from: the model of the rendered world, its tokenizer, its writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..evaluation.world import ATTRIBUTES, EVENT_TYPES, WORDS
from ..models.reference_checkpoint import embedding_rows
from ..models.reference_layout import encoder_of, reference_layout
from ..models.reference_model import ReferenceConfig, ReferenceModel, build_reference
from ..models.reference_tokenizer import word_tokenizer
from .stream_examples import Writer
from .vision_batches import ATTRIBUTES_OF

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Parts:
    """A model and what belongs to it.

    Attributes:
        model: of random weights at first.
        tokenizer: of the words of the world.
        writer: writes its examples.
    """

    model: ReferenceModel
    tokenizer: Tokenizer
    writer: Writer


def world_config() -> ReferenceConfig:
    """The reference assistant of the rendered world."""
    return ReferenceConfig(EVENT_TYPES, ATTRIBUTES, ATTRIBUTES_OF)


def parts_of(seed: int, config: ReferenceConfig | None = None) -> Parts:
    """A model of random weights, float32; the same arguments, the same numbers.

    Args:
        seed: of the weights.
        config: sizes; None for those of the reference assistant.
    """
    config = config or world_config()
    tokenizer = word_tokenizer(WORDS)
    layout = reference_layout(tokenizer)

    def text(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids)))

    model = build_reference(config, embedding_rows(tokenizer, config), seed)
    return Parts(
        model, tokenizer, Writer(layout, encoder_of(tokenizer), text, config.tokens_per_frame)
    )
