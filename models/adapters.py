"""LoRA adapters: merged into a checkpoint's own weights, or refused as another base's."""

from __future__ import annotations

import copy
import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from ..runtime.errors import (
    AdapterMismatch,
    CheckpointInvalid,
    CheckpointMissing,
    FormatTooNew,
    RemoteCodeNeeded,
    VocabularyMismatch,
)
from ..runtime.json_fields import Fields
from .adapter_patterns import patterns_here
from .checkpoint import TOKENIZER, read_json
from .family import Checkpoint
from .hub_tokenizer import hub_tokenizer
from .peft_library import peft_library
from .text_decoder import Decoder
from .weights import Stored, check_finite, opened, stored_tensors

FORMAT = 1
OURS, PEFT_CONFIG = "edgestream_adapter.json", "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_WHOLE = re.compile(r"connector\.(?P<name>.+)")
# An adapter of a whole model that sees names the language model inside it.
_INSIDE = re.compile(r"^(base_model\.model\.model\.)(?:text_model|language_model)\.")

# Its projector, of which the checkpoint's connector is the `readout`.
_PROJECTOR = re.compile(r"^(base_model\.model\.)model\.(?:mm_)?projector\.readout\.")


def merge_adapter(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """A checkpoint whose weights hold the adapter: W + scale * B A, and the connector it brings.

    Args:
        checkpoint: stays as it is.
        folder: of PEFT's own layout, with edgestream_adapter.json where it was trained by us.

    Returns:
        Another checkpoint; `source.adapter` is the folder's name, `source.extra` has
        `adapter_sha256` and, without edgestream_adapter.json, under `assumed` what was taken on
        trust. A tied embedding table stays as it was: it is untied where the adapter changes the
        head.

    Raises:
        CheckpointMissing: no folder, or not both of PEFT's files (its pickled form is not read).
        CheckpointInvalid: a file is damaged, or it is no LoRA adapter.
        AdapterMismatch: trained on another base; names the hash, the module or the shape.
        VocabularyMismatch: it brings a tokenizer that is not the checkpoint's; names a token.
        RemoteCodeNeeded: the adapter names code to be run.

    Cost: the decoder and connector once more in memory, and the adapter.
    """
    if checkpoint.stored_decoder is not None:
        raise CheckpointInvalid(
            f"the decoder has {checkpoint.stored_decoder.shape.n_parameters() / 1e9:.1f} thousand "
            "million parameters, too many to merge an adapter in memory",
            hint="`edgestream merge` merges it file by file; export what that writes",
        )
    stored, assumed = adapter_tensors(checkpoint, folder)
    _check_fit(checkpoint.decoder, checkpoint.connector, stored)
    decoder, connector = copy.deepcopy((checkpoint.decoder, checkpoint.connector))
    if any(".lora_" in name and name.startswith(f"{_PREFIX}lm_head.") for name in stored):
        untie_(decoder)
    # VideoLLM-online's adapter was trained with the connector inside the language model.
    decoder.connector = connector
    merged = merged_by_peft(decoder, folder)
    connector = merged.connector
    del merged.connector
    notes: dict[str, Any] = {"adapter_sha256": _sha256(folder / PEFT_WEIGHTS)}
    if assumed:
        notes["assumed"] = assumed
    extra = MappingProxyType({**checkpoint.source.extra, **notes})
    return replace(
        checkpoint,
        decoder=_frozen(merged),
        connector=_frozen(connector),
        source=replace(checkpoint.source, adapter=folder.name, extra=extra),
    )


def adapter_tensors(
    checkpoint: Checkpoint, folder: Path
) -> tuple[Mapping[str, Stored], str | None]:
    """An adapter's tensors, and what had to be assumed of its base; shapes are not looked at.

    Raises:
        as `merge_adapter`.
    """
    stored = _read(folder)
    _check_vocabulary(checkpoint, folder)
    assumed = _check_base(checkpoint, folder)
    check_finite(folder / PEFT_WEIGHTS, f"the adapter {folder}")
    return stored, assumed


def check_adapter_files(folder: Path) -> None:
    """Refuse a folder that is no LoRA adapter at once, with the errors of `merge_adapter`."""
    _read(folder)


def lora_module(name: str) -> str | None:
    """The linear layer that a tensor of an adapter belongs to; None for another tensor.

    A layer of the language model goes by the decoder's name, another one by the whole model's.
    """
    found = _LORA.fullmatch(_short(name).removeprefix(_PREFIX))
    return found["module"] if found else None


def merged_by_peft(decoder: nn.Module, folder: Path, only: str | None = None) -> Any:
    """A module with an adapter of this folder merged into it.

    Args:
        decoder: changed in place.
        folder: of the adapter, checked.
        only: the one linear layer of it that is there; None for the whole decoder.

    Raises:
        CheckpointInvalid: PEFT refuses it, or its config and its tensors do not agree.
    """
    peft = peft_library()

    with opened(folder / PEFT_WEIGHTS) as tensors:
        names = [name for name in tensors.keys() if only in (None, lora_module(name))]  # noqa: SIM118
        weights = {_short(name): tensors.get_tensor(name) for name in names}
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by a name that is on its way out.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            config = _config_here(peft.LoraConfig.from_pretrained(str(folder)), decoder, names)
            for each in ("alpha_pattern", "rank_pattern"):
                given = getattr(config, each) or {}
                told = patterns_here(given, names, lora_module, is_whole=only is None)
                setattr(config, each, told)
            if only is not None:
                config.target_modules, config.modules_to_save = {only}, None
            model: Any = peft.get_peft_model(decoder, config)
            done: Any = peft.set_peft_model_state_dict(model, weights)
            merged = model.merge_and_unload()
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointInvalid(
            f"PEFT refuses the adapter {folder}: {reason}",
            hint="save it again with PEFT, or train it again: edgestream train lora",
        ) from error
    # PEFT leaves what it did not find as it was initialised, and what it did not know unread.
    absent = [name for name in done.missing_keys if ".lora_" in name or "modules_to_save" in name]
    if wrong := [*absent, *done.unexpected_keys]:
        raise CheckpointInvalid(
            f"the adapter {folder} and its {PEFT_CONFIG} do not agree on {wrong[0]} "
            f"and {len(wrong) - 1} more",
            hint=f"give {PEFT_CONFIG} and {PEFT_WEIGHTS} of one training",
        )
    return merged


def _config_here(config: Any, decoder: nn.Module, names: Sequence[str]) -> Any:
    """An adapter's config for the language model alone.

    An adapter of a whole model that sees may choose its modules by names that they have there
    alone; its tensors say which they are. A decoder that is no model of `transformers` cannot
    generate, which PEFT wants of a language model.
    """
    if any(_INSIDE.match(name) or _PROJECTOR.match(name) for name in names):
        config.target_modules = {one for name in names if (one := lora_module(name))}
    if not hasattr(decoder, "prepare_inputs_for_generation"):
        config.task_type = None
    return config


def _short(name: str) -> str:
    """A module that was trained whole has its own name; PEFT has also written longer ones."""
    inside = _INSIDE.sub(r"\1", re.sub(r"\.modules_to_save\.\w+\.", ".", name))
    return _PROJECTOR.sub(r"\1connector.", inside)


def _read(folder: Path) -> dict[str, Stored]:
    for name in (PEFT_CONFIG, PEFT_WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointMissing(
                f"there is no file {folder / name}, expected a LoRA adapter as PEFT saves it",
                hint="save it with safe_serialization; the pickled form is not read",
            )
    config = read_json(folder / PEFT_CONFIG)
    fields = Fields(config, PEFT_CONFIG, CheckpointInvalid)
    fields.text("peft_type", one_of=("LORA",))
    if config.get("use_dora"):
        raise CheckpointInvalid(
            f"the adapter {folder} is DoRA, LoRA with a length for each row (use_dora), expected "
            "plain LoRA",
            hint="merge it with peft (merge_and_unload, save_pretrained) and give what that writes",
        )
    # Where PEFT was told of no task it names the class of the base, which is not looked up here.
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else None
    is_known = isinstance(library, str) and library.startswith("transformers.")
    for key in ("auto_map",) if is_known else ("auto_mapping", "auto_map"):
        if config.get(key):
            raise RemoteCodeNeeded(f"{folder / PEFT_CONFIG} has {key}, which would run code")
    return stored_tensors((folder / PEFT_WEIGHTS,))


def _check_base(checkpoint: Checkpoint, folder: Path) -> str | None:
    """What has to be assumed about the adapter's base; None where its hash says it."""
    if not (folder / OURS).is_file():
        named = read_json(folder / PEFT_CONFIG).get("base_model_name_or_path")
        return (
            f"the adapter has no {OURS} and names the base {named!r}; "
            "that it was trained on this checkpoint is assumed from its modules and their shapes"
        )
    fields = Fields(read_json(folder / OURS), OURS, CheckpointInvalid)
    if fields.whole("format") > FORMAT:
        raise FormatTooNew(
            f"{folder / OURS} has the format {fields.whole('format')}, this version reads {FORMAT}"
        )
    wanted, got = fields.text("base_sha256"), checkpoint.source.sha256
    if wanted != got:
        raise AdapterMismatch(
            f"the adapter {folder} was trained on the checkpoint with sha256 {wanted[:12]}…, "
            f"got {checkpoint.source.checkpoint!r} with {got[:12]}…",
            hint="give the checkpoint that it was trained on",
        )
    return None


def _check_vocabulary(checkpoint: Checkpoint, folder: Path) -> None:
    """The tokenizer that an adapter was saved with, if any, is that of the checkpoint."""
    if not (folder / TOKENIZER).is_file():
        return
    theirs = hub_tokenizer(folder).get_vocab(with_added_tokens=True)
    ours = checkpoint.tokenizer.get_vocab(with_added_tokens=True)
    if differing := {token for token, _ in theirs.items() ^ ours.items()}:
        token = min(differing, key=lambda one: (theirs.get(one, ours.get(one, 0)), one))
        raise VocabularyMismatch(
            f"{folder / TOKENIZER} differs from the checkpoint's in {len(differing)} tokens: "
            f"{token!r} has the id {theirs.get(token)}, expected {ours.get(token)}",
            hint="give the checkpoint whose vocabulary the adapter was trained with",
        )


def _check_fit(decoder: Decoder, connector: nn.Module, stored: Mapping[str, Stored]) -> None:
    """Each tensor of the adapter belongs to a module of the base, and has its shape."""
    modules = [*decoder.named_modules(), *connector.named_modules(prefix="connector")]
    layers = {name: module for name, module in modules if isinstance(module, nn.Linear)}
    whole = {name: tuple(part.shape) for name, part in connector.named_parameters()}
    for name, tensor in stored.items():
        local = _short(name).removeprefix(_PREFIX)
        lora, trained = _LORA.fullmatch(local), _WHOLE.fullmatch(local)
        expected: tuple[int, ...] | None = None
        if lora and (layer := layers.get(lora["module"])) is not None:
            outwards = lora["side"] == "B"
            expected = (layer.out_features, *tensor.shape[1:]) if outwards else (
                *tensor.shape[:1], layer.in_features)  # fmt: skip
        elif trained:
            expected = whole.get(trained["name"])
        if expected is None:
            raise AdapterMismatch(
                f"the adapter changes {local}, which this checkpoint does not have",
                hint="give the checkpoint that it was trained on",
            )
        if tensor.shape != expected:
            raise AdapterMismatch(
                f"the adapter's {local} has the shape {list(tensor.shape)}, this checkpoint needs "
                f"{list(expected)}",
                hint="give the checkpoint that it was trained on",
            )


def untie_(decoder: Decoder) -> None:
    """Give the head weights of its own, so that what is added to it stays off the embeddings."""
    if decoder.config.tie_word_embeddings:
        decoder.config.tie_word_embeddings = False
        head: Any = decoder.lm_head
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def _frozen(module: Any) -> Any:
    return module.eval().requires_grad_(False)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
