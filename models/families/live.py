"""The family `live`: VideoLLM-online's architecture with any SigLIP or CLIP and any Llama.

Its stream is a text: `[`, then the tokens of a frame, `,` for each frame about which it says
nothing, and `]` with a line feed when it wants to speak. "Any Llama" means any decoder of Llama,
Qwen2 or Mistral type. config.json holds, beside the sub-configs of `transformers` form:

    {"format": 1, "edgestream_family": "live", "name": …, "licence": …, "revision": null,
     "tokens_per_frame": 10, "fps": 2, "max_gap_s": 1.0, "unused_token_ids": 0,
     "prompt": {"system": …, "bos": …, "stop": …, "join": ",", "max_answer_tokens": 100},
     "vision_config": {…}, "text_config": {…}}

Tensors are named as `transformers` names the decoder's, with `connector.` and `vision.` before the
others', so that VideoLLM-online's released adapter fits.

Source: VideoLLM-online (arXiv 2406.11816) and its code at e2c78ec; differs: no `<v>` token stands
in for a frame, because the layout has a slot there.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import CLIPVisionModel, PreTrainedModel, SiglipVisionModel

from ...runtime.errors import CheckpointInvalid
from ...runtime.json_fields import Fields
from ...runtime.manifest_values import FrameInput, Source
from ..checkpoint import checkpoint_sha256, read_config, read_tokenizer
from ..connector import Connector
from ..decoder_weights import fill_beside_decoder_
from ..family import Checkpoint, LoadOptions
from ..frame_tokens import FrameEncoder
from ..gate_files import load_gate
from ..live_layout import LivePrompt, live_layout
from ..transformers_parts import DECODERS, TOWERS, empty_model, rotary_positions
from ..weights import check_index, stored_tensors, weight_files

# Each tower's own normalisation, per colour on the scale [0, 1], as its authors published it.
_MEAN_STD = {
    "siglip_vision_model": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip_vision_model": (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
}


class Live:
    """Loads checkpoints of the family `live`."""

    name = "live"
    model_types: tuple[str, ...] = ()
    replaces_code: tuple[str, ...] = ()

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, float32, checked.

        Raises:
            CheckpointMissing, CheckpointInvalid, FormatTooNew, RemoteCodeNeeded,
            VocabularyMismatch, PromptInvalid: what is wrong, and where.
            SettingsInvalid: something is chosen that config.json fixes.

        Cost: at most twice the float32 weights in memory, half of it file pages.
        """
        config = read_config(folder)
        decoder = empty_model(config, "text_config", DECODERS)
        tower = empty_model(config, "vision_config", TOWERS)
        vision = _frame_encoder(config, tower)
        connector = Connector(tower.config.hidden_size, decoder.config.hidden_size)
        # What is read in no time is checked before the weights are.
        unused = config.whole("unused_token_ids", at_least=0) if "unused_token_ids" in config else 0
        tokenizer = read_tokenizer(folder, decoder.config.vocab_size, unused)
        layout = live_layout(config.object("prompt", _prompt), tokenizer)
        positions = rotary_positions(decoder, "config.json.text_config")
        frame_input = _frame_input(config, tower)
        options.check_fixed(self.name, frame_input, config.whole("tokens_per_frame"))
        gate = load_gate(folder, tower.config.hidden_size, config.whole("tokens_per_frame"))
        stored = stored_tensors(weight_files(folder))
        check_index(folder, stored)
        beside = {"connector.": connector, "vision.": vision.tower}
        stored_decoder = fill_beside_decoder_(decoder, beside, stored)
        return Checkpoint(
            vision=vision.eval().requires_grad_(False),
            connector=connector.eval().requires_grad_(False),
            decoder=decoder,
            gate=gate and gate[0],
            gate_facts=gate and gate[1],
            tokenizer=tokenizer,
            layout=layout,
            positions=positions,
            frame_input=frame_input,
            tokens_per_frame=config.whole("tokens_per_frame"),
            source=_source(config, folder),
            stored_decoder=stored_decoder,
        )


def live_modules(
    decoder: PreTrainedModel, vision: FrameEncoder, connector: Connector
) -> dict[str, nn.Module]:
    """Prefix of the tensors' names → module, as the weights of a checkpoint are written."""
    return {"": decoder, "connector.": connector, "vision.": vision.tower}


def _prompt(fields: Fields) -> LivePrompt:
    return LivePrompt(
        system=fields.text("system"),
        stop=fields.text("stop"),
        bos=fields.text("bos") if "bos" in fields else None,
        join=fields.text("join") if "join" in fields else None,
        standby=fields.text("standby") if "standby" in fields else None,
        max_answer_tokens=fields.whole("max_answer_tokens"),
    )


def _frame_encoder(config: Fields, tower: PreTrainedModel) -> FrameEncoder:
    assert isinstance(tower, SiglipVisionModel | CLIPVisionModel)
    if not getattr(tower.config, "vision_use_head", True):
        raise CheckpointInvalid(
            "config.json.vision_config.vision_use_head is false, expected the tower with its head: "
            "the head's output is the token of the whole picture"
        )
    try:
        return FrameEncoder(tower, config.whole("tokens_per_frame"))
    except ValueError as error:
        raise CheckpointInvalid(f"config.json: {error}") from error


def _frame_input(config: Fields, tower: PreTrainedModel) -> FrameInput:
    mean, std = _MEAN_STD[tower.config.model_type]
    return FrameInput(
        size_px=(tower.config.image_size, tower.config.image_size),
        fps=config.number("fps", above=0),
        resize="letterbox",
        channels=tower.config.num_channels,
        max_gap_s=config.number("max_gap_s", above=0),
        mean=mean,
        std=std,
    )


def _source(config: Fields, folder: Path) -> Source:
    return Source(
        checkpoint=config.text("name"),
        sha256=checkpoint_sha256(folder),
        licence=config.text("licence"),
        family=config.text("edgestream_family"),
        revision=config.text("revision") if "revision" in config else None,
    )
