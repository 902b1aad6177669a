"""What every family of models gives: its parts as modules, with the facts a bundle needs.

A family (models/families/) turns a checkpoint folder into a `Checkpoint`; export, calibration and
proofs see nothing else of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from ..runtime.manifest_values import FrameInput, GateFacts, Positions, Source
from ..runtime.prompt_layout import PromptLayout
from ..runtime.values import Float32
from .cognition_gate import CognitionGate
from .decoder_weights import EMBEDDINGS, DecoderWeights, ModuleWeights

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model in full precision, on the CPU, in eval mode; the modules are not to be changed.

    Attributes:
        vision: pixels (1, channels, height, width) float32, normalised →
            tokens (1, tokens_per_frame, dim), summary (1, dim) of unit length.
        connector: tokens (1, tokens_per_frame, dim) → embeds (1, tokens_per_frame, hidden).
        connector_reads_state: it takes the gate's state_summary (1, width) behind the tokens.
        decoder: a causal language model of `transformers`: Llama, Qwen2 or Mistral.
        gate: see `CognitionGate`; None where the checkpoint has none.
        gate_facts: of the gate; None without one.
        tokenizer: of the decoder.
        layout: of the prompt, with the ids of this tokenizer.
        positions: how the decoder rotates keys and queries.
        frame_input: what `vision` expects of a frame.
        tokens_per_frame: rows of `tokens`.
        source: where it came from; sha256 is of the checkpoint (models/checkpoint.py).
        remembers: how it was taught to remember: `topk` and `clip_len` of the manifest's `memory`;
            empty where nobody taught it.
        questions: what its proof asks where no calibration set says it; empty for the default.
        stored_decoder: of a decoder that is too large for the memory: its weights stay in their
            files, and `decoder` has none (its parameters are on the device `meta`).
    """

    vision: nn.Module
    connector: nn.Module
    decoder: PreTrainedModel
    gate: CognitionGate | None
    gate_facts: GateFacts | None
    tokenizer: Tokenizer
    layout: PromptLayout
    positions: Positions
    frame_input: FrameInput
    tokens_per_frame: int
    source: Source
    connector_reads_state: bool = False
    remembers: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    questions: tuple[str, ...] = ()
    stored_decoder: DecoderWeights | None = None

    def decoder_weights(self) -> DecoderWeights:
        """The decoder's weights, wherever they are.

        Raises:
            BundleError: the decoder has a part that cannot be exported.
        """
        return self.stored_decoder or ModuleWeights(self.decoder)

    def token_rows(self, ids: Sequence[int]) -> Float32:
        """Embeddings of tokens, (ids, hidden) float32."""
        return self.decoder_weights().tensor(EMBEDDINGS, list(ids))

    @property
    def embeddings(self) -> Tensor:
        """The table of token embeddings, (vocabulary, hidden) float32; the decoder's own memory."""
        weight = self.decoder.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight.detach()


class Family(Protocol):
    """Loads the checkpoints of one architecture."""

    @property
    def name(self) -> str:
        """What `edgestream_family` says in config.json."""
        ...

    def load(self, folder: Path) -> Checkpoint:
        """The checkpoint in this folder, checked.

        Raises:
            BundleError: one of its leaves; the folder is incomplete, damaged or of another kind.
        """
        ...
