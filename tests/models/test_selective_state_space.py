"""The selective state space: a scan is its steps, at any frame rate, and its past fades."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.models.selective_state_space import SelectiveStateSpace, scan_of


def block(width: int = 24, seed: int = 0) -> SelectiveStateSpace:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SelectiveStateSpace(width)


def stepped(one: SelectiveStateSpace, x, dt_s, state):
    rows = []
    for frame in range(x.shape[1]):
        y, *state = one.step(x[:, frame], dt_s[:, frame : frame + 1], *state)
        rows.append(y)
    return torch.stack(rows, 1), tuple(state)


@pytest.mark.medium
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 65), st.integers(1, 3))
def test_a_scan_is_its_steps(seed, frames, batch):
    random = torch.Generator().manual_seed(seed)
    one = block(seed=seed)
    x = 2 * torch.randn(batch, frames, 24, generator=random)
    dt_s = 3 * torch.rand(batch, frames, generator=random) ** 4
    state = tuple(torch.randn(part.shape, generator=random) for part in one.first_state(batch))
    with torch.no_grad():
        expected, last = stepped(one, x, dt_s, state)
        found, *after = one.scan(x, dt_s, *state)
    assert (found - expected).abs().max() <= 1e-5
    for ours, theirs in zip(after, last, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5


def test_a_scan_in_two_stretches_is_one():
    one, x, dt_s = block(), torch.randn(2, 20, 24), torch.rand(2, 20)
    with torch.no_grad():
        whole, *_ = one.scan(x, dt_s, *one.first_state(2))
        first, *state = one.scan(x[:, :7], dt_s[:, :7], *one.first_state(2))
        second, *_ = one.scan(x[:, 7:], dt_s[:, 7:], *state)
    assert (torch.cat([first, second], 1) - whole).abs().max() <= 1e-5


def test_the_gradients_are_those_of_the_steps():
    one, x, dt_s = block(), torch.randn(2, 9, 24), torch.rand(2, 9)
    grads = []
    for way in (stepped, lambda one, x, dt_s, state: one.scan(x, dt_s, *state)):
        one.zero_grad()
        way(one, x, dt_s, one.first_state(2))[0].square().sum().backward()
        grads.append(torch.cat([part.grad.flatten() for part in one.parameters()]))
    assert grads[0].abs().max() > 0
    assert (grads[0] - grads[1]).abs().max() <= 1e-4 * grads[0].abs().max()


def test_a_past_that_has_faded_leaves_no_infinity():
    kept = torch.zeros(1, 64, 3)
    found = scan_of(kept, torch.ones(1, 64, 3), torch.full((1, 3), 1e30))
    assert torch.equal(found, torch.ones(1, 64, 3))


@pytest.mark.parametrize("dt_s", [0.0, 0.25, 1e4])
def test_the_state_stays_between_what_was_and_what_is(dt_s):
    one = block()
    x = torch.randn(4, 24)
    conv, ssm = one.first_state(4)
    full = ssm + 5.0
    with torch.no_grad():
        *_, kept = one.step(x, torch.full((4, 1), dt_s), conv, full)
        *_, target = one.step(x, torch.full((4, 1), 1e9), conv, full)
    low, high = torch.minimum(full, target), torch.maximum(full, target)
    assert ((kept >= low - 1e-6) & (kept <= high + 1e-6)).all()
    if dt_s == 0:
        assert torch.equal(kept, full)


def test_two_short_gaps_are_one_long_one():
    """The state fades with seconds, not with frames."""
    one = block()
    with torch.no_grad():
        one.taps[:, :-1] = 0  # what is seen is the same at both steps
        x, (conv, ssm) = torch.randn(3, 24), one.first_state(3)
        ssm = torch.randn(ssm.shape)
        _, conv, half = one.step(x, torch.full((3, 1), 0.5), conv, ssm)
        *_, twice = one.step(x, torch.full((3, 1), 0.5), conv, half)
        *_, once = one.step(x, torch.full((3, 1), 1.0), conv, ssm)
    assert (twice - once).abs().max() <= 1e-5
