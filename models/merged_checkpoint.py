"""A checkpoint with a LoRA adapter merged in, written in the layout and types of the checkpoint.

In a checkpoint of ours the adapter is merged as an export merges it (adapters.py), in one of the
Hub matrix by matrix (layerwise_merge.py). What changes goes back under the name that it has in the
checkpoint's files; everything else is copied.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..runtime.bundle import sha256_of_file
from ..runtime.errors import AdapterMismatch
from ..runtime.whole_folder import whole_folder
from .adapters import OURS, PEFT_CONFIG, PEFT_WEIGHTS, merge_adapter
from .checkpoint import CONFIG, GATE_WEIGHTS, read_json
from .decoder_weights import EMBEDDINGS, HEAD
from .families import family_of, load_checkpoint
from .family import Checkpoint
from .large_model import decoder_names
from .layerwise_merge import LayerwiseAdapter, layerwise_adapter
from .weights import INDEX, Stored, opened, stored_tensors, weight_files

# What becomes of a stored tensor: of any type, (out, in) for a matrix.
Change = Callable[[Tensor], Tensor]
_CONNECTOR = "connector."
_TOLD_IN = ("README.md", "MODEL_CARD.md")
_COPIED = frozenset({".json", ".jinja", ".txt", ".model", ".tiktoken", ".md"})
_TERMS = ("LICENSE", "LICENCE", "NOTICE", "COPYING")
# Weights of other formats would stay unmerged, and an adapter's config would have it merged again.
_NEVER = frozenset({PEFT_CONFIG, OURS})


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

    Cost: the checkpoint as an export loads it (of ours: the decoder twice), and the largest file of
    weights once.
    """
    base = load_checkpoint(source)
    files = weight_files(source)
    stored = stored_tensors(files)
    is_of_hub = bool(family_of(source).model_types)
    changes = _changes_of_hub if is_of_hub else _changes_of_ours
    changed, assumed = changes(base, adapter, stored)
    if not changed:
        raise AdapterMismatch(
            f"the adapter {adapter} changes nothing: its product is zero",
            hint="give an adapter that was trained",
        )
    added = {name: change for name, change in changed.items() if name not in stored}
    with whole_folder(out, replaces=CONFIG if force else None) as folder:
        _copy_others(source, folder, {file.name for file in files})
        for file in files:
            _write_weights(file, folder, changed, added if file == files[-1] else {})
        if added:
            _note_own_head(folder, dict.fromkeys(added, files[-1].name))
        _tell(folder, base, adapter)
    n_bytes = sum(file.stat().st_size for file in out.iterdir())
    return Merged(tuple(sorted(changed)), n_bytes, assumed)


def _changes_of_ours(
    base: Checkpoint, folder: Path, stored: Mapping[str, Stored]
) -> tuple[dict[str, Change], str | None]:
    """Name of a tensor → what becomes of it; and what was assumed."""
    merged = merge_adapter(base, folder)
    found: dict[str, Change] = {
        name: partial(_given, value) for name, value in _changed(base, merged).items()
    }
    return found, merged.source.extra.get("assumed")


def _changes_of_hub(
    base: Checkpoint, folder: Path, stored: Mapping[str, Stored]
) -> tuple[dict[str, Change], str | None]:
    adapter = layerwise_adapter(base, folder, stored)
    found: dict[str, Change] = {}
    for module, name in adapter.tensors.items():
        if f"{module}.weight" == HEAD and name == decoder_names(stored)[EMBEDDINGS]:
            found[_new_head(name)] = partial(_of_table, adapter, stored[name], name)
        else:
            found[name] = partial(_merged_in, adapter, module)
    return found, adapter.assumed


def _given(value: Tensor, old: Tensor) -> Tensor:
    return value


def _merged_in(adapter: LayerwiseAdapter, module: str, old: Tensor) -> Tensor:
    return adapter.merged(module, old)


def _of_table(adapter: LayerwiseAdapter, table: Stored, name: str, old: Tensor) -> Tensor:
    """A head that was tied: the table of embeddings with the adapter's product."""
    with opened(table.file) as tensors:
        return adapter.merged(HEAD.removesuffix(".weight"), tensors.get_tensor(name))


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


def _new_head(table: str) -> str:
    """The name that `transformers` would give a head that was tied, beside this table."""
    inner = EMBEDDINGS if f".{table}".endswith(f".{EMBEDDINGS}") else table
    return table.removesuffix(inner) + HEAD


def _write_weights(
    file: Path, folder: Path, changed: Mapping[str, Change], added: Mapping[str, Change]
) -> None:
    written: dict[str, Tensor] = {}
    with opened(file) as tensors:
        metadata = tensors.metadata()
        for name in tensors.keys():  # noqa: SIM118 (a safe_open is no mapping)
            old = tensors.get_tensor(name)
            change = changed.get(name)
            written[name] = old if change is None else change(old).to(old.dtype).contiguous()
        for name, change in added.items():
            written[name] = change(old).to(old.dtype).contiguous()
    save_file(written, folder / file.name, metadata=metadata)


def _copy_others(source: Path, folder: Path, weights: set[str]) -> None:
    """What else describes the model; no code, no other weights, no subfolders."""
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in weights and _describes(file):
            shutil.copyfile(file, folder / file.name)


def _describes(file: Path) -> bool:
    if file.name.startswith(".") or file.name in _NEVER:
        return False
    if not file.suffix:
        return file.name.upper().startswith(_TERMS)
    return file.suffix in _COPIED or file.name == GATE_WEIGHTS


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


def _tell(folder: Path, base: Checkpoint, adapter: Path) -> None:
    """Say in the model card what was merged; in a new one where there is none."""
    source = base.source
    told = (
        f"\n## Merged\n\n`edgestream merge` added the LoRA adapter `{adapter.name}` "
        f"(SHA-256 `{sha256_of_file(adapter / PEFT_WEIGHTS)}`) to the weights of "
        f"`{source.checkpoint}` (SHA-256 `{source.sha256}`, licence {source.licence}). "
        "What stands above tells of the checkpoint before.\n"
    )
    found = [folder / name for name in _TOLD_IN if (folder / name).is_file()]
    if not found:
        (folder / _TOLD_IN[0]).write_text(f"# {source.checkpoint}\n{told}", "utf-8")
        return
    found[0].write_text(found[0].read_text("utf-8").rstrip("\n") + "\n" + told, "utf-8")
