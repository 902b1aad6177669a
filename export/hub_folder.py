"""A bundle taken apart into a folder as the Hub has them, which runs without EdgeStream."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..runtime.bundle import Bundle
from ..runtime.errors import CheckpointInvalid, CheckpointMissing
from ..runtime.whole_folder import whole_folder
from .full_disk import full_disk_told
from .hub_card import hub_card
from .hub_configs import (
    genai_config,
    generation_config,
    model_config,
    preprocessor_config,
    text_config,
    tokenizer_config,
)
from .hub_graphs import FOLDER, vision_is_whole, write_hub_graphs
from .write_bundle import json_bytes

CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
GENAI, PREPROCESSOR, PROMPT = "genai_config.json", "preprocessor_config.json", "prompt.json"
# Small files of a checkpoint that say something the bundle does not.
TAKEN_OVER = (CONFIG, GENERATION, TOKENIZER_CONFIG, "chat_template.jinja", "chat_template.json",
              "special_tokens_map.json", "added_tokens.json")  # fmt: skip
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
FILES: Mapping[str, str] = MappingProxyType(
    {
        "onnx/vision_encoder.onnx": "pixel_values to image_features",
        "onnx/multi_modal_projector.onnx": "tokens and the gate's state_summary to image_features",
        "onnx/embed_tokens.onnx": "input_ids to inputs_embeds",
        "onnx/decoder_model_merged.onnx": "inputs_embeds and the cache to logits",
        "onnx/model.onnx": "input_ids and the cache to logits; the data of the two before",
        "onnx/gate.onnx": "what happens in a frame, and whether to speak; gate.json names it",
        CONFIG: "of the model",
        GENERATION: "greedy, and where an answer ends",
        GENAI: "for onnxruntime-genai",
        PREPROCESSOR: "what is done to the pixels of a frame",
        TOKENIZER: "the checkpoint's own",
        PROMPT: "how a prompt is written, frames included, as data",
    }
)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A folder that was written.

    Attributes:
        files: in it, as paths below it.
        n_bytes: of all of them.
    """

    files: tuple[str, ...]
    n_bytes: int


def unpack_bundle(
    bundle: Bundle, out: Path, checkpoint: Path | None = None, *, force: bool = False
) -> Unpacked:
    """Write a bundle as a Hub folder; whole, or not at all.

    Args:
        bundle: with a language model.
        out: folder; must not be there, or be empty.
        checkpoint: folder that the bundle was exported from; its configs are taken over. None:
            they are made from what the bundle says.
        force: replace an older folder of this kind.

    Raises:
        BundleError: the bundle lacks a part, or the checkpoint is none.
        OutputError: the folder cannot be written.

    Cost: time and disk of copying the bundle; no weights in memory.
    """
    given = _taken_over(checkpoint)
    own = json.loads(given[CONFIG].read_text("utf-8")) if CONFIG in given else None
    if own is not None:
        _check_same(bundle, own, given[CONFIG])
    with (
        whole_folder(out, replaces=GENAI if force else None) as folder,
        full_disk_told(folder),
    ):
        graphs = folder / FOLDER
        graphs.mkdir()
        data = write_hub_graphs(bundle, graphs)
        shutil.copyfile(bundle.path(TOKENIZER), folder / TOKENIZER)
        for name, value in _configs(bundle, own, data).items():
            (folder / name).write_bytes(json_bytes(value))
        for name, file in given.items():
            if name != CONFIG:
                shutil.copyfile(file, folder / name)
        told = {name: what for name, what in FILES.items() if (folder / name).exists()}
        if not vision_is_whole(bundle):
            told["onnx/vision_encoder.onnx"] = "pixel_values to tokens and summary"
        (folder / "README.md").write_text(hub_card(bundle, told, own is not None), "utf-8")
    files = sorted(file for file in out.rglob("*") if file.is_file())
    names = tuple(file.relative_to(out).as_posix() for file in files)
    return Unpacked(names, sum(file.stat().st_size for file in files))


def _check_same(bundle: Bundle, own: dict[str, Any], file: Path) -> None:
    """Refuse the config of a model whose decoder is of another size than the bundle's."""
    told, found = own.get("text_config", own), text_config(bundle)
    for key in _SIZES:
        if told.get(key) not in (None, found[key]):
            raise CheckpointInvalid(
                f"{file} has {key} {told[key]}, but the decoder of {bundle.folder.name} has "
                f"{found[key]}: it is another model",
                hint=f"give the checkpoint that it was exported from, "
                f"{bundle.manifest.source.checkpoint}",
            )


def _configs(bundle: Bundle, own: dict[str, Any] | None, data: tuple[str, ...]) -> dict[str, Any]:
    manifest = bundle.manifest
    found = {
        CONFIG: model_config(bundle, own, data),
        GENERATION: generation_config(bundle),
        TOKENIZER_CONFIG: tokenizer_config(bundle),
        PREPROCESSOR: preprocessor_config(bundle),
        GENAI: genai_config(bundle),
        PROMPT: manifest.as_json()["prompt"],
    }
    if manifest.gate is not None:
        found["gate.json"] = manifest.as_json()["gate"]
    return found


def _taken_over(checkpoint: Path | None) -> dict[str, Path]:
    if checkpoint is None:
        return {}
    found = {name: checkpoint / name for name in TAKEN_OVER if (checkpoint / name).is_file()}
    if CONFIG not in found:
        raise CheckpointMissing(
            f"there is no {CONFIG} in {checkpoint}, expected the checkpoint of the bundle",
            hint="give its folder, or leave --checkpoint out",
        )
    for name, file in found.items():
        if name.endswith(".json"):
            try:
                json.loads(file.read_text("utf-8"))
            except ValueError as error:
                raise CheckpointInvalid(f"{file} is no JSON: {error}") from error
    return found
