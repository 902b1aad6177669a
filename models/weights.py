"""Weights of a checkpoint folder: safetensors, one file or shards with an index, never pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..runtime.errors import CheckpointInvalid, CheckpointMissing

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_FLOATS = ("F64", "F32", "F16", "BF16")
_COMPLETE = "download or copy the checkpoint again: the copy is not complete"


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: where, its shape, and its element type as safetensors calls it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights, shards in order of their names.

    Raises:
        CheckpointMissing: no weights, or a shard that the index names is not there.
        CheckpointInvalid: the index cannot be read, or there is a single file as well.
    """
    if not (folder / INDEX).is_file():
        if not (folder / SINGLE).is_file() and any(folder.glob("*.bin")):
            raise CheckpointMissing(
                f"there is no file {folder / SINGLE}, and pickled weights are never read",
                hint="take a revision with safetensors, or convert it with save_pretrained",
            )
        return (_there(folder / SINGLE, "expected the weights there"),)
    if (folder / SINGLE).is_file():
        raise CheckpointInvalid(
            f"{folder} has both {SINGLE} and {INDEX}: which of them is the model cannot be told",
            hint="remove the one that is not wanted",
        )
    names = sorted(set(_weight_map(folder).values()))
    return tuple(_there(folder / name, f"but {INDEX} names it") for name in names)


def stored_tensors(files: tuple[Path, ...]) -> dict[str, Stored]:
    """Name → what is stored, from the files' headers alone.

    Raises:
        CheckpointInvalid: a file is truncated or no safetensors file.
    """
    found: dict[str, Stored] = {}
    for file in files:
        with opened(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (a safe_open is no mapping)
                part = tensors.get_slice(name)
                found[name] = Stored(file, tuple(part.get_shape()), part.get_dtype())
    return found


def check_index(folder: Path, stored: Mapping[str, Stored]) -> None:
    """Refuse an index that names a tensor in a file where it is not.

    Raises:
        CheckpointInvalid: names the tensor and the file.
    """
    if not (folder / INDEX).is_file():
        return
    for name, file in _weight_map(folder).items():
        if name not in stored or stored[name].file.name != file:
            raise CheckpointInvalid(
                f"{INDEX} says that {name} is in {file}, but it is not there", hint=_COMPLETE
            )


def fill_(modules: Mapping[str, nn.Module], stored: Mapping[str, Stored]) -> None:
    """Give modules their weights, whose names must be exactly those that are stored.

    Args:
        modules: prefix → module; tensors that a module shares with itself are wanted once.
        stored: as `stored_tensors` found them.

    Raises:
        CheckpointInvalid: names the first tensor that is missing, is unexpected, or has another
            shape or no floating point numbers.

    Cost: one tensor at a time, so twice the weights in memory at most, half of it file pages that
    the system can drop.
    """
    wanted = {
        prefix + name: parameter
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters(remove_duplicate=True)
    }
    _check_tensors(wanted, stored)
    for file in sorted({where.file for where in stored.values()}):
        with opened(file) as tensors, torch.no_grad():
            for name, where in stored.items():
                if where.file == file:
                    wanted[name].copy_(tensors.get_tensor(name))


def write_weights(
    folder: Path,
    modules: Mapping[str, nn.Module],
    max_shard_bytes: int | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the weights that `fill_` reads, in shards of at most so many bytes where asked for."""
    tensors = stored_form(modules, dtype)
    shards: list[dict[str, Tensor]] = [{}]
    for name, tensor in tensors.items():
        taken = sum(part.nbytes for part in shards[-1].values())
        if max_shard_bytes and shards[-1] and taken + tensor.nbytes > max_shard_bytes:
            shards.append({})
        shards[-1][name] = tensor
    if len(shards) == 1:
        save_file(tensors, folder / SINGLE)
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file)
        weight_map.update(dict.fromkeys(shard, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", "utf-8")


def stored_form(
    modules: Mapping[str, nn.Module], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Name → tensor of all weights, on the CPU, of this type; as they are where None."""
    return {
        prefix + name: parameter.detach().to("cpu", dtype or parameter.dtype).contiguous()
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters(remove_duplicate=True)
    }


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A safetensors file, open for reading.

    Raises:
        CheckpointInvalid: it is truncated or no safetensors file.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise CheckpointInvalid(
            f"{file} is truncated or no safetensors file ({file.stat().st_size} bytes): {error}",
            hint=_COMPLETE,
        ) from error


def check_stored(name: str, shape: tuple[int, ...], stored: Mapping[str, Stored]) -> None:
    """Refuse a tensor that is missing, or has another shape or no floating point numbers.

    Raises:
        CheckpointInvalid: names it.
    """
    if name not in stored:
        raise CheckpointInvalid(
            f"the tensor {name} {list(shape)} is missing from the weights",
            hint="check that config.json belongs to these weights",
        )
    got = stored[name]
    if got.shape != shape:
        raise CheckpointInvalid(
            f"the tensor {name} in {got.file.name} has the shape {list(got.shape)}, expected "
            f"{list(shape)}",
            hint="check that config.json belongs to these weights",
        )
    if got.dtype not in _FLOATS:
        raise CheckpointInvalid(
            f"the tensor {name} in {got.file.name} has the type {got.dtype}, expected one of "
            f"{', '.join(_FLOATS)}",
            hint="take the checkpoint before it was quantized",
        )


def _check_tensors(wanted: Mapping[str, Tensor], stored: Mapping[str, Stored]) -> None:
    for name, parameter in wanted.items():
        check_stored(name, tuple(parameter.shape), stored)
    for name, got in stored.items():
        if name not in wanted:
            raise CheckpointInvalid(
                f"the tensor {name} in {got.file.name} is not part of the model of config.json",
                hint="check that config.json belongs to these weights",
            )


def _weight_map(folder: Path) -> dict[str, str]:
    try:
        weight_map = dict(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointInvalid(
            f"{folder / INDEX} has no weight_map that can be read: {error}", hint=_COMPLETE
        ) from error
    for name, file in weight_map.items():
        # A plain name: an index must not lead out of its folder.
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointInvalid(
                f"{folder / INDEX} names {file!r} for {name!r}, expected a file of its folder"
            )
    return weight_map


def _there(file: Path, why: str) -> Path:
    if not file.is_file():
        raise CheckpointMissing(f"there is no file {file}, {why}", hint=_COMPLETE)
    return file


def check_finite(file: Path, what: str) -> None:
    """Refuse a file with a number that is none.

    Raises:
        CheckpointInvalid: names the first tensor that has one.

    Cost: every number is read.
    """
    with opened(file) as tensors:
        for name in tensors.keys():  # noqa: SIM118
            if not torch.isfinite(tensors.get_tensor(name)).all():
                raise CheckpointInvalid(
                    f"{what} has NaN or infinity in {name}",
                    hint="take an earlier checkpoint of its training, or train it at a lower rate",
                )
