"""The gate `token`: every branch from scripted logits, and phases that agree with decisions."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgestream.runtime.errors import EngineNotFinite, SettingsInvalid, StreamOutOfOrder
from edgestream.runtime.phases import PhaseRules
from edgestream.runtime.token_gate import SPEAK, TokenGate, wish

SILENT, OTHER, VOCABULARY = 5, 9, 12
RULES = [None, PhaseRules(0.9), PhaseRules(0.2, close_below=0.0), PhaseRules(1.0, hold_s=1.0)]


def logits(**probabilities: float) -> np.ndarray:
    """Logits of these probabilities (`p5=0.7`); what is left is spread over the other tokens."""
    given = {int(name[1:]): value for name, value in probabilities.items()}
    rest = (1 - sum(given.values())) / (VOCABULARY - len(given))
    spread = np.array([given.get(token, rest) for token in range(VOCABULARY)])
    return np.log(np.maximum(spread, 1e-30)).astype(np.float32)


def speaks(values: np.ndarray, threshold: float = 0.725, ids: tuple[int, ...] = (SILENT,)) -> bool:
    return wish(values, ids, threshold).speaks


def test_silence_above_the_threshold_is_silence():
    assert not speaks(logits(p5=0.8))
    assert wish(logits(p5=0.8), (SILENT,), 0.725).silent == pytest.approx(0.8, abs=1e-6)


def test_silence_under_the_threshold_speaks_though_it_is_the_best_token():
    assert speaks(logits(p5=0.7)) and logits(p5=0.7).argmax() == SILENT


def test_silence_exactly_at_the_threshold_is_silence():
    two = np.full(VOCABULARY, -np.inf, np.float32)
    two[[SILENT, OTHER]] = 0.0  # one half each
    assert wish(two, (SILENT,), 0.5).silent == 0.5
    assert not speaks(two, 0.5)
    assert speaks(two, np.nextafter(0.5, 1.0))


def test_another_token_that_is_the_best_speaks_whatever_the_threshold():
    for threshold in (0.0, 0.3, 1.0):
        assert speaks(logits(p5=0.4, p9=0.5), threshold)


def test_of_equal_tokens_the_lowest_id_is_the_best():
    two = np.full(VOCABULARY, -np.inf, np.float32)
    two[[SILENT, OTHER]] = 0.0
    assert not speaks(two, 0.0, (SILENT,)) and speaks(two, 0.0, (OTHER,))


def test_threshold_zero_is_the_best_token_and_threshold_one_is_certainty():
    assert not speaks(logits(p5=0.1), 0.0)
    assert speaks(logits(p5=0.999), 1.0)
    sure = np.full(VOCABULARY, -200.0, np.float32)
    sure[SILENT] = 200.0
    assert not speaks(sure, 1.0)


def test_silent_tokens_count_together():
    both = logits(p5=0.4, p6=0.35, p9=0.2)
    assert wish(both, (5, 6), 0.7).silent == pytest.approx(0.75, abs=1e-6)
    assert not speaks(both, 0.7, (5, 6)) and speaks(both, 0.8, (6, 5))
    assert not speaks(logits(p5=0.3, p6=0.3, p9=0.4), 0.0, (5, 6))
    assert speaks(logits(p5=0.3, p9=0.4), 0.0, (5, 5)), "named twice, it counts once"


def test_a_vocabulary_of_silence_has_nothing_to_say():
    assert not speaks(np.zeros(1, np.float32), 1.0, (0,))
    assert not speaks(np.linspace(-3, 3, 7).astype(np.float32), 1.0, tuple(range(7)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad):
    broken = logits(p5=0.8)
    broken[3] = bad
    with pytest.raises(EngineNotFinite, match="expected finite"):
        TokenGate((SILENT,)).step(broken, 0.0)
    with pytest.raises(EngineNotFinite):
        speaks(np.full(4, -np.inf, np.float32), ids=(0,))


def test_settings_that_make_no_sense_are_refused():
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingsInvalid, match="threshold of"):
            TokenGate((SILENT,), threshold=threshold)
    with pytest.raises(SettingsInvalid, match="needs a model with a silent token"):
        TokenGate(())


GRID = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=VOCABULARY, max_size=VOCABULARY)


@pytest.mark.medium
@given(GRID, st.sampled_from([0.0, 0.2, 0.5, 0.725, 1.0]), st.integers(0, VOCABULARY - 1))
def test_one_silent_token_decides_as_the_published_loop(values, threshold, silent):
    array = np.array(values, np.float32)
    spread = np.exp(array.astype(np.float64) - array.max())
    spread /= spread.sum()
    if abs(spread[silent] - threshold) < 1e-6:
        return
    if spread[silent] < threshold:
        spread[silent] = 0
    assert speaks(array, threshold, (silent,)) == (int(spread.argmax()) != silent)


STREAM = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 3.0]), st.floats(0.01, 0.99) | st.none()), max_size=30
)


def played(gate: TokenGate, stream) -> list:
    """Decisions of a stream of (seconds since the last, P(silent) or None for a tick)."""
    time_s, decisions = 0.0, []
    for gap_s, silent in stream:
        time_s += gap_s
        decisions.append(
            gate.idle(time_s) if silent is None else gate.step(logits(p5=silent), time_s)
        )
    return decisions


def said(decisions) -> list:
    return [
        (one.time_s, dict(one.phases), dict(one.scores), [e.record() for e in one.opened],
         [e.record() for e in one.closed])
        for one in decisions
    ]  # fmt: skip


@pytest.mark.medium
@given(STREAM, st.sampled_from(RULES))
def test_an_event_opens_at_each_first_speaking_frame_of_a_stretch(stream, rules):
    decisions = played(TokenGate((SILENT,), rules=rules), stream)
    is_open = False
    for (_, silent), decision in zip(stream, decisions, strict=True):
        wants = silent is not None and speaks(logits(p5=silent))
        assert bool(decision.opened) == (wants and not is_open)
        if silent is not None:
            assert wants == (decision.scores[SPEAK] >= (rules or PhaseRules()).open_above)
        if decision.closed:
            assert not wants
        is_open = decision.phases[SPEAK] in ("opened", "ongoing")
        assert is_open or not wants


@pytest.mark.medium
@given(STREAM)
def test_by_default_a_silent_frame_ends_the_stretch(stream):
    decisions = played(TokenGate((SILENT,)), stream)
    for (_, silent), decision in zip(stream, decisions, strict=True):
        if silent is not None and not speaks(logits(p5=silent)):
            assert decision.phases[SPEAK] in ("quiet", "closed")


@pytest.mark.medium
@given(STREAM, st.sampled_from(RULES))
def test_not_once_per_stretch_is_an_event_at_every_speaking_frame(stream, rules):
    gate = TokenGate((SILENT,), rules=rules, once_per_stretch=False)
    decisions = played(gate, stream)
    expected = [silent is not None and speaks(logits(p5=silent)) for _, silent in stream]
    assert [bool(one.opened) for one in decisions] == expected
    opened = [event for one in decisions for event in one.opened]
    closed = [event for one in decisions for event in one.closed]
    assert [event.event_id for event in opened] == [f"e{n + 1}" for n in range(len(opened))]
    # Each closes in a later decision, at its own frame; the last may still be open.
    assert [event.event_id for event in closed] == [e.event_id for e in opened][: len(closed)]
    assert len(opened) - len(closed) <= 1
    assert all(event.closed_s == event.opened_s for event in closed)
    for one in decisions:
        assert (one.phases[SPEAK] == "opened") or not one.opened
        assert one.phases[SPEAK] in ("closed", "opened") or not one.closed


@pytest.mark.medium
@given(STREAM, STREAM, st.booleans())
@example([(0.1, None), (0.1, None), (3.0, None), (0.1, 0.5)], [(0.0, 0.5)], False)
def test_a_snapshot_goes_on_and_reset_is_fresh(before, after, once):
    first, second, fresh = (TokenGate((SILENT,), once_per_stretch=once) for _ in range(3))
    # Not `sum`: since Python 3.12 it rounds once, `played` at every step.
    ahead_s = reduce(add, (gap_s for gap_s, _ in before), 0.0)
    moved = [(ahead_s, None), *after]
    played(first, before)
    second.restore(first.snapshot())
    assert said(played(first, moved)) == said(played(second, moved))
    second.reset()
    assert said(played(second, after)) == said(played(fresh, after))


def test_a_tick_no_later_than_the_last_frame_closes_nothing():
    gate = TokenGate((SILENT,), once_per_stretch=False)
    gate.step(logits(p5=0.1), 2.0)
    assert not gate.idle(2.0).closed and not gate.idle(1.0).closed
    (closed,) = gate.idle(2.1).closed
    assert (closed.event_id, closed.opened_s, closed.closed_s) == ("e1", 2.0, 2.0)
    assert not gate.idle(2.2).closed


@pytest.mark.parametrize("once", [True, False])
def test_a_frame_that_goes_back_is_refused_and_changes_nothing(once):
    gate = TokenGate((SILENT,), once_per_stretch=once)
    gate.step(logits(p5=0.1), 2.0)
    before = gate.snapshot()
    with pytest.raises(StreamOutOfOrder):
        gate.step(logits(p5=0.1), 1.0)
    assert gate.snapshot() == before


def test_the_score_says_how_much_it_wants_to_speak():
    gate = TokenGate((SILENT,))
    assert gate.step(logits(p5=0.1), 0.0).scores[SPEAK] == pytest.approx(0.9, abs=1e-6)
    # Silence is the best token but not sure enough: the score says what the decision says.
    assert gate.step(logits(p5=0.6), 1.0).scores[SPEAK] == 0.5
    loose = TokenGate((SILENT,), threshold=0.1)
    assert loose.step(logits(p5=0.3), 0.0).scores[SPEAK] < 0.4
