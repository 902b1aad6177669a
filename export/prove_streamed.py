"""The proof of a decoder that does not fit the memory: one pass over its layers checks all of it.

Layer by layer, every stored matrix is held against what the scheme makes of the original, and two
lots of sequences go on: answers and texts through full precision, prefixes through what is left of
the weights. Full precision would need a pass for each token that it says by itself, so it reads
what the *engine* said. Up to the first token that it would not have said these are its own words
too, so that the greedy match is the same figure; teacher-forced agreement is measured along the
engine's answers, where prove_decoder.py measures it along those of full precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from ..calibration.decoder_calls import Cache, Stretch, empty_cache, next_logits
from ..calibration.parity import (
    Check,
    agreement_checks,
    float_check,
    logit_checks,
    noise_check,
    stored_count_check,
)
from ..models.family import Checkpoint
from ..quant.numerics import SignalToNoise
from ..runtime.engine import Engine
from ..runtime.golden import GoldenCall
from ..runtime.values import Float32
from .decoder_onnx import DecoderWeight, decoder_weights
from .decoder_plan import decoder_schemes
from .embeddings import StoredEmbeddings
from .graphs import Graph
from .kept_rows import kept_rows
from .proof_data import ANSWER_TOKENS, ANSWERS, ProofData
from .prove_decoder import golden_calls
from .stored_tensors import StoredTensors
from .streamed_decoder import Judged, Sequences, head_portions, layer_tensors

PREFIXES = 32
"""Prefixes that go through; each costs more here than where the model is in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What the engine answers to one prompt, greedily.

    Attributes:
        prompt: what it read.
        tokens: ids.
        log_probabilities: of each of them.
    """

    prompt: Stretch
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]


def prove_streamed(
    checkpoint: Checkpoint, graph: Graph, engine: Engine, data: ProofData
) -> tuple[list[Check], list[GoldenCall]]:
    """All checks of the decoder, and calls for the golden file.

    Cost: one layer of the decoder twice in float32; a pass of some 3000 tokens in PyTorch.
    """
    stored, prefixes = StoredEmbeddings(checkpoint), data.prefixes[:PREFIXES]
    said = [said_by(engine, prompt, stored) for prompt in data.prompts[:ANSWERS]]
    found = [next_logits(engine, one, empty_cache(engine, len(one)))[0] for one in prefixes]
    passed = _Pass(checkpoint, graph, said, prefixes, data.texts)
    passed.through_layers()
    expected, judged = passed.through_head()
    checks = passed.checks
    if graph.scheme.weights == "float32":
        checks.append(float_check("decoder", "logits", expected, np.stack(found)))
    else:
        checks += logit_checks(expected, np.stack(found))
    text_loss = passed.text_loss(judged) if passed.has_untouched_gains else None
    checks += _agreement(graph, said, judged, text_loss, stored.shape[0])
    checks.append(stored.check())
    return checks, golden_calls(graph, engine, data)


def said_by(engine: Engine, prompt: Stretch, table: StoredEmbeddings) -> Said:
    """What an engine answers to a prompt, greedily, ANSWER_TOKENS long whatever it says."""
    tokens: list[int] = []
    log_probabilities: list[float] = []
    read: Stretch = prompt
    cache: Cache = empty_cache(engine, len(prompt) + ANSWER_TOKENS)
    for step in range(ANSWER_TOKENS):
        logits, cache = next_logits(engine, read, cache)
        shifted = logits.astype(np.float64) - logits.max()
        token = int(logits.argmax())
        tokens.append(token)
        log_probabilities.append(float(shifted[token] - np.log(np.exp(shifted).sum())))
        read = prompt.after(table.rows([token]), step)
    return Said(prompt, tuple(tokens), tuple(log_probabilities))


class _Pass:
    """All layers, one after the other, then the head.

    Attributes:
        checks: of every matrix.
        has_untouched_gains: every gain of the norms is exactly 1, as an initialisation leaves it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        graph: Graph,
        said: list[Said],
        prefixes: tuple[Stretch, ...],
        texts: tuple[tuple[int, ...], ...],
    ) -> None:
        self._weights = checkpoint.decoder_weights()
        self._schemes = decoder_schemes(checkpoint.decoder, graph.scheme, graph.exceptions)
        shape, decoder = self._weights.shape, checkpoint.decoder
        self._stored, self._prefixes = StoredTensors(graph.path), len(prefixes)
        self._matrices = decoder_weights(shape.layers, is_tied=shape.is_tied)
        self.checks: list[Check] = []
        self.has_untouched_gains = True
        # What is read, and the tokens that follow at its end.
        heard = [_heard(one, checkpoint.token_rows(one.tokens[:-1])) for one in said]
        read = [Stretch(checkpoint.token_rows(text[:-1])) for text in texts]
        self._told = [one.tokens for one in said] + [text[1:] for text in texts]
        self._n_said = sum(len(one.tokens) for one in said)
        self._exact = Sequences(decoder, shape, [*heard, *read])
        self._left = Sequences(decoder, shape, prefixes)

    def through_layers(self) -> None:
        """Bring everything to the end of the last layer."""
        for layer in range(self._weights.shape.layers):
            place = f"model.layers.{layer}."
            exact = layer_tensors(self._weights, layer)
            left = dict(exact)
            for matrix in self._matrices[4 * layer : 4 * layer + 4]:
                portions: dict[str, list[Float32]] = {}
                for name, _, near in self._checked(matrix):
                    portions.setdefault(name.removeprefix(place), []).append(near)
                left |= {name: torch.from_numpy(np.concatenate(p)) for name, p in portions.items()}
            self._exact.through_layer(layer, exact)
            self._left.through_layer(layer, left)
            self.has_untouched_gains &= _are_ones(exact)

    def through_head(self) -> tuple[Float32, Judged]:
        """Logits after the prefixes over what is left, and what full precision holds of the rest.

        Returns:
            (prefixes, vocabulary) float32; the tokens of the answers, then those of the texts.
        """
        gain = torch.from_numpy(self._weights.tensor("model.norm.weight"))
        self.has_untouched_gains &= bool((gain == 1).all())
        states = torch.cat(self._exact.normed(gain, [len(one) for one in self._told]))
        judged = Judged(states, torch.tensor([token for one in self._told for token in one]))
        for rows, head in head_portions(self._weights):
            judged.see(rows, head)
        left = torch.cat(self._left.normed(gain, [1] * self._prefixes))
        logits = np.empty((self._prefixes, self._weights.shape.vocabulary), np.float32)
        for _, rows, near in self._checked(self._matrices[-1]):
            logits[:, rows] = (left @ torch.from_numpy(near).T).numpy()
        return logits, judged

    def text_loss(self, judged: Judged) -> float:
        """Nats per token of the calibration texts, in full precision."""
        losses = [-one for one in judged.log_probabilities[self._n_said :]]
        return float(np.mean(losses)) if losses else float("inf")

    def _checked(self, matrix: DecoderWeight) -> Iterator[tuple[str, slice, Float32]]:
        """Parameters of one matrix as they are kept, some rows at a time.

        What differs in the file, and what was lost of each parameter, is noted as checks.
        """
        sizes, differing = self._weights.shape.parameters(), 0
        scheme = self._schemes[matrix.parameters[0]]
        heights = accumulate((sizes[name][0] for name in matrix.parameters), initial=0)
        for name, (first, _) in zip(matrix.parameters, pairwise(heights), strict=True):
            noise = SignalToNoise()
            for rows in kept_rows(self._weights, name, scheme):
                here = slice(first + rows.rows.start, first + rows.rows.stop)
                stored = self._stored.matrix_rows(matrix, scheme, here)
                differing += sum(
                    int((left != right).sum())
                    for left, right in zip(stored, rows.stored, strict=True)
                )
                noise.add(rows.original, rows.kept)
                yield name, rows.rows, rows.kept
            if scheme.floor_db is not None:
                self.checks.append(noise_check("decoder", name, noise.db, scheme.floor_db))
        self.checks.append(stored_count_check("decoder", matrix.name, differing))


def _heard(said: Said, rows: Float32) -> Stretch:
    """A prompt, and the rows of the answer's tokens after it."""
    parts = [said.prompt, *(said.prompt.after(row[None], at) for at, row in enumerate(rows))]
    embeds = np.concatenate([part.embeds for part in parts])
    positions = [part.positions for part in parts if part.positions is not None]
    return Stretch(embeds, np.concatenate(positions, axis=1) if positions else None)


def _are_ones(layer: dict[str, Tensor]) -> bool:
    return all(
        bool((one == 1).all()) for name, one in layer.items() if name.endswith("norm.weight")
    )


def _agreement(
    graph: Graph, said: list[Said], judged: Judged, text_loss: float | None, vocabulary: int
) -> tuple[Check, ...]:
    tokens = [token for one in said for token in one.tokens]
    same = [one == token for one, token in zip(judged.most_likely, tokens, strict=False)]
    matched = []
    for number, one in enumerate(said):
        before = sum(len(other.tokens) for other in said[:number])
        own = [*same[before : before + len(one.tokens)], False]
        matched.append(own.index(False) / len(one.tokens))
    exact = judged.log_probabilities[: len(tokens)]
    quantized = [value for one in said for value in one.log_probabilities]
    loss = {"reference": -float(np.mean(exact)), "quantized": -float(np.mean(quantized))}
    return agreement_checks(
        graph.scheme.weights, same, float(np.mean(matched)), loss, text_loss, vocabulary
    )
