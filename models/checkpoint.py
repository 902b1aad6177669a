"""A checkpoint folder of ours, read and written (docs/FORMATS.md, section 2).

config.json, model.safetensors (or shards with an index), tokenizer.json, and for a gate
gate.safetensors with gate.json. Weights come from safetensors alone, and no code is ever taken from
a checkpoint. What the parts of a config mean is for the families (models/families/) to say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..runtime.errors import (
    CheckpointInvalid,
    CheckpointMissing,
    FormatTooNew,
    RemoteCodeNeeded,
    VocabularyMismatch,
)
from ..runtime.json_fields import Fields
from .weights import INDEX, stored_form, weight_files, write_weights

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

FORMAT = 1
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
GATE_WEIGHTS, GATE_FACTS = "gate.safetensors", "gate.json"
# What else a checkpoint of the Hub may say of itself, and an export reads.
HUB_FILES = ("added_tokens.json", "chat_template.jinja", "chat_template.json",
             "generation_config.json", "merges.txt", "preprocessor_config.json",
             "processor_config.json", "tokenizer_config.json", "vocab.json")  # fmt: skip


def read_config(folder: Path) -> Fields:
    """config.json of a checkpoint folder of ours, ready to be read field by field.

    Raises:
        CheckpointMissing: no such folder, or no config.json in it.
        CheckpointInvalid: config.json is no JSON object.
        FormatTooNew: its format is newer than ours.
        RemoteCodeNeeded: it names Python code to be run.
    """
    refuse_code(folder)
    config = config_fields(folder)
    if config.whole("format") > FORMAT:
        raise FormatTooNew(
            f"{folder / CONFIG} has the format {config.whole('format')}, this version reads "
            f"up to {FORMAT}",
            hint="update edgestream",
        )
    return config


def config_fields(folder: Path) -> Fields:
    """config.json of any checkpoint folder, whatever it says.

    Raises:
        CheckpointMissing: no such folder, or no config.json in it.
        CheckpointInvalid: config.json is no JSON object.
    """
    if not folder.is_dir():
        raise CheckpointMissing(
            f"there is no checkpoint folder {folder}", hint="give the folder with config.json"
        )
    return Fields(read_json(folder / CONFIG), CONFIG, CheckpointInvalid)


def refuse_code(folder: Path) -> None:
    """Refuse a config.json that names Python code to be run.

    Raises:
        RemoteCodeNeeded: names the place.
        CheckpointMissing, CheckpointInvalid: as `read_json`.
    """
    if not folder.is_dir():
        return
    for place, value in _walk(CONFIG, read_json(folder / CONFIG)):
        if place.rsplit(".", 1)[-1] in ("auto_map", "auto_mapping") and value:
            raise RemoteCodeNeeded(
                f"{place} asks for code of the checkpoint's own, which is never run",
                hint="take a checkpoint of an architecture that transformers has built in",
            )


def read_json(file: Path) -> Any:
    """What a JSON file of a checkpoint or adapter holds.

    Raises:
        CheckpointMissing: there is no such file.
        CheckpointInvalid: it is not JSON.
    """
    try:
        return json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CheckpointMissing(
            f"there is no file {file}",
            hint="give the folder of a whole checkpoint: of the Hub, or as docs/FORMATS.md says",
        ) from error
    except ValueError as error:
        raise CheckpointInvalid(
            f"{file} is no JSON: {error}", hint="copy the file again, or correct it"
        ) from error


def read_tokenizer(folder: Path, vocab_size: int, unused_ids: int) -> Tokenizer:
    """The tokenizer, whose tokens must be exactly the rows of the embedding table.

    Args:
        folder: of the checkpoint.
        vocab_size: rows of the embedding table.
        unused_ids: rows at its end that no token uses (many tables are padded).

    Raises:
        CheckpointMissing: there is no tokenizer.json.
        CheckpointInvalid: it cannot be read.
        VocabularyMismatch: a token without a row, or more rows without a token than stated.
    """
    from tokenizers import Tokenizer

    file = folder / TOKENIZER
    read_json(file)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointInvalid(f"{file} is no tokenizer: {error}") from error
    tokenizer.no_truncation()  # its file may keep the length that it was last used with
    tokenizer.no_padding()
    ids = tokenizer.get_vocab(with_added_tokens=True)
    text, last = max(ids.items(), key=lambda item: item[1], default=("", -1))
    if last >= vocab_size:
        raise VocabularyMismatch(
            f"{file} has the token {text!r} with the id {last}, but the embedding table has "
            f"{vocab_size} rows",
            hint="take the tokenizer that the model was trained with",
        )
    if len(ids) + unused_ids != vocab_size:
        raise VocabularyMismatch(
            f"{file} has {len(ids)} tokens, but the embedding table has {vocab_size} rows, "
            f"of which {unused_ids} are said to be unused",
            hint=f"take the model's own tokenizer; if its table is padded, write "
            f'"unused_token_ids": {vocab_size - len(ids)} into {CONFIG}',
        )
    return tokenizer


def checkpoint_sha256(folder: Path) -> str:
    """What a bundle and an adapter call the sha256 of a checkpoint, 64 hex digits.

    It is that of the lines `sha256  name`, as sha256sum prints them, of config.json, the weights
    and their index, tokenizer.json, the gate's files and `HUB_FILES`, in order of their names.

    Raises:
        CheckpointMissing: no weights.

    Cost: reads every file once, about a second per gigabyte.
    """
    files = weight_files(folder)
    names = (CONFIG, INDEX, TOKENIZER, GATE_WEIGHTS, GATE_FACTS, *HUB_FILES)
    return files_sha256({*files, *(folder / name for name in names)})


def files_sha256(files: Iterable[Path]) -> str:
    """The sha256 of the lines that sha256sum prints of those files that are there, by name."""
    lines = [
        f"{_file_sha256(file)}  {file.name}\n"
        for file in sorted(files, key=lambda file: file.name)
        if file.is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def save_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    tokenizer: Tokenizer,
    *,
    gate: tuple[nn.Module, Mapping[str, Any]] | None = None,
    max_shard_bytes: int | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a checkpoint folder; the same values give the same bytes.

    Args:
        folder: made where it is not there.
        config: of config.json, without `format`.
        modules: prefix of its tensors' names → module, as the family loads them.
        tokenizer: of the language model.
        gate: the gate and its gate.json, without `format`.
        max_shard_bytes: cut the weights into files of at most so many bytes.
        dtype: in which the weights are kept; as they are where None.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIG, {"format": FORMAT, **config})
    _write_json(folder / TOKENIZER, json.loads(tokenizer.to_str()))
    write_weights(folder, modules, max_shard_bytes, dtype)
    if gate is not None:
        module, facts = gate
        save_file(stored_form({"": module}, dtype), folder / GATE_WEIGHTS)
        _write_json(folder / GATE_FACTS, {"format": FORMAT, **facts})


def _write_json(file: Path, data: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _file_sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _walk(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    yield place, value
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _walk(f"{place}.{key}", below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _walk(f"{place}[{index}]", below)
