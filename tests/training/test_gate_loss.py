"""The loss of a gate: rare frames weigh more, sure ones less, and a teacher has its share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from edgestream.training.gate_loss import GateLoss

ROWS = st.lists(st.tuples(st.floats(-6, 6), st.booleans(), st.booleans()), min_size=1, max_size=12)


def tensors(rows):
    logits, speaks, learned = (torch.tensor([[float(part) for part in column]])
                               for column in zip(*rows, strict=True))  # fmt: skip
    return logits, speaks, learned


@pytest.mark.medium
@given(rows=ROWS, weight=st.floats(0.05, 0.95))
def test_weighted_is_the_librarys_cross_entropy_with_class_weights(rows, weight):
    """StreamMind's form: two classes, weighted, divided by the sum of the targets' weights."""
    logits, speaks, learned = tensors(rows)
    above, below = GateLoss(weight).sums(logits, speaks, learned)["speak"]
    targets = torch.where(learned > 0, speaks.long(), -100).flatten()
    if (targets < 0).all():
        assert above == below == 0
        return
    pair = torch.stack([torch.zeros_like(logits), logits], -1).flatten(0, 1)
    expected = cross_entropy(pair, targets, torch.tensor([1 - weight, weight]), ignore_index=-100)
    assert float(above / below) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.medium
@given(rows=ROWS, parts=st.integers(1, 3))
def test_parts_of_a_batch_sum_to_the_batch(rows, parts):
    whole = GateLoss(gamma=2.0).sums(*tensors(rows))["speak"]
    some = [rows[at::parts] for at in range(parts) if rows[at::parts]]
    summed = [GateLoss(gamma=2.0).sums(*tensors(part))["speak"] for part in some]
    for at in range(2):
        assert float(whole[at]) == pytest.approx(sum(float(one[at]) for one in summed), abs=1e-4)


@pytest.mark.medium
@given(logit=st.floats(-5, 5), speaks=st.booleans(), gamma=st.floats(0, 4))
def test_focal_counts_a_frame_by_how_unsure_it_is(logit, speaks, gamma):
    given_ = torch.tensor([[logit]]), torch.tensor([[float(speaks)]]), torch.ones(1, 1)
    plain, focal = (float(GateLoss(gamma=one).sums(*given_)["speak"][0]) for one in (None, gamma))
    right = torch.sigmoid(torch.tensor(logit if speaks else -logit))
    assert focal == pytest.approx(plain * float(1 - right) ** gamma, abs=1e-5)


def test_a_teacher_pulls_towards_its_own_word():
    """Labels say silence; the more the teacher is heard, the higher the best logit."""
    found = []
    for taught in (0.0, 0.5, 1.0):
        logit = torch.zeros(1, 1, requires_grad=True)
        sums = GateLoss(0.5, taught=taught).sums(
            logit, torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), 0.9)
        )
        torch.stack([above / below for above, below in sums.values()]).sum().backward()
        found.append(-float(logit.grad))
    assert found[0] < 0 < found[2] and found[0] < found[1] < found[2]


@pytest.mark.parametrize("shares", [{"speak_weight": 0.0}, {"speak_weight": 1.0}, {"taught": 1.5}])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="between 0 and 1"):
        GateLoss(**shares)
