"""A checkpoint with a LoRA adapter merged in, written in the layout and types of the checkpoint.

The adapter is merged as an export merges it (adapters.py). What changed by that goes back under the
name it has in the checkpoint's files; everything else is copied.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..runtime.errors import AdapterMismatch, CheckpointInvalid
from ..runtime.whole_folder import whole_folder
from .adapters import merge_adapter
from .checkpoint import CONFIG, read_json
from .families import load_checkpoint
from .family import Checkpoint
from .weights import INDEX, Stored, opened, stored_tensors, weight_files

HEAD = "lm_head.weight"
_CONNECTOR = "connector."
# Only decoders have gated layers of this name; the rest of it is the name of the text model.
_FIRST_GATE = "layers.0.mlp.gate_proj.weight"
_TOLD_IN = ("README.md", "MODEL_CARD.md")
_COPIED = frozenset({".json", ".jinja", ".txt", ".model", ".tiktoken", ".md", ".safetensors", ""})


@dataclass(frozen=True, slots=True)
class Merged:
    """A folder that was written.

    Attributes:
        changed: names of the tensors that differ from the checkpoint's, or are new.
        n_bytes: of the whole folder.
        assumed: what was taken on trust about the adapter; None for nothing.
    """

    changed: tuple[str, ...]
    n_bytes: int
    assumed: str | None = None


def write_merged(source: Path, adapter: Path, out: Path, *, force: bool = False) -> Merged:
    """Write a checkpoint folder whose weights hold an adapter; whole, or not at all.

    Args:
        source: folder of a checkpoint of any family.
        adapter: folder of PEFT's layout, as for `merge_adapter`.
        out: must not be there, or be empty.
        force: replace an older checkpoint folder.

    Raises:
        BundleError: the checkpoint or the adapter is damaged, incomplete or of another base.
        OutputError: the folder cannot be written.

    Cost: the decoder in float32 twice, and the largest file of weights once.
    """
    base = load_checkpoint(source)
    merged = merge_adapter(base, adapter)
    files = weight_files(source)
    stored = stored_tensors(files)
    changed = _by_stored_name(_changed(base, merged), stored)
    if not changed:
        raise AdapterMismatch(
            f"the adapter {adapter} changes nothing: its product is zero",
            hint="give an adapter that was trained",
        )
    added = {name: tensor for name, tensor in changed.items() if name not in stored}
    with whole_folder(out, replaces=CONFIG if force else None) as folder:
        _copy_others(source, folder, {file.name for file in files})
        for file in files:
            _write_weights(file, folder, changed, added if file == files[-1] else {})
        if added:
            _note_own_head(folder, dict.fromkeys(added, files[-1].name))
        _tell(folder, merged)
    assumed = merged.source.extra.get("assumed")
    n_bytes = sum(file.stat().st_size for file in out.iterdir())
    return Merged(tuple(sorted(changed)), n_bytes, assumed)


def _changed(base: Checkpoint, merged: Checkpoint) -> dict[str, Tensor]:
    """Name → new value of what differs: the decoder's names, and `connector.` before the others."""
    found: dict[str, Tensor] = {}
    for prefix, old, new in (
        ("", base.decoder, merged.decoder),
        (_CONNECTOR, base.connector, merged.connector),
    ):
        before = dict(old.named_parameters())
        for name, value in new.named_parameters():
            if name not in before or not torch.equal(before[name], value):
                found[prefix + name] = value.detach()
    return found


def _by_stored_name(
    changed: Mapping[str, Tensor], stored: Mapping[str, Stored]
) -> dict[str, Tensor]:
    prefix = _text_prefix(stored)
    found = {}
    for name, value in changed.items():
        stored_name = name
        if name == HEAD:
            stored_name = _head_name(prefix, stored)
        elif not name.startswith(_CONNECTOR):
            stored_name = prefix + name.removeprefix("model.")
        if stored_name not in stored and name != HEAD:
            raise AdapterMismatch(
                f"the adapter changes {name}, which has no tensor {stored_name} in the files of "
                "the checkpoint to be written to",
                hint="`edgestream export --adapter` merges it into a bundle",
            )
        found[stored_name] = value
    return found


def _text_prefix(stored: Mapping[str, Stored]) -> str:
    """What the language model's tensors begin with: `model.`, `model.text_model.` and such."""
    found = [name for name in stored if f".{name}".endswith(f".{_FIRST_GATE}")]
    if len(found) != 1:
        raise CheckpointInvalid(
            f"got {len(found)} tensors {_FIRST_GATE} in the checkpoint's files, expected that of "
            "the one language model"
        )
    return found[0].removesuffix(_FIRST_GATE)


def _head_name(prefix: str, stored: Mapping[str, Stored]) -> str:
    """Of the head; where it was tied, the name that `transformers` would give it."""
    beside = [name for name in stored if f".{name}".endswith(f".{HEAD}")]
    if beside:
        return beside[0]
    is_causal = f".{prefix}".endswith(".model.")
    return prefix.removesuffix("model.") + HEAD if is_causal else HEAD


def _write_weights(
    file: Path, folder: Path, changed: Mapping[str, Tensor], added: Mapping[str, Tensor]
) -> None:
    with opened(file) as tensors:
        metadata = tensors.metadata()
        written: dict[str, Tensor] = {}
        for name in tensors.keys():  # noqa: SIM118 (a safe_open is no mapping)
            old = tensors.get_tensor(name)
            new = changed.get(name)
            written[name] = old if new is None else new.to(old.dtype).contiguous()
        dtype = old.dtype
    written |= {name: value.to(dtype).contiguous() for name, value in added.items()}
    save_file(written, folder / file.name, metadata=metadata)


def _copy_others(source: Path, folder: Path, weights: set[str]) -> None:
    """Everything else that describes the model; no code, no pickled weights, no subfolders."""
    for file in sorted(source.iterdir()):
        is_kept = file.suffix in _COPIED and not file.name.startswith(".")
        if file.is_file() and is_kept and file.name not in weights:
            shutil.copyfile(file, folder / file.name)


def _note_own_head(folder: Path, where: Mapping[str, str]) -> None:
    """The head has weights of its own now: config.json says so, and the index names its file."""
    config = read_json(folder / CONFIG)
    for part in _parts_that_tie(config):
        part["tie_word_embeddings"] = False
    _rewrite(folder / CONFIG, config)
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        index["weight_map"].update(where)
        _rewrite(folder / INDEX, index)


def _parts_that_tie(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    text = config.get("text_config")
    if isinstance(text, dict):
        yield text
    if text is None or "tie_word_embeddings" in config:
        yield config


def _rewrite(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _tell(folder: Path, merged: Checkpoint) -> None:
    """Say in the model card what was merged; in a new one where there is none."""
    source = merged.source
    told = (
        f"\n## Merged\n\n`edgestream merge` added the LoRA adapter `{source.adapter}` "
        f"(SHA-256 `{source.extra['adapter_sha256']}`) to the weights of `{source.checkpoint}` "
        f"(SHA-256 `{source.sha256}`, licence {source.licence}). "
        "What stands above tells of the checkpoint before.\n"
    )
    found = [folder / name for name in _TOLD_IN if (folder / name).is_file()]
    if not found:
        (folder / _TOLD_IN[0]).write_text(f"# {source.checkpoint}\n{told}", "utf-8")
        return
    found[0].write_text(found[0].read_text("utf-8").rstrip("\n") + "\n" + told, "utf-8")
