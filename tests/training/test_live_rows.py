"""Rows that training reads: token by token what the device writes, and cut without a gap."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.models.reference_layout import encoder_of, reference_layout
from edgestream.runtime.context_continuous import ContinuousContext, ContinuousRules
from edgestream.runtime.decoder import Decoding
from edgestream.runtime.eviction import EvictionPolicy
from edgestream.runtime.session import LanguageSession
from edgestream.runtime.stream_prompt import StreamText
from edgestream.runtime.token_gate import TokenGate
from edgestream.runtime.values import Question, Turn
from edgestream.training.dialogue_stream import Said, Watch
from edgestream.training.live_loss import SILENT, SPEAK, STANDBY, WORD
from edgestream.training.live_rows import LiveRow, RowWriter, Seen, atoms_of, stretches
from edgestream.training.packed_prompts import UNLABELLED

from ..reference_checkpoints import small_tokenizer
from ..scripted_decoder import (
    FRAME_ROWS,
    LAYOUT,
    ScriptedDecoder,
    decode,
    encode,
    observed,
    scripted_model,
)
from ..scripted_decoder import SILENT as COMMA

TIMES_S = [0.5 * frame for frame in range(40)]
STEPS = (
    Watch(0, 3, 3, speaks=True),
    Said("assistant", "a dog", True),
    Watch(3, 2, 1),
    Said("user", "what?", False),
    Said("assistant", "a cat", True),
    Watch(5, 4, 4, speaks=True),
    Said("assistant", "it left", False),
    Watch(9, 2, 2),
)


def written(row: LiveRow, at: int | None = None) -> str:
    """What stands before and at a token, as the scripted decoder tells what it has seen."""
    at = len(row.ids) - 1 if at is None else at
    frames = {token: (frame, number) for token, frame, number in row.places}
    parts = []
    while at >= 0:
        if at not in frames:
            parts.append({1: "^", 2: "$"}.get(row.ids[at], chr(row.ids[at])))
        elif frames[at][1] == 0:
            parts.append(f"#{frames[at][0]}")
        at = row.parents[at]
    return "".join(reversed(parts))


def said_by_the_device(steps) -> str:
    """The same dialogue through the session of the device: what it has before it at the end."""
    speaking = {one.first + one.count - 1 for one in steps if isinstance(one, Watch) and one.speaks}
    texts = {}
    for before, one in pairwise(steps):
        if isinstance(before, Watch) and isinstance(one, Said) and one.role == "assistant":
            texts[before.first + before.count - 1] = one.text
    answers = {
        before.text: one.text
        for before, one in pairwise(steps)
        if isinstance(before, Said) and before.role == "user" and isinstance(one, Said)
    }

    def following(text):
        if frame := re.search(r"#(\d+)$", text):
            return {COMMA: 0.1 if int(frame[1]) in speaking else 0.99}
        if "Assistant:" not in text:
            return {}
        before, said = text.rsplit("Assistant:", 1)
        asked = re.search(r"User: ([^\n]*)\n$", before)
        frame = int(re.findall(r"#(\d+)", before)[-1])
        answer = answers.get(asked[1]) if asked else texts[frame]
        if answer is None:
            return {COMMA: 0.99}
        left = f" {answer}"[len(said) :]
        return {ord(left[0]) if left else 2: 0.99}

    engine = ScriptedDecoder(following)
    model = scripted_model(engine, 2048)
    rules = ContinuousRules(EvictionPolicy(recent_slots=0, block_slots=1, sink_slots=0), 16)
    context = ContinuousContext(model, LAYOUT, StreamText(LAYOUT, encode), rules)
    gate = TokenGate((COMMA,), once_per_stretch=False)
    session = LanguageSession(model, context, LAYOUT, decode, Decoding(), gate=gate)
    for one in steps:
        if isinstance(one, Watch):
            for frame in range(one.first, one.first + one.count):
                list(session.take(observed(frame), lambda: False, lambda told: None))
        elif one.role == "user":
            asked = Question("q", one.text, TIMES_S[0])
            turn = Turn("t", "question", TIMES_S[0], "answer", question=asked)
            list(session.take(turn, lambda: False, lambda told: None))
    return engine.seen[-1]


def row_of(steps) -> LiveRow:
    writer = RowWriter(LAYOUT, encode, FRAME_ROWS)
    return writer.row(atoms_of(steps, TIMES_S), TIMES_S)


def test_a_row_is_what_the_device_writes():
    row = row_of(STEPS)
    assert written(row) == said_by_the_device(STEPS)
    assert row.parents == [-1, *range(len(row.ids) - 1)] and row.depths == [*range(len(row.ids))]


def test_a_question_that_nobody_answers_is_met_with_silence_as_on_the_device():
    steps = (Watch(0, 2, 1), Said("user", "tell me", False), Watch(2, 2, 2, speaks=True),
             Said("assistant", "now", True), Watch(4, 1, 1))  # fmt: skip
    row = row_of(steps)
    assert written(row) == said_by_the_device(steps)
    asked = next(at for at, label in enumerate(row.labels)
                 if label == COMMA and row.states[at] == WORD)  # fmt: skip
    assert written(row, asked).endswith("User: tell me\nAssistant:")


def test_every_decision_and_every_word_is_learned_where_it_is_made():
    row = row_of(STEPS)
    learned = {at: (label, state) for at, (label, state) in enumerate(
        zip(row.labels, row.states, strict=True)) if label != UNLABELLED}  # fmt: skip
    decided = {frame: learned[at] for frame, at in row.decisions}
    comma, speak = (COMMA, SILENT), (ord("]"), SPEAK)
    assert decided == {0: comma, 1: comma, 2: speak, 3: comma, 5: comma, 6: comma, 7: comma,
                       8: speak, 9: comma, 10: comma}  # fmt: skip
    for kind, tokens in row.answers:
        words = "".join(chr(row.labels[at]) for at in tokens[:-1])
        assert words == {"describe": " a dog", "answer": " a cat"}[kind]
        assert row.labels[tokens[-1]] == 2  # and then to stop
        assert written(row, tokens[0]).endswith("Assistant:")
    assert len(row.answers) == 2  # "it left" is not to be learned
    assert len(learned) == len(decided) + sum(len(tokens) for _, tokens in row.answers)


def test_what_comes_before_a_stretch_is_context():
    writer, atoms = RowWriter(LAYOUT, encode, FRAME_ROWS), atoms_of(STEPS, TIMES_S)
    whole, part = writer.row(atoms, TIMES_S), writer.row(atoms, TIMES_S, learn_from=6)
    assert part.ids == whole.ids and part.parents == whole.parents
    assert [frame for frame, _ in part.decisions] == [5, 6, 7, 8, 9, 10]
    assert [kind for kind, _ in part.answers] == ["answer"]


def test_frames_shortly_before_a_text_are_on_standby():
    states = [one.state for one in atoms_of(STEPS, TIMES_S, standby_s=1.0) if isinstance(one, Seen)]
    assert states[:5] == [SILENT, STANDBY, SPEAK, SILENT, None]
    assert states[5:9] == [SILENT, SILENT, STANDBY, SPEAK]


def test_a_layout_that_answers_beside_the_stream_has_branches():
    tokenizer = small_tokenizer()
    layout = reference_layout(tokenizer)
    writer = RowWriter(layout, encoder_of(tokenizer), 3)
    steps = (Watch(0, 2, 1), Said("user", "Is it dark?", False), Said("assistant", "Yes.", True),
             Watch(2, 1, 1, speaks=True), Said("assistant", "It gets dark.", True))  # fmt: skip
    row = writer.row(atoms_of(steps, TIMES_S), TIMES_S)
    text = ["" if at in {place[0] for place in row.places} else tokenizer.id_to_token(token)
            for at, token in enumerate(row.ids)]  # fmt: skip
    trunk, at = [], len(row.ids) - 1
    while at >= 0:
        trunk.append(text[at])
        at = row.parents[at]
    assert "".join(reversed(trunk)) == "<s><frame><frame><frame><assistant>▁It▁gets▁dark."
    assert "<user>▁Is▁it▁dark?<assistant>▁Yes." in "".join(text)
    mask, (first_answer, *_) = row.mask(), row.answers[0][1]
    later = row.places[-1][0]
    assert not mask[later, first_answer] and mask[first_answer, row.places[0][0]]
    assert {row.depths[later]} == {1 + 3 * 4 - 1}


@pytest.mark.medium
@given(
    costs=st.lists(st.integers(1, 12), min_size=1, max_size=60),
    most=st.integers(12, 60),
    first=st.integers(6, 60),
    data=st.data(),
)
def test_stretches_learn_everything_once(costs, most, first, data):
    may_begin = data.draw(st.lists(st.booleans(), min_size=len(costs), max_size=len(costs)))
    found = list(stretches(costs, may_begin, most, min(first, most)))
    learned = [at for _, begin, end in found for at in range(begin, end)]
    assert learned == list(range(len(costs)))
    for begin, from_, end in found:
        assert 0 <= begin <= from_ < end
        assert begin == 0 or begin == from_ or may_begin[begin]
        whole = end  # where it had to go on, it was allowed to end nowhere between
        while sum(costs[begin:whole]) > most and whole > from_ + 1:
            whole -= 1
        assert not any(may_begin[whole + 1 : end]) or whole == end


def test_a_short_dialogue_is_one_stretch():
    assert list(stretches([3, 4, 5], [True] * 3, 12)) == [(0, 0, 3)]
    assert list(stretches([3, 4, 5], [True] * 3, 11)) == [(0, 0, 2), (2, 2, 3)]


@pytest.mark.parametrize("text", ["a dog", "it left", "x"])
def test_an_answer_is_cut_as_it_stands_in_a_prompt(text):
    assert RowWriter(LAYOUT, encode, 1).answer_ids(text) == tuple(map(ord, f" {text}"))
