"""A tiny decoder with random weights: as PyTorch, and exported as float32 with its evict graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from transformers import PreTrainedModel

from edgestream.export.decoder_onnx import write_decoder
from edgestream.export.evict_graph import evict_graph
from edgestream.models.transformers_parts import DECODERS
from edgestream.quant.schemes import scheme_named
from edgestream.runtime.engines.ort import OrtBackend, OrtEngine
from edgestream.runtime.manifest import CacheShape, Positions
from edgestream.runtime.token_rows import TokenRows

from .checkpoints import DECODER_SIZES, TEXT, new_model, trained_tokenizer

CAPACITY = 256


@dataclass(frozen=True)
class TinyDecoder:
    """What a test needs of it.

    Attributes:
        model: in PyTorch.
        graph, evict: ONNX files.
        rows: embedding table.
        shape, positions: of its cache, CAPACITY slots.
    """

    model: PreTrainedModel
    graph: Path
    evict: Path
    rows: TokenRows
    shape: CacheShape
    positions: Positions

    def engine(self) -> OrtEngine:
        return OrtBackend().open(self.graph)

    def turn(self) -> OrtEngine:
        return OrtBackend().open(self.evict)

    @property
    def hidden(self) -> int:
        return self.rows.hidden


def tiny_decoder(folder: Path, **sizes: Any) -> TinyDecoder:
    """Export it into a folder; about 3 s. `sizes` change its configuration."""
    tokenizer = trained_tokenizer(TEXT)
    tokenizer.save(str(folder / "tokenizer.json"))
    all_sizes = {**DECODER_SIZES["tiny"], "vocab_size": tokenizer.get_vocab_size(), **sizes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_model(DECODERS["llama"], **all_sizes)
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.data.mul_(3.0)  # so that attention looks at some tokens more than at others
    write_decoder(model, folder / "tokenizer.json", scheme_named("fp32"), folder, "decoder")
    config = model.config
    head_dim = config.hidden_size // config.num_attention_heads
    onnx.save(evict_graph(config.num_key_value_heads, head_dim), str(folder / "evict.onnx"))
    table = model.get_input_embeddings().weight.detach().numpy()
    theta = float(config.rope_parameters["rope_theta"])
    shape = CacheShape(config.num_hidden_layers, config.num_key_value_heads, head_dim, CAPACITY)
    return TinyDecoder(
        model, folder / "decoder.onnx", folder / "evict.onnx", TokenRows(table), shape,
        Positions(1, theta),
    )  # fmt: skip


def as_float16_cache(graph: Path, target: Path) -> Path:
    """The same decoder with a cache of float16: past and present change their element type."""
    model = onnx.load(str(graph))
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, str(target))
    return target


def random_embeds(seed: int, count: int, hidden: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((count, hidden)) * scale).astype("f4")
