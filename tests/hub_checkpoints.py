"""Checkpoint folders as the Hub has them: real architectures at tiny sizes, with random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer

from .small_tokenizer import TEXT, trained_tokenizer

SHARED = Path(__file__).resolve().parents[2] / "shared"
QWEN2_FILES = SHARED / "data" / "tokenizers" / "videollama3-qwen2"
LICENCE = "apache-2.0"


def chat_tokenizer(special: Iterable[str]) -> Tokenizer:
    """A small byte-level tokenizer with a family's own tokens at its end."""
    tokenizer = trained_tokenizer(TEXT)
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in special]
    )
    return tokenizer


def qwen2_tokenizer() -> Tokenizer:
    """The real vocabulary of Qwen2 (151 k tokens), without the network."""
    if not QWEN2_FILES.is_dir():
        pytest.skip("no Qwen2 vocabulary in shared/data/tokenizers")
    from edgestream.models.hub_tokenizer import hub_tokenizer

    return hub_tokenizer(QWEN2_FILES)


def varied_(model: torch.nn.Module, factor: float = 3.0, seeing: float = 3.0) -> None:
    """Make a new model's words vary: wider weights, and embeddings that half precision holds.

    `seeing` widens those of the tower: a tiny one whose weights are too wide cannot be int8.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.mul_(seeing if "vision" in name or "visual" in name else factor)
        # A bundle keeps the table in half precision; what is compared is the rest.
        table = model.get_input_embeddings().weight
        table.mul_(10).copy_(table.half().float())


def save_hub(
    folder: Path,
    model: Any,
    tokenizer: Tokenizer,
    *,
    chat_template: str | None = None,
    preprocessor: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    max_shard_size: str = "1GB",
) -> Path:
    """A folder as `save_pretrained` and the Hub write it; the model stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: part.to(dtype) for name, part in model.state_dict().items()} if dtype else None
    model.save_pretrained(folder, max_shard_size=max_shard_size, state_dict=state)
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template)
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (folder / "README.md").write_text(f"---\nlicense: {LICENCE}\n---\n\n# A tiny model\n")
    return folder


def in_hub_cache(folder: Path, cache: Path, model: str, commit: str) -> Path:
    """A copy of a folder in the Hub's cache layout, as `main` of this model; the snapshot."""
    place = cache / f"models--{model.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    return snapshot
