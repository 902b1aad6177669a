"""The checkpoint folder of a reference assistant, written and read back to train on.

config.json holds, beside the sub-configs of `transformers` form:

    {"format": 1, "edgestream_family": "reference", "name": …, "licence": …, "revision": null,
     "tokens_per_frame": 10, "fps": 4, "max_gap_s": 1.0, "unused_token_ids": 0,
     "input": {…as in the manifest…}, "prompt": {"max_answer_tokens": 48}, "questions": […],
     "trained": null, "vision_config": {…}, "text_config": {…}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import LlamaConfig, SiglipVisionConfig

from ..runtime.errors import CheckpointInvalid
from ..runtime.json_fields import Fields, json_from_value, plain
from .checkpoint import GATE_FACTS, GATE_WEIGHTS, read_config, read_json, read_tokenizer
from .checkpoint import save_checkpoint as save_folder
from .gate_files import GateMeaning, gate_as_json, meaning_from_json
from .reference_layout import MAX_ANSWER_TOKENS
from .reference_model import TEXT, VISION, ReferenceConfig, ReferenceModel, build_reference
from .transformers_parts import config_as_json
from .weights import fill_, stored_tensors, weight_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FAMILY, LICENCE = "reference", "Apache-2.0"
RANDOM_NAME = "reference-random"
"""Name of a checkpoint that nobody trained: it says so wherever it is shown."""


def save_reference(
    folder: Path,
    model: ReferenceModel,
    tokenizer: Tokenizer,
    meaning: GateMeaning | None = None,
    *,
    name: str = RANDOM_NAME,
    trained: Mapping[str, Any] | None = None,
    questions: Sequence[str] = (),
    card: str | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the checkpoint of a model; the same values give the same bytes.

    Args:
        folder: made where it is not there; what lies in it under these names is replaced.
        model: on any device; it stays as it is.
        tokenizer: of the narrator.
        meaning: of the gate's scores; None for thresholds of 0.5 that nothing was calibrated on.
        name: of the checkpoint.
        trained: how it was trained (steps, seed, …), for people and for a repetition.
        questions: that the proof of an export asks; in words of the tokenizer.
        card: MODEL_CARD.md; None leaves out the file.
        dtype: in which the weights are kept. float16 halves the file and costs less than int8;
            take float32 to go on training from it exactly.
    """
    meaning = meaning or uncalibrated(model.config)
    meaning.check()
    save_folder(
        folder,
        _config(model, tokenizer, name, trained, questions),
        reference_modules(model),
        tokenizer,
        gate=(model.gate, gate_as_json(model.gate.shape, meaning)),
        dtype=dtype,
    )
    if card is not None:
        (folder / "MODEL_CARD.md").write_text(card, "utf-8")


def load_reference(folder: Path) -> tuple[ReferenceModel, Tokenizer, GateMeaning]:
    """The model of a checkpoint, float32 and ready to be trained, with its tokenizer and gate.json.

    Raises:
        CheckpointMissing, CheckpointInvalid, VocabularyMismatch: what is wrong, and where.
    """
    config = read_config(folder)
    if config.text("edgestream_family") != FAMILY:
        raise CheckpointInvalid(
            f"{folder} is of the family {config.text('edgestream_family')}, expected {FAMILY}"
        )
    gate = Fields(read_json(folder / GATE_FACTS), GATE_FACTS, CheckpointInvalid)
    meaning = meaning_from_json(gate)
    tower = SiglipVisionConfig(**_described(config, "vision_config"))
    narrator = LlamaConfig(**_described(config, "text_config"))
    sizes = gate.object("architecture", lambda below: (below.whole("width"), below.whole("layers")))
    described = ReferenceConfig(
        events=meaning.events,
        attributes=meaning.attributes,
        attributes_of=meaning.attributes_of,
        vision={name: getattr(tower, name) for name in VISION},
        text={name: getattr(narrator, name) for name in TEXT},
        gate_width=sizes[0],
        gate_layers=sizes[1],
        tokens_per_frame=config.whole("tokens_per_frame"),
        fps=config.number("fps", above=0),
        max_gap_s=config.number("max_gap_s", above=0),
    )
    if plain(config.mapping("input")) != json_from_value(described.frame_input()):
        raise CheckpointInvalid(
            f"{folder} was trained on another input: {plain(config.mapping('input'))}, expected "
            f"{json_from_value(described.frame_input())}"
        )
    model = build_reference(described, narrator.vocab_size, seed=0)
    fill_(reference_modules(model), stored_tensors(weight_files(folder)))
    fill_({"": model.gate}, stored_tensors((folder / GATE_WEIGHTS,)))
    unused = config.whole("unused_token_ids", at_least=0)
    return model, read_tokenizer(folder, narrator.vocab_size, unused), meaning


def reference_modules(model: ReferenceModel) -> dict[str, nn.Module]:
    """Prefix of the tensors' names → module, as model.safetensors is written."""
    return {"": model.narrator, "connector.": model.connector, "vision.": model.vision.tower}


def uncalibrated(config: ReferenceConfig) -> GateMeaning:
    """The gate of a model whose thresholds nobody has measured yet."""
    return GateMeaning(
        events=config.events,
        thresholds=dict.fromkeys(("speak", *config.events), 0.5),
        attributes=config.attributes,
        attributes_of=config.attributes_of,
    )


def embedding_rows(tokenizer: Tokenizer, config: ReferenceConfig) -> int:
    """Rows of the narrator's table: all tokens, and a few more where its height would be a width.

    The decoder's builder takes any layer as wide as the vocabulary for the LM head.
    """
    text = config.text
    head_dim = text["hidden_size"] // text["num_attention_heads"]
    widths = {text["hidden_size"], text["intermediate_size"]}
    widths |= {text[f"num_{kind}_heads"] * head_dim for kind in ("attention", "key_value")}
    rows: int = tokenizer.get_vocab_size(with_added_tokens=True)
    while rows in widths:
        rows += 1
    return rows


def _described(config: Fields, key: str) -> dict[str, Any]:
    """A sub-config as `transformers` takes it."""
    return {name: one for name, one in plain(config.mapping(key)).items() if name != "model_type"}


def _config(
    model: ReferenceModel,
    tokenizer: Tokenizer,
    name: str,
    trained: Mapping[str, Any] | None,
    questions: Sequence[str],
) -> dict[str, Any]:
    config, narrator = model.config, model.narrator
    return {
        "edgestream_family": FAMILY,
        "name": name,
        "revision": None,
        "licence": LICENCE,
        "tokens_per_frame": config.tokens_per_frame,
        "fps": config.fps,
        "max_gap_s": config.max_gap_s,
        "unused_token_ids": narrator.config.vocab_size - tokenizer.get_vocab_size(),
        "input": json_from_value(config.frame_input()),
        "prompt": {"max_answer_tokens": MAX_ANSWER_TOKENS},
        "questions": list(questions),
        "trained": None if trained is None else dict(trained),
        "vision_config": config_as_json(model.vision.tower.config),
        "text_config": config_as_json(narrator.config),
    }
