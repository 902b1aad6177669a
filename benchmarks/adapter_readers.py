"""One decoder read two ways: by PyTorch, and by the engine of a bundle with an adapter in use.

Both are given the same rows of embeds, so that what differs is the decoder's doing alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgestream.export.decoder_onnx import weights_of
from edgestream.export.graphs import Graph
from edgestream.export.prove_decoder import left_of_weights
from edgestream.models.family import Checkpoint
from edgestream.models.reference_layout import encoder_of
from edgestream.quant.llm_words import exceptions_from_json
from edgestream.quant.schemes import scheme_from_json
from edgestream.runtime.adapters import Adapters, adapters_of
from edgestream.runtime.bundle import Bundle, open_bundle
from edgestream.runtime.decoder_rungs import DecoderRungs
from edgestream.runtime.engine_pool import EngineRules, engine_pool
from edgestream.runtime.language_model import LanguageModel
from edgestream.training.dialogues import read_dialogues
from edgestream.training.features import features_of
from edgestream.training.live_rows import RowWriter
from edgestream.training.lora_data import live_stream, pieces_of
from edgestream.training.lora_model import LoraModel
from edgestream.training.lora_stage import row_batch

ROW_TOKENS = 400
Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A held-out row, as both sides read it.

    Attributes:
        embeds: (tokens, hidden) float32.
        labelled: numbers of the tokens behind which something is learned.
        prompts: of those behind which an answer begins.
    """

    embeds: Float
    labelled: tuple[int, ...]
    prompts: tuple[int, ...]


class Reader(Protocol):
    """A decoder that reads rows."""

    def logits(self, row: Row) -> Float:
        """(labelled, vocabulary) of a row."""

    def greedy(self, embeds: Float, count: int) -> tuple[list[int], Float]:
        """So many tokens behind a prompt, whatever they are, and the logits before each."""


def held_out_rows(checkpoint: Checkpoint, dialogues: Path, cache: Path) -> list[Row]:
    """The rows of some dialogues, their frames through the checkpoint's own connector."""
    writer = RowWriter(
        checkpoint.layout, encoder_of(checkpoint.tokenizer), checkpoint.tokens_per_frame
    )
    read = read_dialogues(dialogues)
    seen = features_of(checkpoint, sorted({one.video for one in read}), cache)
    rows = []
    for one in read:
        streams = [live_stream(one, seen[one.video], writer)]
        for piece in pieces_of(streams, ROW_TOKENS):
            batch = row_batch([piece], streams, writer, "cpu")
            (row,) = batch.rows
            labelled = tuple(at for at, label in enumerate(row.labels) if label >= 0)
            begun = tuple(words[0] for _, words in row.answers)
            rows.append(Row(_embeds(checkpoint, batch), labelled, begun))
    return rows


@torch.inference_mode()
def _embeds(checkpoint: Checkpoint, batch: Any) -> Float:
    given = (batch.tokens,) if batch.states is None else (batch.tokens, batch.states)
    shown = checkpoint.connector(*given)
    embeds = checkpoint.decoder.get_input_embeddings()(batch.batch.ids[0]).clone()
    places = batch.batch.places
    embeds[places[:, 1]] = shown[places[:, 2], places[:, 3]]
    found: Float = embeds.numpy()
    return found


class TorchReader:
    """A decoder in PyTorch, float32, as it is."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder.eval()

    @torch.inference_mode()
    def logits(self, row: Row) -> Float:
        """See `Reader`."""
        whole = self._decoder(inputs_embeds=torch.from_numpy(row.embeds)[None]).logits[0]
        found: Float = whole[list(row.labelled)].numpy()
        return found

    @torch.inference_mode()
    def greedy(self, embeds: Float, count: int) -> tuple[list[int], Float]:
        """See `Reader`; with a cache, as `transformers` generates."""
        embed = self._decoder.get_input_embeddings()
        read, past, ids, all_logits = torch.from_numpy(embeds)[None], None, [], []
        for _ in range(count):
            out = self._decoder(inputs_embeds=read, past_key_values=past, use_cache=True)
            all_logits.append(out.logits[0, -1].numpy())
            ids.append(int(all_logits[-1].argmax()))
            read, past = embed(torch.tensor([[ids[-1]]])), out.past_key_values
        return ids, np.stack(all_logits)


@dataclass(slots=True, eq=False)
class EngineReader:
    """The decoder of a bundle, as a run has it. State: its cache, and the adapter in use."""

    bundle: Bundle
    model: LanguageModel
    adapters: Adapters

    @classmethod
    def opened(cls, stack: ExitStack, folder: Path) -> EngineReader:
        """One thread; proven by its golden calls."""
        bundle = open_bundle(folder)
        rules = EngineRules(providers=("cpu",), threads=1)
        pool = stack.enter_context(engine_pool(bundle, rules))
        turn = pool.lease("evict").engine
        rungs = DecoderRungs(lambda failed: pool.lease("decoder", failed))
        model = rungs.model(bundle.manifest, pool.rows, pool.lane, turn)
        return cls(bundle, model, adapters_of(bundle))

    def use(self, name: str | None) -> None:
        """Another adapter, and an empty cache: what a session does."""
        self.model.arena.reset()
        self.model.use(self.adapters.of(name))

    def logits(self, row: Row) -> Float:
        """See `Reader`."""
        self.model.arena.reset()
        found, read = [], 0
        for at in row.labelled:
            found.append(self.model.append(row.embeds[read : at + 1]).copy())
            read = at + 1
        return np.stack(found)

    def greedy(self, embeds: Float, count: int) -> tuple[list[int], Float]:
        """See `Reader`."""
        self.model.arena.reset()
        logits, ids, all_logits = self.model.append(embeds).copy(), [], []
        for _ in range(count):
            all_logits.append(logits)
            ids.append(int(logits.argmax()))
            logits = self.model.step(ids[-1]).copy()
        return ids, np.stack(all_logits)


def graph_of(bundle: Bundle) -> Graph:
    """The decoder's graph of a bundle, with its schemes."""
    variant = bundle.variant("decoder")
    assert variant.scheme is not None, "a decoder in float32 has no stored codes"
    rules = exceptions_from_json(variant.scheme.get("except"))
    return Graph("decoder", variant.id, bundle.path(variant.file),
                 scheme_from_json(variant.scheme), exceptions=rules)  # fmt: skip


def dequantized(checkpoint: Checkpoint, bundle: Bundle) -> Any:
    """The decoder in PyTorch over what is left of its weights, by our own numerics."""
    left = copy.deepcopy(checkpoint.decoder)
    left_of_weights(graph_of(bundle), checkpoint.decoder, left)
    return left


def trained_model(checkpoint: Checkpoint, adapter: Path, shape: Any) -> LoraModel:
    """The very model that was trained: its base as it was kept then, its adapter unmerged."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    model = LoraModel(checkpoint, shape, 0, "cpu")
    state = load_file(adapter / "adapter_model.safetensors")
    done: Any = set_peft_model_state_dict(model.peft, state)
    assert not done.unexpected_keys, done.unexpected_keys
    return model


def base_differences(model: LoraModel, checkpoint: Checkpoint, bundle: Bundle) -> tuple[int, int]:
    """(weights that differ in a bit, of how many): NF4 while training against a bundle's file.

    Left is what bitsandbytes itself dequantizes; right our reading of the codes and scales in the
    bundle's own file.
    """
    from bitsandbytes.functional import dequantize_4bit

    from edgestream.export.decoder_plan import decoder_schemes
    from edgestream.export.stored_tensors import StoredTensors
    from edgestream.quant.stored import Stored, restored_matrix

    graph, differing, count = graph_of(bundle), 0, 0
    schemes = decoder_schemes(checkpoint.decoder, graph.scheme, graph.exceptions)
    tensors, own = StoredTensors(graph.path), dict(checkpoint.decoder.named_parameters())
    for weight in weights_of(checkpoint.decoder):
        scheme = schemes[weight.parameters[0]]
        if scheme.is_exact:
            continue
        heights = [own[name].shape[0] for name in weight.parameters]
        size = (sum(heights), own[weight.parameters[0]].shape[1])
        stored = restored_matrix(Stored(*tensors.matrix_rows(weight, scheme)), scheme, size)
        at = 0
        for name, height in zip(weight.parameters, heights, strict=True):
            layer = model.decoder.get_submodule(name.removesuffix(".weight")).base_layer
            kept = dequantize_4bit(layer.weight.data, layer.weight.quant_state).numpy()
            differing += int(
                (kept.view(np.uint32) != stored[at : at + height].view(np.uint32)).sum()
            )
            at, count = at + height, count + kept.size
    return differing, count


def agreement(expected: Sequence[Float], found: Sequence[Float]) -> Mapping[str, float]:
    """Cosine of logits (mean, least) and share of the same best token, over all positions."""
    left, right = np.concatenate(expected), np.concatenate(found)
    cosine = np.sum(left * right, -1) / (
        np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    )
    same = left.argmax(-1) == right.argmax(-1)
    return {"positions": len(left), "cosine": float(cosine.mean()),
            "least cosine": float(cosine.min()), "same token": float(same.mean())}  # fmt: skip
