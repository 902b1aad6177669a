"""The family `streammind`: CLIP, an event-preserving extractor, its cognition gate and a Mistral.

A frame is one perception token: the mean of CLIP's patches through a recurrence that remembers the
stream. The gate says from that token alone whether it is time to speak. Graphs: pixels (1, 3, px,
px) → tokens (1, 1, dim), the mean; the gate, tokens and its state → scores, the perception token
and the new state; the connector hands that token on; inputs_embeds and a past with plain rotary
positions. Memory, by arithmetic: 34 GB of float32 weights at the released sizes.

Tensors and config.json are named as the code of StreamMind writes them. Nobody has published
weights, so that what stands here was held against its equations alone. config.json may hold a
`vision_config` in transformers form; without one `mm_vision_tower` names the tower.

Not carried: the gate that reads the user's question with each frame (its vocabulary has 32002
entries), and sampling of the tokens by similarity: the last frames are shown, as everywhere.

Source: StreamMind (arXiv 2503.06220) and its code at 4274776.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from ...runtime.errors import CheckpointInvalid
from ...runtime.json_fields import Fields
from ...runtime.manifest_values import FrameInput, GateFacts, TensorSpec
from ..checkpoint import config_fields
from ..decoder_weights import fill_beside_decoder_
from ..event_extractor import ExtractorShape
from ..family import Checkpoint, LoadOptions
from ..hub_checkpoint import HubCheckpoint
from ..hub_tokenizer import hub_tokenizer
from ..perception_gate import CLASSES, RESPONSE, PerceptionConnector, PerceptionGate
from ..streammind_layout import streammind_layout
from ..transformers_parts import model_of, rotary_positions
from ..weights import Stored, stored_tensors, weight_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ARCHITECTURES = ("Videollama2MistralForCausalLM",)
TOWER, GATE = "model.vision_tower.vision_tower.vision_model.", "model.mm_projector."
_BLOCK = re.compile(re.escape(GATE) + r"mamba_model\.ssms\.(\d+)\.norm\.weight")
_LAYER = re.compile(re.escape(GATE) + r"cls_net\.cls_model\.model\.layers\.(\d+)\.mlp\.up_proj")
_CLASSES = GATE + "cls_net.cls_model.lm_head.weight"
# By the last part of the names that `mm_vision_tower` has in such checkpoints.
_TOWERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        f"clip-vit-large-patch14{name}": {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": side, "patch_size": 14, "projection_dim": 768,
        }
        for name, side in (("", 224), ("-336", 336))
    }
)  # fmt: skip
_MEAN_STD = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
FPS = 2.0
"""Frames a second that its training and its demo take."""
GATE_TOKENS = ("</silence>", "</response>")
"""What training adds to the tokenizer, and not to the table of embeddings."""
THRESHOLD = 0.5
"""Of the probability of a response; the original takes the likelier class."""
# Keys of config.json that describe its Mistral, which stand beside all others there.
_TEXT = (
    *("attention_dropout", "bos_token_id", "eos_token_id", "head_dim", "hidden_act"),
    *("hidden_size", "initializer_range", "intermediate_size", "max_position_embeddings"),
    *("num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps"),
    *("rope_parameters", "rope_scaling", "rope_theta", "sliding_window", "tie_word_embeddings"),
    "vocab_size",
)


class PatchMean(nn.Module):
    """CLIP's patches as one row: the mean over the picture of what a late layer gives.

    Pixels (1, 3, side, side) float32, normalised → tokens (1, 1, dim), summary (1, dim), the same
    at unit length.

    Args:
        tower: loses its later layers.
        layers: that are left.
    """

    def __init__(self, tower: CLIPVisionModel, layers: int) -> None:
        super().__init__()
        tower.encoder.layers = tower.encoder.layers[:layers]
        self.tower = tower

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.tower(pixel_values=pixels).last_hidden_state[:, 1:]
        mean = patches.mean(1)
        return mean[:, None], normalize(mean, dim=-1)


class StreamMind:
    """Loads checkpoints of the family `streammind`."""

    name = "streammind"
    model_types = ("videollama2_mistral",)
    replaces_code = model_types

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, float32, checked.

        Raises:
            CheckpointMissing, CheckpointInvalid, VocabularyMismatch, PromptInvalid: what is wrong,
                and where.
            SettingsInvalid: another size of frames, or more than one token a frame, is chosen.
        """
        hub = HubCheckpoint.opened(folder, ARCHITECTURES)
        hub.config.text("mm_projector_type", one_of=("mamba",))
        stored = stored_tensors(weight_files(folder))
        decoder, tower = _decoder(folder), _tower(hub.config)
        gate = _gate(stored, tower, decoder)
        frame_input = _frame_input(hub, tower, options)
        tokenizer = _tokenizer(hub, decoder.config.vocab_size)
        layout = streammind_layout(tokenizer)
        positions = rotary_positions(decoder, "config.json")
        stored_decoder = fill_beside_decoder_(decoder, {TOWER: tower, GATE: gate}, stored)
        vision = PatchMean(tower, _read_layer(hub.config, tower.config.num_hidden_layers))
        return Checkpoint(
            vision=vision.eval().requires_grad_(False),
            connector=PerceptionConnector().eval(),
            decoder=decoder,
            gate=gate.eval().requires_grad_(False),
            gate_facts=_gate_facts(gate),
            tokenizer=tokenizer,
            layout=layout,
            positions=positions,
            frame_input=frame_input,
            tokens_per_frame=1,
            source=hub.source(self.name),
            connector_reads_state=True,
            stored_decoder=stored_decoder,
        )


def _tokenizer(hub: HubCheckpoint, rows: int) -> Tokenizer:
    """The tokenizer, which may have the classes of the gate as tokens of which no model has a row.

    Raises:
        CheckpointMissing, CheckpointInvalid, VocabularyMismatch: as `HubCheckpoint.tokenizer`.
    """
    ids = map(hub_tokenizer(hub.folder).token_to_id, GATE_TOKENS)
    return hub.tokenizer(rows + sum(token is not None for token in ids))


def _decoder(folder: Path) -> PreTrainedModel:
    """The language model, whose keys stand in config.json beside all others."""
    described = {key: value for key, value in config_fields(folder).rest().items() if key in _TEXT}
    return model_of(described, "config.json", (MistralConfig, MistralForCausalLM))


def _tower(config: Fields) -> CLIPVisionModel:
    """The vision tower.

    Raises:
        CheckpointInvalid: it is neither described nor one that is known by its name.
    """
    if "vision_config" in config:
        described = config.mapping("vision_config")
    else:
        name = config.text("mm_vision_tower").rstrip("/").rsplit("/", 1)[-1]
        if name not in _TOWERS:
            raise config.refused(
                "mm_vision_tower", name, f"{' or '.join(_TOWERS)}, or its config as vision_config"
            )
        described = _TOWERS[name]
    tower = model_of(described, "config.json.vision_config", (CLIPVisionConfig, CLIPVisionModel))
    assert isinstance(tower, CLIPVisionModel)
    return tower


def _gate(
    stored: Mapping[str, Stored], tower: CLIPVisionModel, decoder: PreTrainedModel
) -> PerceptionGate:
    """The extractor and the gate, as large as the weights say.

    Raises:
        CheckpointInvalid: there is no gate, or one that reads the user's question.
    """
    head = stored.get(_CLASSES)
    if head is None or head.shape[0] != CLASSES:
        got = "none" if head is None else f"one of {head.shape[0]} classes"
        raise CheckpointInvalid(
            f"{_CLASSES}: got {got}, expected the head of a gate of {CLASSES} classes",
            hint="a gate that reads the question with each frame cannot be exported; take the "
            "checkpoint whose gate reads the frame alone",
        )
    config = decoder.config
    assert isinstance(config, MistralConfig)
    shape = ExtractorShape(
        dim=tower.config.hidden_size, width=config.hidden_size, blocks=_count(stored, _BLOCK)
    )
    with no_init_weights():
        return PerceptionGate(shape, config, _count(stored, _LAYER))


def _count(stored: Mapping[str, Stored], pattern: re.Pattern[str]) -> int:
    """How many modules there are of a kind: the highest number in a tensor's name, and one."""
    found = (pattern.match(name) for name in stored)
    return max((int(match[1]) for match in found if match), default=0) + 1


def _gate_facts(gate: PerceptionGate) -> GateFacts:
    names = zip(("conv", "ssm"), gate.first_state(), strict=True)
    return GateFacts(
        kind="learned",
        events=(RESPONSE,),
        thresholds={RESPONSE: THRESHOLD},
        state=tuple(TensorSpec(name, "float32", tuple(part.shape)) for name, part in names),
    )


def _frame_input(hub: HubCheckpoint, tower: CLIPVisionModel, options: LoadOptions) -> FrameInput:
    """Square frames; where training padded them with a colour, bars are black here.

    Raises:
        SettingsInvalid: another size, or more than one token a frame, is chosen.
    """
    config, side_px = hub.config, tower.config.image_size
    assert isinstance(side_px, int)  # as the patches of a CLIP are counted
    is_padded = "image_aspect_ratio" in config and config.text("image_aspect_ratio") == "pad"
    mean, std = hub.colours(*_MEAN_STD)
    found = FrameInput(
        size_px=(side_px, side_px),
        fps=options.fps or FPS,
        resize="letterbox" if is_padded else "crop",
        channels=3,
        mean=mean,
        std=std,
        filter=hub.filter("bicubic"),
    )
    options.check_fixed(StreamMind.name, found, 1)
    return found


def _read_layer(config: Fields, layers: int) -> int:
    """How many of the tower's layers a frame goes through.

    `mm_vision_select_layer` counts hidden states, of which the first is before all layers.

    Raises:
        CheckpointInvalid: there is no such layer.
    """
    key = "mm_vision_select_layer"
    chosen = config.whole(key, at_least=-layers) if key in config else -2
    read = chosen if chosen >= 0 else layers + 1 + chosen
    if read > layers:
        raise config.refused(key, chosen, f"a hidden state of {layers} layers")
    return read
