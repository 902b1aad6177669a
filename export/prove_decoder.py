"""The decoder's proof: every matrix in the file, its logits, and its words."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..calibration.decoder_calls import (
    Cache,
    Stretch,
    decoder_inputs,
    empty_cache,
    next_logits,
)
from ..calibration.hessians import position_ids
from ..calibration.parity import (
    Check,
    agreement_checks,
    float_check,
    gain_check,
    logit_checks,
    snr_check,
    stored_count_check,
)
from ..models.family import Checkpoint
from ..models.text_decoder import Decoder
from ..quant.schemes import Scheme
from ..quant.stored import (
    Stored,
    differing,
    gain_db,
    quantized_matrix,
    restored_matrix,
    rows_of,
)
from ..runtime.engine import Engine
from ..runtime.golden import GoldenCall, Tolerance
from ..runtime.values import Float32
from .decoder_onnx import DecoderWeight, weights_of
from .decoder_plan import decoder_schemes
from .embeddings import StoredEmbeddings
from .graphs import Graph
from .proof_data import ANSWER_TOKENS, ANSWERS, ProofData
from .prove_cache import cache_checks
from .stored_tensors import StoredTensors

# int4 graphs round their activations; the same file on another processor differs in the 4th digit.
CLOSE = Tolerance(min_cosine=0.99)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What full precision says to one prompt.

    Attributes:
        prompt: what it was given.
        tokens: greedily decoded ids.
        log_probabilities: of each of them.
    """

    prompt: Stretch
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]


def prove_decoder(
    checkpoint: Checkpoint, graph: Graph, engine: Engine, data: ProofData
) -> tuple[list[Check], list[GoldenCall]]:
    """All checks of the decoder, and calls for the golden file.

    Cost: the decoder once more in memory; most time goes into PyTorch's side.
    """
    decoder = checkpoint.decoder
    checks: list[Check] = []
    reference = decoder
    if not graph.is_float:
        reference = copy.deepcopy(decoder)
        checks += left_of_weights(graph, decoder, reference)
    found = np.stack(
        [
            next_logits(engine, prefix, empty_cache(engine, len(prefix)))[0]
            for prefix in data.prefixes
        ]
    )
    expected = torch_logits(reference, data.prefixes)
    del reference
    has_float_cache = graph.cache_type() == "float32"
    if has_float_cache and not graph.rounds_activations:
        checks.append(float_check("decoder", "logits", expected, found))
    else:
        checks += logit_checks(expected, found)
    if not has_float_cache:
        checks += cache_checks(checkpoint, graph, engine, data.prompts)
    checks += _agreement(checkpoint, graph, engine, data)
    checks.append(StoredEmbeddings(checkpoint).check())
    return checks, golden_calls(graph, engine, data)


def _untie_(decoder: Decoder) -> None:
    """Give the head weights of its own: it is quantized, the table that embeds tokens is not."""
    head = decoder.lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().clone())


def left_of_weights(graph: Graph, decoder: Decoder, reference: Decoder) -> list[Check]:
    """Stored codes, scales and SNR of every matrix; leaves what is left of it in `reference`."""
    _untie_(reference)
    schemes = decoder_schemes(decoder, graph.scheme, graph.exceptions)
    ours = dict(decoder.named_parameters(remove_duplicate=False))
    left = dict(reference.named_parameters(remove_duplicate=False))
    checks: list[Check] = []
    tensors = StoredTensors(graph.path)
    for weight in weights_of(decoder):
        scheme = schemes[weight.parameters[0]]
        if scheme.is_exact:
            continue
        stored = Stored(*tensors.matrix_rows(weight, scheme))
        originals = {name: ours[name].detach().numpy() for name in weight.parameters}
        for name, restored in _proven(graph, weight, scheme, stored, originals, checks):
            # The head of a tied model is quantized; its embeddings are kept beside the graph.
            target = "lm_head.weight" if weight.name.startswith("lm_head") else name
            with torch.no_grad():
                left[target].copy_(torch.from_numpy(restored))
    return checks


def _proven(
    graph: Graph,
    weight: DecoderWeight,
    scheme: Scheme,
    stored: Stored,
    originals: Mapping[str, Float32],
    checks: list[Check],
) -> Iterator[tuple[str, Float32]]:
    """Check the matrix of each parameter that is packed into a weight, and give what is left."""
    hessian = None
    if scheme.method != "nearest":
        assert graph.hessians is not None, "a data-aware scheme comes with its calibration"
        hessian = graph.hessians.of(weight.parameters[0])
    rows, first, wrong = sum(map(len, originals.values())), 0, 0
    for name, original in originals.items():
        part = rows_of(stored, first, first + len(original), rows)
        first += len(original)
        wrong += differing(part, original, scheme, hessian, name)
        # Codes that are fitted are followed, not made again; all others are ours, not the file's.
        kept = part if hessian is not None else quantized_matrix(original, scheme, name=name)
        restored = restored_matrix(kept, scheme, (original.shape[0], original.shape[1]))
        checks.append(snr_check("decoder", name, original, restored, scheme.floor_db or 0.0))
        if hessian is not None:
            gain = gain_db(original, restored, scheme, hessian)
            checks.append(gain_check("decoder", name, gain))
        yield name, restored
    checks.append(stored_count_check("decoder", weight.name, wrong))


def torch_logits(decoder: Decoder, prefixes: Sequence[Stretch]) -> Float32:
    """(prefixes, vocabulary): prefixes of one length go through together."""
    logits: dict[int, NDArray[np.float32]] = {}
    for length in sorted({len(prefix) for prefix in prefixes}):
        chosen = [index for index, prefix in enumerate(prefixes) if len(prefix) == length]
        batch = torch.from_numpy(np.stack([prefixes[index].embeds for index in chosen]))
        places = position_ids([prefixes[index] for index in chosen])
        with torch.inference_mode():
            out = decoder(inputs_embeds=batch, position_ids=places, logits_to_keep=1)
        logits.update(zip(chosen, out.logits[:, 0].numpy(), strict=True))
    return np.stack([logits[index] for index in range(len(prefixes))])


def _agreement(
    checkpoint: Checkpoint, graph: Graph, engine: Engine, data: ProofData
) -> tuple[Check, ...]:
    # The engine reads the table as the bundle keeps it, full precision reads its own.
    decoder, table = checkpoint.decoder, StoredEmbeddings(checkpoint)
    same: list[bool] = []
    matched: list[float] = []
    losses: dict[str, list[float]] = {"reference": [], "quantized": []}
    for prompt in data.prompts[:ANSWERS]:
        answer = _answer(decoder, prompt)
        is_same, log_probabilities = _teacher_forced(engine, answer, table)
        same += is_same
        losses["reference"] += [-one for one in answer.log_probabilities]
        losses["quantized"] += [-one for one in log_probabilities]
        matched.append(_greedy_match(engine, answer, table))
    loss = {name: float(np.mean(values)) for name, values in losses.items()}
    text_loss = _text_loss(decoder, data.texts) if has_untouched_gains(decoder) else None
    vocabulary = int(decoder.config.vocab_size)
    return agreement_checks(
        graph.scheme.weights, same, float(np.mean(matched)), loss, text_loss, vocabulary
    )


def _answer(decoder: Decoder, prompt: Stretch) -> Answer:
    """What full precision says, greedily, ANSWER_TOKENS long whatever it says."""
    tokens: list[int] = []
    log_probabilities: list[float] = []
    read, past = prompt, None
    embed = decoder.get_input_embeddings()
    with torch.inference_mode():
        for step in range(ANSWER_TOKENS):
            out = decoder(
                inputs_embeds=torch.from_numpy(read.embeds[None]),
                position_ids=position_ids([read]),
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            spread = torch.log_softmax(out.logits[0, -1].float(), -1)
            token = int(spread.argmax())
            tokens.append(token)
            log_probabilities.append(float(spread[token]))
            read = prompt.after(embed(torch.tensor([token])).numpy(), step)
            past = out.past_key_values
    return Answer(prompt, tuple(tokens), tuple(log_probabilities))


def _teacher_forced(
    engine: Engine, answer: Answer, table: StoredEmbeddings
) -> tuple[list[bool], list[float]]:
    """Whether the engine's most likely token is the answer's, and how likely it holds that one."""
    same, log_probabilities = [], []
    cache: Cache = empty_cache(engine, len(answer.prompt) + len(answer.tokens))
    logits, cache = next_logits(engine, answer.prompt, cache)
    for step, token in enumerate(answer.tokens):
        same.append(int(logits.argmax()) == token)
        shifted = logits.astype(np.float64) - logits.max()
        log_probabilities.append(float(shifted[token] - np.log(np.exp(shifted).sum())))
        read = answer.prompt.after(table.rows([token]), step)
        logits, cache = next_logits(engine, read, cache)
    return same, log_probabilities


def _greedy_match(engine: Engine, answer: Answer, table: StoredEmbeddings) -> float:
    """Share of the answer that the engine says by itself before the first other token."""
    cache: Cache = empty_cache(engine, len(answer.prompt) + len(answer.tokens))
    logits, cache = next_logits(engine, answer.prompt, cache)
    for said, token in enumerate(answer.tokens):
        if int(logits.argmax()) != token:
            return said / len(answer.tokens)
        read = answer.prompt.after(table.rows([token]), said)
        logits, cache = next_logits(engine, read, cache)
    return 1.0


def has_untouched_gains(decoder: Decoder) -> bool:
    """Whether every gain of its norms is exactly 1, as an initialisation leaves them.

    A model that was trained on answers alone may still guess blindly at the words of a question.
    """
    gains = [one for name, one in decoder.named_parameters() if one.ndim == 1 and "norm" in name]
    return all(bool((gain == 1).all()) for gain in gains)


def _text_loss(decoder: Decoder, texts: Sequence[tuple[int, ...]]) -> float:
    """Nats per token of the calibration texts."""
    losses: list[float] = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([text])
            spread = torch.log_softmax(decoder(input_ids=ids).logits[0, :-1].float(), -1)
            losses += (-spread.gather(1, ids[0, 1:, None])[:, 0]).tolist()
    return float(np.mean(losses)) if losses else float("inf")


def golden_calls(graph: Graph, engine: Engine, data: ProofData) -> list[GoldenCall]:
    """One prefill, and one step on the cache it leaves."""
    prefix = min(data.prefixes, key=len)
    before, last = prefix.part(None, -1), prefix.part(-1, None)
    first = decoder_inputs(before, empty_cache(engine, len(prefix)))
    _, cache = next_logits(engine, before, empty_cache(engine, len(prefix)))
    second = decoder_inputs(last, cache)
    calls = ((f"prefill {len(prefix) - 1}", first), ("one more position", second))
    return [
        GoldenCall(
            graph.role,
            graph.variant,
            name,
            inputs,
            {"logits": engine.run(inputs)["logits"]},
            {"logits": CLOSE},
        )
        for name, inputs in calls
    ]
