"""What every family of models gives: its parts as modules, with the facts a bundle needs.

A family (models/families/) turns a checkpoint folder into a `Checkpoint`; export, calibration and
proofs see nothing else of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias

from torch import Tensor, nn

from ..runtime.errors import SettingsInvalid
from ..runtime.manifest_values import FrameInput, GateFacts, Positions, Source
from ..runtime.prompt_layout import PromptLayout
from ..runtime.values import Float32
from .cognition_gate import CognitionGate
from .decoder_weights import EMBEDDINGS, DecoderWeights, ModuleWeights
from .perception_gate import PerceptionGate

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .text_decoder import Decoder

FrameGate: TypeAlias = CognitionGate | PerceptionGate
"""What reads a frame and remembers the stream; all are called alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model in full precision, on the CPU, in eval mode; the modules are not to be changed.

    Attributes:
        vision: pixels (1, channels, height, width) float32, normalised →
            tokens (1, tokens_per_frame, dim), summary (1, dim) of unit length.
        connector: tokens (1, tokens_per_frame, dim) → embeds (1, tokens_per_frame, row_width).
        connector_reads_state: it takes the gate's state_summary (1, width) behind the tokens.
        decoder: a causal language model of `transformers` (Llama, Qwen2, Mistral), or the text part
            of a model that sees, called as one.
        gate: see `CognitionGate` and `PerceptionGate`; None where the checkpoint has none.
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
        own_rows: id of a token that no text has → (hidden,) float32, which the language model reads
            in place of its embedding: a learned row that the table does not have.
        notes: sentences for who exports it: what was found in the folder, and what was made of it.
    """

    vision: nn.Module
    connector: nn.Module
    decoder: Decoder
    gate: FrameGate | None
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
    own_rows: Mapping[int, Float32] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def decoder_weights(self) -> DecoderWeights:
        """The decoder's weights, wherever they are.

        Raises:
            BundleError: the decoder has a part that cannot be exported.
        """
        return self.stored_decoder or ModuleWeights(self.decoder)

    def token_rows(self, ids: Sequence[int]) -> Float32:
        """What the language model reads of tokens, (ids, hidden) float32."""
        found = self.decoder_weights().tensor(EMBEDDINGS, list(ids))
        own = [(at, self.own_rows[token]) for at, token in enumerate(ids) if token in self.own_rows]
        if own:
            found = found.copy()
        for at, row in own:
            found[at] = row
        return found

    @property
    def embeddings(self) -> Tensor:
        """The table of token embeddings, (vocabulary, hidden) float32; the decoder's own memory."""
        weight = self.decoder.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight.detach()

    @property
    def row_width(self) -> int:
        """Numbers of a row that the decoder reads: hidden, and as many for each deep level."""
        return self.embeddings.shape[1] * (1 + int(getattr(self.decoder, "deep_levels", 0)))


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the user chose of a checkpoint that leaves a choice; None: what the family takes.

    Attributes:
        frame_px: side of the square that a frame is fitted into, or (height, width), px.
        tokens_per_frame: that the language model reads of a frame.
        fps: frames a second that the bundle is made for.
    """

    frame_px: int | tuple[int, int] | None = None
    tokens_per_frame: int | None = None
    fps: float | None = None

    @property
    def size_px(self) -> tuple[int, int] | None:
        """(height, width) of a frame, px."""
        return (self.frame_px, self.frame_px) if isinstance(self.frame_px, int) else self.frame_px

    @property
    def frame_text(self) -> str:
        """What was chosen, as the command line has it."""
        if isinstance(self.frame_px, tuple):
            return f"{self.frame_px[1]}x{self.frame_px[0]}"
        return str(self.frame_px)

    def check_fixed(self, family: str, frame_input: FrameInput, tokens_per_frame: int) -> None:
        """Refuse another choice than the one that a checkpoint was made for.

        Args:
            family: its name, for the message.
            frame_input, tokens_per_frame: what the checkpoint was made for.

        Raises:
            SettingsInvalid: names the option, what was chosen and what is fixed.
        """
        height, width = frame_input.size_px
        fixed = LoadOptions(height if height == width else (height, width), tokens_per_frame,
                            frame_input.fps)  # fmt: skip
        for name in ("frame_px", "tokens_per_frame", "fps"):
            chosen, value = (getattr(one, name) for one in (self, fixed))
            if chosen is not None and chosen != value:
                told = (one.frame_text if name == "frame_px" else f"{getattr(one, name):g}"
                        for one in (self, fixed))  # fmt: skip
                option = f"--{name.replace('_', '-')}"
                raise SettingsInvalid(
                    f"got {option} {next(told)}, but this checkpoint of the family {family} is "
                    f"made for {next(told)}",
                    hint=f"leave {option} out",
                )


class Family(Protocol):
    """Loads the checkpoints of one architecture."""

    @property
    def name(self) -> str:
        """What `edgestream_family` says in config.json, and a bundle of its family."""
        ...

    @property
    def model_types(self) -> tuple[str, ...]:
        """`model_type` of the Hub's config.json files that it loads; () for our own format."""
        ...

    @property
    def replaces_code(self) -> tuple[str, ...]:
        """Those of `model_types` whose own Python code it stands in for, so that none is run."""
        ...

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, checked.

        Raises:
            BundleError: one of its leaves; the folder is incomplete, damaged or of another kind.
            SettingsInvalid: the model does not allow what was chosen.
        """
        ...
