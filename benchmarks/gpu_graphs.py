"""ONNX graphs of a random model: what it watches with, and its decoder for ONNX Runtime.

They are written once and kept beside the state of the benchmark: an 8B decoder takes minutes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from gpu_models import Random

from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.export.quiet import quiet

WATCH_INPUTS, WATCH_OUTPUTS = ("pixels", "conv", "ssm"), ("scores", "embeds", "new_conv", "new_ssm")
# What the product's own export asks of the builder; see export/decoder_onnx.py.
OPTIONS = ("hf_token=false", "exclude_embeds=true", "prune_lm_head=true", "fuse_mlp_gate_up=true")


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


def decoder_graph(model: Random, folder: Path, precision: str, provider: str) -> Path:
    """The decoder, written by onnxruntime-genai's builder.

    Args:
        precision: fp32, fp16 or int4, in the builder's words.
        provider: cpu or cuda, which decides the type of the graph's borders.

    Raises:
        ImportError: the builder is not installed.
        Exception: the builder's own, which have no kind.

    Cost: a copy of the weights on disk while it lasts, and the graph.
    """
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    path = folder / f"decoder-{precision}-{provider}" / "model.onnx"
    if not path.exists():
        work = _fresh(folder / f"decoder-{precision}-{provider}.work")
        checkpoint, built = work / "checkpoint", work / "built"
        with quiet():
            model.decoder.save_pretrained(checkpoint)
        _write_tokenizer(checkpoint)
        arguments = (None, str(checkpoint), str(built), precision, provider, str(work / "cache"))
        with quiet():
            create_model(*arguments, **parse_extra_options(*arguments, list(OPTIONS)))
        built.rename(path.parent)
        shutil.rmtree(work)
    return path


def _write_tokenizer(checkpoint: Path) -> None:
    """The builder does not start without one; no text is ever read."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words: Any = WordLevel({"a": 0}, unk_token="a")
    Tokenizer(words).save(str(checkpoint / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(kind))


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
