"""The family `reference`: the small assistant that EdgeStream trains itself on rendered video.

A SigLIP tower that reads motion maps beside the colours, a cognition gate, a connector that reads
the gate's state, and a Llama of a few hundred words. Its folder is described in
`models/reference_checkpoint.py`.
"""

from __future__ import annotations

from pathlib import Path

from transformers import LlamaForCausalLM, SiglipVisionModel

from ...runtime.errors import CheckpointInvalid, CheckpointMissing
from ...runtime.json_fields import Fields
from ...runtime.manifest import frame_input_from_json
from ...runtime.manifest_values import FrameInput, Source
from ...runtime.motion_input import COLOURS, MAPS
from ..checkpoint import GATE_FACTS, checkpoint_sha256, read_config, read_tokenizer
from ..family import Checkpoint, LoadOptions
from ..frame_tokens import FrameEncoder
from ..gate_files import load_gate
from ..reference_connector import ReferenceConnector
from ..reference_layout import MEMORY_CLIP_LEN, MEMORY_TOPK, reference_layout
from ..transformers_parts import DECODERS, TOWERS, empty_model, rotary_positions
from ..weights import check_index, fill_, stored_tensors, weight_files


class Reference:
    """Loads checkpoints of the family `reference`."""

    name = "reference"
    model_types: tuple[str, ...] = ()
    replaces_code: tuple[str, ...] = ()

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, float32, checked.

        Raises:
            CheckpointMissing, CheckpointInvalid, FormatTooNew, VocabularyMismatch, PromptInvalid:
                what is wrong, and where.
            SettingsInvalid: something is chosen that config.json fixes.
        """
        config = read_config(folder)
        narrator = empty_model(config, "text_config", {"llama": DECODERS["llama"]})
        siglip = {"siglip_vision_model": TOWERS["siglip_vision_model"]}
        tower = empty_model(config, "vision_config", siglip)
        assert isinstance(narrator, LlamaForCausalLM) and isinstance(tower, SiglipVisionModel)
        frame_input = _frame_input(config, tower)
        tokens = config.whole("tokens_per_frame")
        options.check_fixed(self.name, frame_input, tokens)
        unused = config.whole("unused_token_ids", at_least=0)
        tokenizer = read_tokenizer(folder, narrator.config.vocab_size, unused)
        most = config.object("prompt", lambda below: below.whole("max_answer_tokens"))
        layout = reference_layout(tokenizer, most)
        gate = load_gate(folder, tower.config.hidden_size, tokens)
        if gate is None:
            raise CheckpointMissing(
                f"there is no {GATE_FACTS} in {folder}: its connector reads the state of a gate",
                hint="copy the checkpoint again: the copy is not complete",
            )
        vision = _frame_encoder(tower, tokens)
        width, hidden = gate[0].shape.width, narrator.config.hidden_size
        connector = ReferenceConnector(tower.config.hidden_size, width, hidden, tokens)
        stored = stored_tensors(weight_files(folder))
        check_index(folder, stored)
        fill_({"": narrator, "connector.": connector, "vision.": tower}, stored)
        return Checkpoint(
            vision=vision.eval().requires_grad_(False),
            connector=connector.eval().requires_grad_(False),
            decoder=narrator,
            gate=gate[0],
            gate_facts=gate[1],
            tokenizer=tokenizer,
            layout=layout,
            positions=rotary_positions(narrator, "config.json.text_config"),
            frame_input=frame_input,
            tokens_per_frame=tokens,
            source=_source(config, folder),
            connector_reads_state=True,
            remembers={"topk": MEMORY_TOPK, "clip_len": MEMORY_CLIP_LEN},
            questions=config.texts("questions"),
        )


def _frame_encoder(tower: SiglipVisionModel, tokens: int) -> FrameEncoder:
    try:
        return FrameEncoder(tower, tokens)
    except ValueError as error:
        raise CheckpointInvalid(f"config.json: {error}") from error


def _frame_input(config: Fields, tower: SiglipVisionModel) -> FrameInput:
    found = config.object("input", frame_input_from_json)
    side, channels = tower.config.image_size, COLOURS + len(MAPS)
    expected = (channels, (side, side), MAPS, channels)
    maps = None if found.motion is None else found.motion.maps
    got = (found.channels, found.size_px, maps, tower.config.num_channels)
    if got != expected:
        raise CheckpointInvalid(
            f"config.json.input and vision_config have channels, size, maps and channels {got}, "
            f"expected {expected}"
        )
    return found


def _source(config: Fields, folder: Path) -> Source:
    return Source(
        checkpoint=config.text("name"),
        sha256=checkpoint_sha256(folder),
        licence=config.text("licence"),
        family=config.text("edgestream_family"),
        revision=config.text("revision") if "revision" in config else None,
    )
