"""A prompt within its budget: what is left out, in which order, and what two prompts share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.models.live_layout import LivePrompt, live_layout
from edgestream.runtime.errors import PromptTooLong
from edgestream.runtime.prompt import MemoryEntry, PromptParts, prompt_embeds
from edgestream.runtime.prompt_layout import PromptLayout, Slot, Text
from edgestream.runtime.prompt_plan import Dropped, planned_prompt, shared_positions
from edgestream.runtime.recent import DialogueTurn

from ..small_tokenizer import SYSTEM, TEXT, trained_tokenizer

TOKENIZER = trained_tokenizer(TEXT)
LAYOUT = live_layout(LivePrompt(SYSTEM, "</s>", "<s>"), TOKENIZER)
HIDDEN = 3
WORDS = st.sampled_from(["What do you see?", "Who?", "A dog.", "Two people stand there.", ""])


def encode(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False).ids)


def rows(ids) -> np.ndarray:
    return np.array(ids, np.float32)[:, None] * np.ones((1, HIDDEN), np.float32)


def embeds(number: int, tokens: int = 4) -> np.ndarray:
    return np.full((tokens, HIDDEN), -1.0 - number, np.float32)


@st.composite
def parts(draw: st.DrawFn) -> PromptParts:
    frames, turns, entries = (draw(st.integers(0, 4)) for _ in range(3))
    return PromptParts(
        draw(st.sampled_from(["What do you see?", "Why?", None])),
        [(float(n), embeds(n, draw(st.integers(1, 6)))) for n in range(frames)],
        [DialogueTurn(float(n), draw(WORDS), draw(WORDS)) for n in range(turns)],
        [
            MemoryEntry(float(n), embeds(50 + n), score=draw(st.sampled_from([0.1, 0.2, 0.3])))
            for n in range(entries)
        ],
    )


def less(parts: PromptParts, dropped: Dropped) -> PromptParts:
    return PromptParts(
        parts.question,
        parts.frames[dropped.frames :],
        parts.dialogue[dropped.dialogue :],
        best_of(parts.memory, len(parts.memory) - dropped.memory),
    )


def best_of(memory: list[MemoryEntry], count: int) -> list[MemoryEntry]:
    """The best entries, of equal ones the newest, in the order of time."""
    best = sorted(memory, key=lambda entry: (entry.score, entry.time_s))[len(memory) - count :]
    return sorted(best, key=lambda entry: entry.time_s)


@pytest.mark.medium
@settings(deadline=None)
@given(parts(), st.integers(0, 250))
def test_a_plan_fits_and_leaves_out_the_oldest_in_the_stated_order(parts, budget):
    plan = planned(parts, budget)
    if plan is None:
        return
    assert plan.tokens == sum(segment.positions for segment in plan.segments) <= budget
    out = plan.dropped
    if out.memory:
        assert out.dialogue == len(parts.dialogue)
    if out.frames:
        assert out.memory == len(parts.memory) and out.dialogue == len(parts.dialogue)
    assert [id(one) for one in plan.shown.memory] == [id(one) for one in less(parts, out).memory]
    # What is left is written as if it had been all from the beginning.
    kept = planned_prompt(LAYOUT, encode, less(parts, out), 10**6)
    assert [one.key for one in kept.segments] == [one.key for one in plan.segments]
    # One part more would have been too much.
    for kind in ("frames", "memory", "dialogue"):
        if count := getattr(out, kind):
            fewer = {name: getattr(out, name) for name in ("dialogue", "memory", "frames")}
            fewer[kind] = count - 1
            more = planned_prompt(LAYOUT, encode, less(parts, Dropped(**fewer)), 10**6)
            assert more.tokens > budget
            break


@pytest.mark.medium
@settings(deadline=None)
@given(parts())
def test_a_budget_of_exactly_its_tokens_is_enough_and_one_less_is_not(parts):
    whole = planned_prompt(LAYOUT, encode, parts, 10**6)
    assert planned_prompt(LAYOUT, encode, parts, whole.tokens).dropped == Dropped()
    less = planned(parts, whole.tokens - 1)
    assert less is None or less.dropped != Dropped()


def planned(parts: PromptParts, budget: int):
    """The plan, or None where the question alone is too long."""
    try:
        return planned_prompt(LAYOUT, encode, parts, budget)
    except PromptTooLong:
        with pytest.raises(PromptTooLong):
            planned_prompt(LAYOUT, encode, PromptParts(parts.question), budget)
        return None


@pytest.mark.medium
@settings(deadline=None)
@given(st.lists(st.integers(1, 5), max_size=4), WORDS.filter(bool))
def test_where_nothing_is_left_out_it_is_the_same_prompt(lengths, question):
    frames = [embeds(number, tokens) for number, tokens in enumerate(lengths)]
    parts = PromptParts(question, [(0.5 * n, frame) for n, frame in enumerate(frames)])
    plan = planned_prompt(LAYOUT, encode, parts, 10**6)
    assert plan.dropped == Dropped()
    found = np.concatenate([segment.as_embeds(rows) for segment in plan.segments])
    expected = prompt_embeds(LAYOUT, encode, rows, frames, question)
    assert found.shape == (plan.tokens, HIDDEN) and (found == expected).all()


@pytest.mark.medium
@settings(deadline=None)
@given(parts(), st.data())
def test_two_prompts_share_exactly_the_beginning_that_is_equal(one, data):
    other = data.draw(parts())
    plans = [planned_prompt(LAYOUT, encode, each, 10**6) for each in (one, other)]
    shared = shared_positions(plans[0].segments, plans[1].segments)
    first, second = (
        np.concatenate([segment.as_embeds(rows) for segment in plan.segments]) for plan in plans
    )
    length = min(len(first), len(second))
    is_equal = (first[:length] == second[:length]).all(axis=1)
    longest = length if is_equal.all() else int(is_equal.argmin())
    assert shared <= longest
    # It may be less by the equal rows of embeds that differ elsewhere.
    assert is_equal[:shared].all() and longest - shared <= 6
    assert shared_positions(plans[0].segments, plans[0].segments) == plans[0].tokens


def test_only_what_follows_the_question_changes_with_it():
    frames = [(0.5 * n, embeds(n)) for n in range(3)]
    dialogue = [DialogueTurn(0.0, "Who?", "Two people.")]
    one, other = (
        planned_prompt(LAYOUT, encode, PromptParts(question, frames, dialogue), 500)
        for question in ("What now?", "Why?")
    )
    keys = [[segment.key for segment in plan.segments] for plan in (one, other)]
    assert keys[0][:-1] == keys[1][:-1] and keys[0][-1] != keys[1][-1]
    closing = len(encode("]\nUser: "))
    shared = shared_positions(one.segments, other.segments)
    assert one.tokens - one.segments[-1].positions + closing - 1 <= shared < one.tokens
    again = PromptParts("What now?", [(time_s, array.copy()) for time_s, array in frames], dialogue)
    plan = planned_prompt(LAYOUT, encode, again, 500)
    assert [segment.key for segment in plan.segments] == keys[0], "keys are made of contents"


def test_embeds_that_differ_in_one_number_have_another_key():
    changed = embeds(0)
    changed[2, 1] += 1e-6
    keys = {
        planned_prompt(LAYOUT, encode, PromptParts("Why?", [(0.0, array)]), 500).segments[2].key
        for array in (embeds(0), changed, embeds(0, 5))
    }
    assert len(keys) == 3


def test_a_question_too_long_says_what_was_got_and_expected():
    parts = PromptParts("Why? " * 100, [(0.0, embeds(0))])
    with pytest.raises(PromptTooLong, match=r"takes \d+ tokens .*expected at most 64") as caught:
        planned_prompt(LAYOUT, encode, parts, 64)
    assert caught.value.code == "prompt-too-long" and caught.value.exit_code == 2
    assert "shorter question" in (caught.value.hint or "")


def test_parts_without_a_place_in_the_layout_count_as_left_out():
    plain = PromptLayout(
        {"frame": (Slot("embeds"),), "user": (Text("Q "), Slot("question"))},
        ("frame*", "user"), (1,), 4,
    )  # fmt: skip
    parts = PromptParts("Why?", [(0.0, embeds(0))], [DialogueTurn(0.0, "Who?", "You.")],
                        [MemoryEntry(0.0, embeds(1))])  # fmt: skip
    plan = planned_prompt(plain, encode, parts, 100)
    assert plan.dropped == Dropped(dialogue=1, memory=1) and len(plan.segments) == 2


def test_a_text_is_tokenised_once_however_often_something_is_left_out():
    asked: list[str] = []

    def counted(text: str) -> tuple[int, ...]:
        asked.append(text)
        return encode(text)

    dialogue = [DialogueTurn(float(n), f"Who {n}?", "Two people.") for n in range(30)]
    planned_prompt(LAYOUT, counted, PromptParts("Why?", (), dialogue), 80)
    assert len(asked) == len(set(asked)) and len(asked) < 100
