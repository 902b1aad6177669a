"""ONNX graphs of a random model: what it watches with, and its decoder as an export writes it.

They are written once and kept beside the state of the benchmark: an 8B decoder takes minutes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import onnx
import torch
from gpu_models import Random

from edgestream.export.cuda_decoder import write_cuda_decoder
from edgestream.export.layer_writer import write_layers
from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.models.decoder_weights import ModuleWeights
from edgestream.quant.schemes import SCHEMES

Precision = Literal["whole", "int4"]
_SCHEMES = {"whole": "fp32", "int4": "int4-64"}

WATCH_INPUTS, WATCH_OUTPUTS = ("pixels", "conv", "ssm"), ("scores", "embeds", "new_conv", "new_ssm")


def watch_graph(model: Random, folder: Path) -> Path:
    """The watch path in the type of the model's weights; see `Watch` for inputs and outputs.

    Raises:
        EngineError: PyTorch could not export it.
    """
    path = folder / "watch.onnx"
    if not path.exists():
        work = _fresh(folder / "watch.work")
        side = model.shape.side_px
        pixels = torch.zeros(1, side, side, 3, dtype=torch.uint8, device=model.device)
        inputs = (pixels, *model.watch.first_state())
        onnx_from_torch(model.watch, inputs, WATCH_INPUTS, WATCH_OUTPUTS, work / path.name)
        _publish(work, folder)
    return path


def decoder_graph(model: Random, folder: Path, precision: Precision) -> Path:
    """The decoder as `export --target cuda` writes it, typed as the model is.

    Args:
        precision: of its matrices: as they are, or int4 in blocks.

    Cost: a copy of the weights in float32 on disk while it lasts, and the graph.
    """
    path = folder / f"decoder-{precision}" / "decoder.onnx"
    if not path.exists():
        work = _fresh(folder / f"decoder-{precision}.work")
        weights, scheme = ModuleWeights(model.decoder), SCHEMES[_SCHEMES[precision]]
        write_layers(weights, scheme, work, "cpu")
        target = work / path.name
        write_cuda_decoder(work / "cpu.onnx", target, dtype_of(model))
        (work / "cpu.onnx").unlink()
        beside = {file.name for file in work.iterdir()} - {path.name} - _named_in(target)
        for name in beside:
            (work / name).unlink()
        work.rename(path.parent)
    return path


def dtype_of(model: Random) -> Literal["float32", "float16"]:
    """Of a graph that is typed as the model is."""
    return "float32" if model.dtype == torch.float32 else "float16"


def _named_in(graph: Path) -> set[str]:
    """Files in which a graph's external data lies."""
    tensors = onnx.load(str(graph), load_external_data=False).graph.initializer
    return {one.value for tensor in tensors for one in tensor.external_data
            if one.key == "location"}  # fmt: skip


def _fresh(work: Path) -> Path:
    """An empty folder; what a killed run left is removed."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def _publish(work: Path, folder: Path) -> None:
    """The graph's file last: where it is, the weights beside it are whole."""
    for file in sorted(work.iterdir(), key=lambda one: one.suffix == ".onnx"):
        file.rename(folder / file.name)
    work.rmdir()
