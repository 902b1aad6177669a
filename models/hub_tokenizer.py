"""The tokenizer of a Hub folder: its tokenizer.json, or the older files of a byte-level BPE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import CheckpointInvalid, CheckpointMissing
from ..runtime.json_fields import Fields
from .checkpoint import TOKENIZER, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OLDER = ("vocab.json", "merges.txt")
_CONFIG = "tokenizer_config.json"


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
            return whole_texts(Tokenizer.from_file(str(folder / TOKENIZER)))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointInvalid(f"{folder / TOKENIZER} is no tokenizer: {error}") from error
    if not all((folder / name).is_file() for name in _OLDER):
        raise CheckpointMissing(
            f"there is no {TOKENIZER} in {folder}, nor {' and '.join(_OLDER)}",
            hint="download or copy the checkpoint again: the copy is not complete",
        )
    return _from_older_files(folder)


def whole_texts(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer that cuts and fills up no text; the one given, changed.

    Its file may keep the length that it was last used with; transformers sets that anew each time.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _from_older_files(folder: Path) -> Tokenizer:
    """As `transformers` turns them into a tokenizer.json; for Qwen2 and GPT-2 types.

    By the class that tokenizer_config.json names, and nothing else: what finds a class by itself
    reads config.json, which may be of a model that transformers does not know.
    """
    from transformers import GPT2Tokenizer, Qwen2Tokenizer

    kinds: dict[str, Any] = {"GPT2Tokenizer": GPT2Tokenizer, "Qwen2Tokenizer": Qwen2Tokenizer}
    facts = Fields(read_json(folder / _CONFIG), _CONFIG, CheckpointInvalid)
    named = facts.text("tokenizer_class").removesuffix("Fast")
    try:
        made = kinds[named].from_pretrained(str(folder), local_files_only=True)
        tokenizer: Tokenizer = made.backend_tokenizer
    except Exception as error:  # whatever the files hold
        raise CheckpointInvalid(
            f"{folder / _OLDER[0]} and {_OLDER[1]} make no {named}: {error}",
            hint=f"write {TOKENIZER} with transformers' save_pretrained",
        ) from error
    return tokenizer
