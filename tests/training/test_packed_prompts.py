"""Packed rows read as each prompt alone; the law that all of stage 2 stands on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgestream.evaluation.world import WorldRules, render_clip
from edgestream.models.reference_layout import EMBEDS_ID
from edgestream.training.narrator_reading import logits_of, read, said
from edgestream.training.packed_prompts import UNLABELLED, Example, batch_of_rows, packed
from edgestream.training.reference_parts import parts_of
from edgestream.training.stream_examples import dialogue_before, told, with_silent

from .tiny import tiny_config


@pytest.fixture(scope="module")
def parts():
    return parts_of(3, tiny_config())


def frame_parts_of(config):
    """Tokens and states that depend on the frame alone."""

    def parts(pairs):
        made = [torch.Generator().manual_seed(frame + 1) for _, frame in pairs]
        dim = config.vision["hidden_size"]
        tokens = torch.stack([torch.randn(10, dim, generator=one) for one in made])
        states = torch.stack([torch.randn(config.gate_width, generator=one) for one in made])
        return tokens, states

    return parts


def examples_of(writer, seed=5):
    clip = render_clip(seed, 30, WorldRules(questions=14), pixels=False)
    rng = np.random.default_rng(seed)
    memory = with_silent(told(clip), 30, rng)
    examples = [writer.described(frame, "The scene changes.") for frame in (3, 14, 29)]
    for question in clip.questions:
        before = dialogue_before(clip.questions, question.frame, rng, most=2)
        examples.append(writer.asked(question, memory, before if question.frame % 2 else ()))
    return examples


@pytest.mark.medium
def test_packed_branches_read_as_prompts_alone(parts):
    config, writer = parts.model.config, parts.writer
    examples = examples_of(writer)
    together = packed(examples, config.tokens_per_frame)
    alone = [packed([one], config.tokens_per_frame) for one in examples]
    assert len(together.ids) < 0.8 * sum(len(row.ids) for row in alone)  # much is shared
    with torch.no_grad():
        given = frame_parts_of(config)
        batch = batch_of_rows([together])
        logits = logits_of(parts.model, batch, given)
        where = {int(at): number for number, at in enumerate(np.flatnonzero(
            batch.labels[0].numpy() != UNLABELLED))}  # fmt: skip
        for row, (_, tokens) in zip(alone, together.answers, strict=True):
            expected = logits_of(parts.model, batch_of_rows([row]), given)
            found = logits[[where[token] for token in tokens]]
            assert float((found - expected).abs().max()) < 1e-5


def test_a_row_says_what_is_to_be_learned(parts):
    example = Example((7, EMBEDS_ID, EMBEDS_ID, 8), (4,), (11, 12, 2), "x")
    row = packed([example, Example((7, EMBEDS_ID, EMBEDS_ID, 9), (4,), (2,), "y")], 2)
    assert row.ids == [7, 0, 0, 8, 11, 12, 9]
    assert row.labels == [UNLABELLED, UNLABELLED, UNLABELLED, 11, 12, 2, 2]
    assert row.depths == [0, 1, 2, 3, 4, 5, 3]
    assert row.places == [(1, 4, 0), (2, 4, 1)]
    assert row.answers == [("x", [3, 4, 5]), ("y", [6])]
    seen = row.mask()
    assert seen[6].tolist() == [True, True, True, False, False, False, True]


def test_a_batch_of_rows_of_any_length_is_each_row(parts):
    config, writer = parts.model.config, parts.writer
    rows = [packed([one], config.tokens_per_frame) for one in examples_of(writer)[:5]]
    given = frame_parts_of(config)
    with torch.no_grad():
        whole = read(parts.model, rows, given, "cpu")
        alone = [read(parts.model, [row], given, "cpu") for row in rows]
    counts = [sum(label != UNLABELLED for label in row.labels) for row in rows]
    mean = sum(float(one.loss) * n for one, n in zip(alone, counts, strict=True)) / sum(counts)
    assert float(whole.loss) == pytest.approx(mean, abs=1e-5)


@pytest.mark.medium
def test_what_a_teacher_says_first_weighs_as_much_as_is_said(parts):
    """The mean of the answers' divergences, token by token, by hand."""
    config, writer = parts.model.config, parts.writer
    teacher = parts_of(4, tiny_config()).model
    examples = examples_of(writer)
    rows = [packed(examples[:4], config.tokens_per_frame), packed(examples[4:], 10)]
    given, total, weighed = frame_parts_of(config), 0.0, 0.0
    with torch.no_grad():
        found = [
            float(read(parts.model, rows, given, "cpu", teacher, by).loss) for by in (1.0, 4.0)
        ]
        for by, expected in zip((1.0, 4.0), found, strict=True):
            total = weighed = 0.0
            for row in rows:
                batch = batch_of_rows([row])
                ours, theirs = (logits_of(one, batch, given).softmax(-1).double()
                                for one in (parts.model, teacher))  # fmt: skip
                apart = (theirs * (theirs / ours).log()).sum(-1)
                firsts = {tokens[0] for _, tokens in row.answers}
                labelled = [at for at, label in enumerate(row.labels) if label != UNLABELLED]
                for at, one in zip(labelled, apart.tolist(), strict=True):
                    weight = by if at in firsts else 1.0
                    total, weighed = total + weight * one, weighed + weight
            assert expected == pytest.approx(total / weighed, rel=1e-4)
    assert found[0] != pytest.approx(found[1], rel=1e-3)


def test_its_own_words_are_those_that_it_finds_most_likely(parts):
    config, writer = parts.model.config, parts.writer
    prompts = [writer.described(frame, "") for frame in (20, 21)]
    given = frame_parts_of(config)
    lines = said(parts.model, prompts, given, stop_id=2, device="cpu")
    for at, line in enumerate(lines):
        ids = prompts[at].ids
        for number, token in enumerate(line[:4]):
            row = packed(
                [Example((*ids, *line[:number]), prompts[at].frames, (0,), "")],
                config.tokens_per_frame,
            )
            with torch.no_grad():
                logits = logits_of(parts.model, batch_of_rows([row]), given)
            assert int(logits[0].argmax()) == token
