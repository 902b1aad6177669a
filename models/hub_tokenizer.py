"""The tokenizer of a Hub folder: its tokenizer.json, or the older files of a byte-level BPE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import CheckpointInvalid, CheckpointMissing
from .checkpoint import TOKENIZER, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OLDER = ("vocab.json", "merges.txt")


def hub_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer with its added tokens.

    Raises:
        CheckpointMissing: neither tokenizer.json nor vocab.json with merges.txt.
        CheckpointInvalid: they cannot be read.
    """
    from tokenizers import Tokenizer

    if (folder / TOKENIZER).is_file():
        read_json(folder / TOKENIZER)
        try:
            return Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointInvalid(f"{folder / TOKENIZER} is no tokenizer: {error}") from error
    if not all((folder / name).is_file() for name in _OLDER):
        raise CheckpointMissing(
            f"there is no {TOKENIZER} in {folder}, nor {' and '.join(_OLDER)}",
            hint="download or copy the checkpoint again: the copy is not complete",
        )
    return _from_older_files(folder)


def _from_older_files(folder: Path) -> Tokenizer:
    """As `transformers` turns them into a tokenizer.json; for Qwen2 and GPT-2 types."""
    from transformers import AutoTokenizer

    try:
        made = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
        )
        tokenizer: Tokenizer = made.backend_tokenizer
    except Exception as error:  # whatever the files hold
        raise CheckpointInvalid(
            f"{folder / _OLDER[0]} and {_OLDER[1]} make no tokenizer: {error}",
            hint=f"write {TOKENIZER} with transformers' save_pretrained",
        ) from error
    return tokenizer
