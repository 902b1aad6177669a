"""The LIVE loss against sums done by hand, and the same whole whatever the portions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from edgestream.training.live_loss import (
    SILENT,
    SPEAK,
    STANDBY,
    WORD,
    LiveLoss,
    label_counts,
)


def logits_with(chances: list[float], labels: list[int], vocabulary: int = 5) -> torch.Tensor:
    """Each label has its chance, the rest share what is left."""
    rows = []
    for chance, label in zip(chances, labels, strict=True):
        row = torch.full((vocabulary,), (1 - chance) / (vocabulary - 1))
        row[label] = chance
        rows.append(row.log())
    return torch.stack(rows)


def both(loss: LiveLoss, chances: list[float], kinds: list[int]) -> tuple[float, float]:
    labels = [at % 5 for at in range(len(kinds))]
    states = torch.tensor(kinds)
    terms = loss.terms(
        logits_with(chances, labels), torch.tensor(labels), states, label_counts(states)
    )
    return float(terms.stream), float(terms.words)


def test_plain_is_the_mean_over_all_labels_with_the_weight_of_the_stream():
    chances, kinds = [0.5, 0.9, 0.25, 0.8], [SILENT, SPEAK, WORD, WORD]
    stream, words = both(LiveLoss(stream_weight=2.0), chances, kinds)
    assert stream == pytest.approx(-2.0 * (math.log(0.5) + math.log(0.9)) / 4, rel=1e-5)
    assert words == pytest.approx(-(math.log(0.25) + math.log(0.8)) / 4, rel=1e-5)


def test_a_weight_of_one_is_the_cross_entropy_that_everyone_knows():
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 11), torch.randint(11, (30,))
    states = torch.randint(-1, 3, (30,))
    terms = LiveLoss().terms(logits, labels, states, label_counts(states))
    assert float(terms.stream + terms.words) == pytest.approx(
        float(cross_entropy(logits, labels)), rel=1e-5
    )


def test_focal_makes_the_states_equally_heavy_and_looks_at_what_is_not_known():
    # Three silent frames, one on standby, one that speaks, one word: N = 5, C = 3.
    chances = [0.9, 0.6, 0.9, 0.5, 0.2, 0.7]
    kinds = [SILENT, SILENT, SILENT, STANDBY, SPEAK, WORD]
    stream, words = both(LiveLoss(gamma=2.0), chances, kinds)
    alpha = {SILENT: 5 / (3 * 3), STANDBY: 5 / 3, SPEAK: 5 / 3}
    expected = sum(
        alpha[kind] * (1 - chance) ** 2 * -math.log(chance)
        for chance, kind in zip(chances[:5], kinds[:5], strict=True)
    )
    assert stream == pytest.approx(expected / 6, rel=1e-4)
    assert words == pytest.approx(-math.log(0.7) / 6, rel=1e-5)


def test_two_states_share_what_three_would():
    stream, _ = both(LiveLoss(gamma=0.0), [0.5, 0.5, 0.5, 0.5], [SILENT, SILENT, SILENT, SPEAK])
    # alpha is 4 / (2 · 3) and 4 / (2 · 1): gamma = 0 leaves the balance alone.
    assert stream == pytest.approx(math.log(2) * (3 * 4 / 6 + 2) / 4, rel=1e-5)


@pytest.mark.parametrize("gamma", [None, 2.0])
def test_portions_with_the_counts_of_the_whole_give_the_whole(gamma):
    torch.manual_seed(1)
    loss = LiveLoss(stream_weight=0.5, gamma=gamma)
    logits = torch.randn(40, 7, requires_grad=True)
    labels, states = torch.randint(7, (40,)), torch.randint(-1, 3, (40,))
    counts = label_counts(states)
    whole = loss.terms(logits, labels, states, counts)
    (gradient,) = torch.autograd.grad(whole.stream + whole.words, logits)
    parts = [
        loss.terms(logits[cut], labels[cut], states[cut], counts)
        for cut in (slice(0, 3), slice(3, 25), slice(25, 40))
    ]
    total = torch.stack([one.stream + one.words for one in parts]).sum()
    (same,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(same, gradient)


def test_a_portion_without_a_label_costs_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    terms = LiveLoss(gamma=2.0).terms(
        torch.zeros(0, 7, requires_grad=True), none, none, torch.tensor([3.0, 2.0, 0.0, 1.0])
    )
    assert terms.stream.item() == terms.words.item() == 0.0
    (terms.stream + terms.words).backward()
