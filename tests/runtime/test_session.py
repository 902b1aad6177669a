"""The session over a scripted decoder: what the model has before it, at every turn."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from edgestream.runtime.context_continuous import ContinuousContext, ContinuousRules
from edgestream.runtime.context_recent import RecentContext, RecentRules
from edgestream.runtime.decoder import Decoding
from edgestream.runtime.errors import DeviceMemoryExhausted, EngineFailed
from edgestream.runtime.eviction import EvictionPolicy
from edgestream.runtime.memory.key_frame import KeyFrame, MemoryView
from edgestream.runtime.recall import Recall, RecallRules
from edgestream.runtime.recent import DialogueTurn, RecentMemory, RecentView
from edgestream.runtime.session import LanguageSession
from edgestream.runtime.stream_prompt import StreamText
from edgestream.runtime.token_gate import TokenGate
from edgestream.runtime.values import (
    Event,
    Forget,
    GateDecision,
    Load,
    Observed,
    Question,
    Turn,
)

from ..scripted_decoder import (
    FRAME_ROWS,
    HIDDEN,
    LAYOUT,
    SILENT,
    SPEAK,
    STOP,
    ScriptedDecoder,
    decode,
    encode,
    observed,
    scripted_model,
)

POLICY = EvictionPolicy(recent_slots=0, block_slots=1, sink_slots=0)
SYSTEM = "^S\n"


def script(silence=None, answers=None, default="yes"):
    """Silence per frame (0.9 unless said), and what is answered to a question (None: an event)."""

    def following(text):
        frame = re.search(r"#(\d+)$", text)
        if frame:
            silent = (silence or {}).get(int(frame[1]), 0.9)
            return {SILENT: silent, SPEAK: (1 - silent) * 0.98}
        if "Assistant:" not in text:
            return {}  # in the middle of a prompt: nobody looks
        before, said = text.rsplit("Assistant:", 1)
        asked = re.search(r"User: ([^\n]*)\n$", before)
        answer = (answers or {}).get(asked[1] if asked else None, default)
        left = answer[len(said) :]
        return {ord(left[0]) if left else STOP: 0.99}

    return following


def continuous(engine, *, capacity=256, on_branch=False, gate=None, policy=POLICY, **more):
    rules = ContinuousRules(policy, answer_tokens=16, on_branch=on_branch, **more)
    model = scripted_model(engine, capacity)
    context = ContinuousContext(model, LAYOUT, StreamText(LAYOUT, encode), rules)
    ticks = count()
    return LanguageSession(
        model, context, LAYOUT, decode, Decoding(), gate=gate, monotonic=lambda: next(ticks) * 1e-3
    )


def still(number, *, like):
    """Frame `number` without a change since another: it has that frame's embeds."""
    features = replace(like.features, time_s=number / 2, is_fresh=False)
    return Observed(features, like.embeds)


def question(text, time_s, turn_id="t1"):
    return Turn(turn_id, "question", time_s, "answer", question=Question("q1", text, time_s))


def event(time_s, turn_id="t1"):
    return Turn(turn_id, "event", time_s, "describe", events=(Event("e1", "bell", time_s),))


def take(session, moment, cancelled=lambda: False, has_faults=False):
    """Finals and what else was told."""
    told = []
    said = list(session.take(moment, cancelled, told.append))
    assert sum(one.is_final for one in said) <= 1 and (not said or said[-1].is_final)
    partials = [one.text for one in said[:-1]]
    assert has_faults or partials == sorted(partials, key=len)
    return (said[-1] if said else None), told


# VideoLLM-online's loop, branch by branch (its `demo/inference.py`).


def test_silent_frames_are_joined_and_nothing_is_said():
    engine = ScriptedDecoder(script())
    session = continuous(engine, gate=TokenGate((SILENT,)))
    for number in range(3):
        assert take(session, observed(number)) == (None, [])
    assert engine.seen[-1] == SYSTEM + "\n[#0,#1,#2"


def test_a_frame_that_speaks_closes_the_stretch_answers_and_opens_the_next():
    engine = ScriptedDecoder(script({1: 0.1}, {None: "a dog"}))
    session = continuous(engine, gate=TokenGate((SILENT,)))
    take(session, observed(0))
    final, told = take(session, observed(1))
    assert (final.text, final.cause, final.about_s) == ("a dog", "event", (0.0, 0.5))
    assert [one.type for one in told] == ["opened"] and told[0].body["event"] == "speak"
    _, told = take(session, observed(2))
    assert [one.type for one in told] == ["closed"]
    assert engine.seen[-1] == SYSTEM + "\n[#0,#1]\nAssistant:a dog$\n[#2"


@pytest.mark.parametrize(
    ("silent", "threshold", "speaks"),
    [
        (0.8, 0.725, False),  # silent enough
        (0.7, 0.725, True),  # silence is the best token, but not probable enough
        (0.45, 0.0, True),  # another token is the best, whatever the threshold
        (0.55, 0.5, False),
        (0.99, 1.0, True),  # nothing is silent enough
    ],
)
def test_the_threshold_decides_what_counts_as_silence(silent, threshold, speaks):
    engine = ScriptedDecoder(script({0: silent}))
    session = continuous(engine, gate=TokenGate((SILENT,), threshold=threshold))
    final, _ = take(session, observed(0))
    assert (final is not None) == speaks


def test_a_question_before_a_frame_is_answered_without_that_frame():
    engine = ScriptedDecoder(script({}, {"what?": "a cat"}))
    session = continuous(engine, gate=TokenGate((SILENT,)))
    take(session, observed(0))
    final, _ = take(session, question("what?", 0.25))
    assert final.text == "a cat" and final.question == "what?"
    asked = SYSTEM + "\n[#0]\nUser: what?\nAssistant:a cat"
    assert engine.seen[-1] == asked
    take(session, observed(1))
    assert engine.seen[-1] == asked + "$\n[#1"


def test_a_question_at_the_same_time_as_a_frame_takes_the_place_of_its_decision():
    engine = ScriptedDecoder(script({1: 0.0}, {"what?": "a cat"}, default="WRONG"))
    session = continuous(engine, gate=TokenGate((SILENT,)))
    take(session, observed(0))
    # Frame 1 would speak; it is asked about, so it only answers.
    assert take(session, observed(1, is_asked=True)) == (None, [])
    final, _ = take(session, question("what?", 0.5))
    assert final.text == "a cat"
    assert engine.seen[-1] == SYSTEM + "\n[#0,#1]\nUser: what?\nAssistant:a cat"


def test_a_question_before_any_frame_has_the_system_text_before_it():
    engine = ScriptedDecoder(script({}, {"hello?": "hi"}))
    session = continuous(engine, gate=TokenGate((SILENT,)))
    final, _ = take(session, question("hello?", 0.0))
    assert final.text == "hi" and engine.seen[0].startswith(SYSTEM)
    take(session, observed(0))
    assert engine.seen[-1].endswith("hi$\n[#0")


def test_an_answer_without_end_stops_at_the_limit_and_the_stream_goes_on():
    engine = ScriptedDecoder(script({}, {}, default="x" * 99))
    session = continuous(engine)
    take(session, observed(0))
    final, _ = take(session, event(0.0))
    assert final.text == "x" * 16 and not final.is_cut
    take(session, observed(1))
    assert engine.seen[-1] == SYSTEM + "\n[#0]\nAssistant:" + "x" * 16 + "$\n[#1"


# What is done beside the stream, and what a cut leaves.


def test_an_answer_on_a_branch_leaves_the_cache_bit_by_bit_as_it_was():
    engine = ScriptedDecoder(script({}, {"what?": "a cat"}))
    session = continuous(engine, on_branch=True)
    for number in range(4):
        take(session, observed(number))
    before = session.model.arena.snapshot()
    everything = [array.copy() for array in session.model.arena.tensors().values()]
    final, _ = take(session, question("what?", 1.6))
    assert final.text == "a cat"
    after = session.model.arena.snapshot()
    assert np.array_equal(before.values, after.values)
    assert np.array_equal(before.positions, after.positions)
    for array, was in zip(session.model.arena.tensors().values(), everything, strict=True):
        assert np.array_equal(array, was)
    take(session, observed(4))
    assert engine.seen[-1] == SYSTEM + "\n[#0,#1,#2,#3,#4"


def test_a_cancelled_answer_is_cut_at_once_and_says_so():
    engine = ScriptedDecoder(script({}, {}, default="abcdefgh"))
    session = continuous(engine)
    take(session, observed(0))
    polls = count()
    final, _ = take(session, event(0.0), lambda: next(polls) >= 5)
    assert (final.text, final.is_cut) == ("abc", True)
    take(session, observed(1))
    assert engine.seen[-1] == SYSTEM + "\n[#0]\nAssistant:abc$\n[#1"


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_who_leaves_in_the_middle_of_an_answer_gets_what_was_said(error):
    session = continuous(ScriptedDecoder(script({}, {}, default="abcdefgh")))
    take(session, observed(0))
    told, responses = (
        [],
        session.take(event(0.0), lambda: False, lambda record: told.append(record)),
    )
    assert [next(responses).text for _ in range(2)] == ["a", "ab"]
    with pytest.raises(error):
        responses.throw(error)
    (final,) = told
    assert (final.type, final.body["text"], final.body["is_cut"]) == ("final", "ab", True)
    assert final.body["ended_by"] == "cut"
    final, _ = take(session, question("again?", 1.0))  # and the session is well
    assert final.text == "abcdefgh"


# Eviction.


def test_frames_make_room_for_frames_and_speaking_evicts_nothing():
    engine = ScriptedDecoder(script({}, {"q": "yes"}))
    session = continuous(engine, capacity=96)
    for number in range(40):
        take(session, observed(number))
        spans = session.context.spans
        assert sum(span.slots for span in spans) == session.model.arena.length
        assert session.model.arena.length <= 96 - session.context.reserve_slots
    held = engine.seen[-1]
    assert held.startswith(SYSTEM + "\n[#") and held.endswith(",#38,#39")
    final, _ = take(session, question("q", 20.0))
    assert final.text == "yes"
    assert engine.seen[-1] == held + "]\nUser: q\nAssistant:yes"
    assert np.array_equal(session.model.arena.positions[0, :10], np.arange(10))


def test_frames_with_an_event_outlast_the_others_within_their_slots():
    engine = ScriptedDecoder(script())
    session = continuous(engine, capacity=128, protected_slots=6)
    for number in range(60):
        take(session, observed(number))
        if number in (5, 10, 15):
            take(session, event(number / 2.0))
    kept = re.findall(r"#(\d+)", engine.seen[-1])
    assert kept[:2] == ["10", "15"] and "5" not in kept


def test_a_still_frame_is_appended_as_nothing():
    engine = ScriptedDecoder(script())
    session = continuous(engine)
    take(session, observed(0))
    take(session, still(1, like=observed(0)))  # the same numbers elsewhere: encoded again
    first = observed(2)
    take(session, first)
    take(session, still(3, like=first))
    take(session, observed(4))
    assert engine.seen[-1] == SYSTEM + "\n[#0,#0,#2,#4"


def test_frames_are_read_at_the_rate_of_the_model_and_no_change_is_lost():
    engine = ScriptedDecoder(script())
    session = continuous(engine, every_s=1.0)  # frames come at 2 a second
    shown = [observed(0), observed(1)]
    shown += [still(number, like=shown[1]) for number in (2, 3, 4)]
    shown += [observed(5), observed(6), still(7, like=observed(6))]
    for one in shown:
        take(session, one)
    # 1 changed too soon after 0, so 2 tells of it; nothing is new at 4; 7 tells of 6.
    assert engine.seen[-1] == SYSTEM + "\n[#0,#1,#5,#6"


# Faults.


def failing_at(run, fault):
    return ScriptedDecoder(script({}, {}, default="abcdefgh"), {run: fault})


@pytest.mark.parametrize("fault", [EngineFailed("it broke"), DeviceMemoryExhausted("full"), None])
def test_an_engine_that_fails_in_an_answer_costs_that_answer_alone(fault):
    engine = failing_at(6, fault)
    session = continuous(engine)
    take(session, observed(0))
    final, told = take(session, event(0.0))
    assert final.is_cut and 0 < len(final.text) < 8
    assert [one.type for one in told] == ["warning"] and "t1" in told[0].body["message"]
    final, told = take(session, event(1.0))
    assert final.text == "abcdefgh" and not told


def test_the_next_rung_says_it_again():
    engine, better = failing_at(6, EngineFailed("it broke")), ScriptedDecoder(script(default="ok"))
    session = continuous(engine)
    session.next_rung = lambda fault, tell: session.model.replace_engine(better)
    take(session, observed(0))
    final, told = take(session, event(0.0), has_faults=True)
    assert (final.text, final.is_cut) == ("ok", False)
    assert [one.type for one in told] == ["warning"]
    assert better.seen[-1] == SYSTEM + "\n[#0]\nAssistant:ok"  # nothing is left of the attempt


def test_an_engine_that_never_works_ends_the_run():
    session = continuous(
        ScriptedDecoder(script(), {run: EngineFailed("broken") for run in range(1, 99)})
    )
    assert take(session, observed(0))[0] is None
    assert take(session, event(0.5))[0].is_cut
    with pytest.raises(EngineFailed):
        take(session, event(0.5))


def test_a_frame_that_is_no_number_is_left_out_and_told():
    engine = ScriptedDecoder(script())
    session = continuous(engine)
    take(session, observed(0))
    bad = observed(1)
    broken = type(bad)(bad.features, np.full_like(bad.embeds, np.nan))
    _, told = take(session, broken)
    assert [one.body["code"] for one in told] == ["engine-not-finite"]
    take(session, observed(2))
    assert engine.seen[-1] == SYSTEM + "\n[#0,#2"


def test_a_question_that_is_longer_than_the_cache_is_refused_with_a_sentence():
    session = continuous(ScriptedDecoder(script()), capacity=96)
    for number in range(20):
        take(session, observed(number))
    held = session.model.arena.length
    final, told = take(session, question("why? " * 60, 10.0))
    assert final.text == "" and final.is_cut
    assert told[0].type == "warning" and "no room for an answer" in told[0].body["message"]
    assert session.model.arena.length == held
    final, told = take(session, question("why?", 10.0))
    assert final.text == "yes" and not told


# The context `recent`.


def recent(engine, memory, *, capacity=256, **more):
    model = scripted_model(engine, capacity)
    rules = RecentRules(**{"frames": 2, "every_s": 0.0, "answer_tokens": 16, **more})
    context = RecentContext(model, LAYOUT, encode, memory.view, rules)
    return LanguageSession(model, context, LAYOUT, decode, Decoding(), monotonic=lambda: 0.0)


def memory_of(frames):
    memory = RecentMemory()
    for number in range(frames):
        one = observed(number)
        memory.step(one.features, one.embeds, GateDecision(one.features.time_s))
    return memory


def test_recent_shows_the_last_frames_and_the_last_talk():
    engine = ScriptedDecoder(script({}, {"what?": "a cat", "and now?": "two"}))
    memory = memory_of(6)
    session = recent(engine, memory)
    final, _ = take(session, question("what?", 1.5))
    assert engine.seen[-1] == SYSTEM + "\n[#2,#3]\nUser: what?\nAssistant:a cat"
    assert (final.text, final.about_s, final.context) == ("a cat", (1.0, 1.5), "recent")
    memory.remember([final])
    final, _ = take(session, question("and now?", 2.5))
    talk = "\nUser: what?\nAssistant: a cat$"
    assert engine.seen[-1] == f"{SYSTEM}{talk}\n[#4,#5]\nUser: and now?\nAssistant:two"


def test_recent_describes_an_event_with_the_words_that_a_model_wants():
    engine = ScriptedDecoder(script({}, {None: "it rang", "what happens?": "a bell"}))
    assert take(recent(engine, memory_of(2)), event(0.5))[0].text == "it rang"
    assert engine.seen[-1] == SYSTEM + "\n[#0,#1]\nAssistant:it rang"
    session = recent(engine, memory_of(2), describe_prompt="what happens?")
    assert take(session, event(0.5))[0].text == "a bell"


def test_what_two_prompts_share_is_read_once():
    answers = {None: "it rang", "b": "2"}
    engine = ScriptedDecoder(script({}, answers))
    session = recent(engine, memory_of(4))
    take(session, event(1.5))
    first = engine.tokens
    take(session, question("b", 1.5, "t2"))
    again = engine.tokens - first
    fresh = ScriptedDecoder(script({}, answers))
    other = recent(fresh, memory_of(4))
    take(other, question("b", 1.5))
    assert engine.seen[-1] == fresh.seen[-1] and again < fresh.tokens
    # The very same prompt again: all but its last positions are there.
    for _ in range(2):
        tokens = engine.tokens
        take(session, event(1.5))
    assert engine.tokens - tokens == 2 + len("it rang")


def test_the_next_question_sees_the_answer_before_it_also_between_two_frames():
    engine = ScriptedDecoder(script({}, {"a": "1", "b": "2"}))
    memory = memory_of(4)
    session = recent(engine, memory)
    final, _ = take(session, question("a", 1.5))
    for _ in range(2):  # before memory has heard of it, and after: it is shown once
        take(session, question("b", 1.5, "t2"))
        assert engine.seen[-1].startswith(f"{SYSTEM}\nUser: a\nAssistant: 1$\n[#2,#3]\nUser: b")
        session = recent(engine, memory)
        memory.remember([final])


def test_tokens_that_steer_the_model_are_taken_out_of_a_question():
    engine = ScriptedDecoder(script({}, {"w/ /at?": "no"}))
    memory = memory_of(2)
    session = recent(engine, memory)
    session.context.plain = lambda text: text.replace("//", "/ /")
    final, _ = take(session, question("w//at?", 0.5))
    assert (final.text, final.question) == ("no", "w//at?")
    session = continuous(engine)
    session.context.plain = lambda text: text.replace("//", "/ /")
    take(session, observed(0))
    assert take(session, question("w//at?", 0.5))[0].text == "no"


def test_a_question_about_what_is_not_kept_any_more_says_what_it_is_about():
    engine = ScriptedDecoder(script())
    memory = RecentMemory(max_frames=4)
    for number in range(20):
        one = observed(number)
        memory.step(one.features, one.embeds, GateDecision(one.features.time_s))
    final, told = take(recent(engine, memory), question("then?", 1.0))
    assert final.about_s == (8.0, 8.5) and told[0].body["code"] == "past-forgotten"
    session = continuous(engine, capacity=96)
    for number in range(40):
        take(session, observed(number))
    final, told = take(session, question("then?", 1.0))
    assert final.about_s[0] > 1.0 and final.about_s[1] == 19.5
    assert [one.body["code"] for one in told] == ["past-forgotten"]


def test_an_answer_says_what_ended_it():
    endless = ScriptedDecoder(script({}, {}, default="x" * 99))
    for engine, cancelled, ended_by in (
        (ScriptedDecoder(script()), lambda: False, "model"),
        (endless, lambda: False, "limit"),
        (endless, lambda: True, "cut"),
        (failing_at(6, EngineFailed("it broke")), lambda: False, "fault"),
    ):
        session = continuous(engine)
        take(session, observed(0))
        assert take(session, event(0.0), cancelled)[0].ended_by == ended_by


def test_a_turn_that_is_cancelled_from_the_start_costs_nothing_and_leaves_nothing():
    engine = ScriptedDecoder(script())
    session = continuous(engine)
    take(session, observed(0))
    runs, held = engine.runs, session.model.arena.length
    for _ in range(3):
        final, _ = take(session, event(0.0), lambda: True)
        assert final.is_cut and final.text == ""
    polls = count()
    take(session, event(0.0), lambda: next(polls) >= 2)  # after the prompt, before the first word
    assert session.model.arena.length == held and engine.runs <= runs + 1
    take(session, observed(1))
    assert engine.seen[-1] == SYSTEM + "\n[#0,#1"


@pytest.mark.parametrize("capacity", [64, 80, 96, 128])
def test_questions_before_and_between_frames_never_make_a_stream_blind(capacity):
    """What was said before the first frame may go; only the system text stays for ever."""
    engine = ScriptedDecoder(script())
    session = continuous(engine, capacity=capacity)
    take(session, question("before any frame " * 1, 0.0))
    for number in range(60):
        _, told = take(session, observed(number))
        assert not told, told
        if number % 8 == 7:
            take(session, question("a question of some length?", number / 2))
    spans = session.context.spans
    assert sum(span.slots for span in spans if span.kind == "prefix") == len(SYSTEM)
    assert re.findall(r"#(\d+)", engine.seen[-1])[-1] == "59"


def test_frames_that_are_left_out_are_counted_and_told_once():
    engine = ScriptedDecoder(script())
    session = continuous(engine)
    dropped = []
    session.dropped = dropped.append
    take(session, observed(0))
    told = []
    for number in (1, 2):
        bad = observed(number)
        bad = Observed(bad.features, np.full_like(bad.embeds, np.nan))
        told += take(session, bad)[1]
    assert [one.type for one in told] == ["warning"] and dropped == ["unread frames"] * 2
    assert take(session, observed(3)) == (None, [])


def test_a_frame_at_which_the_engine_breaks_is_read_on_the_next_rung():
    engine, better = failing_at(2, EngineFailed("it broke")), ScriptedDecoder(script())
    session = continuous(engine)
    session.next_rung = lambda fault, tell: session.model.replace_engine(better)
    take(session, observed(0))
    _, told = take(session, observed(1))
    assert [one.type for one in told] == ["warning"] and better.seen[-1].endswith("#0,#1")


def test_faults_long_apart_do_not_add_up():
    runs = {run: EngineFailed("it broke") for run in (2, 12, 22, 32)}
    session = continuous(ScriptedDecoder(script(), runs))
    for number in range(40):
        take(session, observed(number))


def test_a_prompt_over_budget_loses_its_oldest_parts_and_a_question_over_it_is_refused():
    engine = ScriptedDecoder(script())
    session = recent(engine, memory_of(20), capacity=64, frames=16)
    final, told = take(session, question("q", 9.5))
    assert final.text == "yes" and not told
    assert re.findall(r"#(\d+)", engine.seen[-1])[-1] == "19"
    assert session.model.arena.length <= 64
    for length in (22, 99):  # no room for a frame; no room for itself
        final, told = take(session, question("q" * length, 9.5))
        assert final.text == "" and told[0].body["code"] == "prompt-too-long"
    assert take(session, question("q", 9.5))[0].text == "yes"


# The past.


def remembering(engine, count, **rules):
    """A session over a memory of `count` key frames a minute apart, and two frames of now."""
    key_frames = tuple(
        KeyFrame(
            f"k{number}",
            60.0 * number,
            np.full((FRAME_ROWS, HIDDEN), -1.0 - number, np.float16),
            np.ones(1, np.float32),
        )
        for number in range(count)
    )
    now = RecentView(tuple((3600.0 + n, observed(90 + n).embeds) for n in range(2)))
    view = MemoryView(now, key_frames)
    session = recent(engine, RecentMemory())
    context = session.context
    context.view = lambda: view.recent
    context.recall = Recall(
        RecallRules(router="recency", **rules),
        lambda: view,
        lambda text: session.model.rows(encode(text)),
    )
    return session


def test_a_question_about_the_past_is_shown_what_memory_chose_and_says_so():
    engine = ScriptedDecoder(script(default="a dog"))
    session = remembering(engine, 5, topk=2)
    final, _ = take(session, question("What was there before?", 3602.0))
    shown = SYSTEM + "\n<#3>\n<#4>\n[#90,#91]\nUser: What was there before?\nAssistant:"
    assert engine.seen[-1].startswith(shown)
    assert (final.context, final.about_s) == ("recall", (180.0, 3602.0))
    assert [name for name, _ in final.used] == ["k4", "k3"]
    assert final.used[0][1] >= final.used[1][1]


def test_a_frame_that_is_shown_anyway_is_remembered_only_for_what_was_said():
    frames = tuple(
        KeyFrame(
            f"k{n}", float(n), np.zeros((1, 2), np.float16), np.zeros(2, np.float32), said=said
        )
        for n, said in enumerate(("", "It gets dark.", ""))
    )
    left = MemoryView(key_frames=frames).without((1.0, 2.0)).key_frames
    assert [(frame.frame_id, frame.said) for frame in left] == [("k0", ""), ("k1", "It gets dark.")]


def test_a_question_about_now_is_not_unless_it_says_so():
    engine = ScriptedDecoder(script(default="a dog"))
    session = remembering(engine, 5)
    final, _ = take(session, question("What is there now?", 3602.0))
    assert (final.context, final.used, final.about_s[0]) == ("recent", (), 3600.0)
    final, _ = take(session, question("@recall What is there now?", 3602.0))
    assert final.context == "recall" and len(final.used) == 5
    assert "User: What is there now?" in engine.seen[-1]
    final, _ = take(session, question("@recent What was there?", 3602.0))
    assert final.context == "recent"
    assert take(session, event(3602.0))[0].context == "recent"


def test_of_what_has_no_room_the_lowest_score_is_left_out_and_is_not_told_as_used():
    engine = ScriptedDecoder(script(default="a dog"))
    session = remembering(engine, 9, topk=9)
    final, _ = take(session, question("What was there?" + "?" * 165, 3602.0))
    shown = re.findall(r"\n<#(\d)>", engine.seen[-1])
    assert 0 < len(shown) < 9 and shown[-1] == "8"
    assert [name for name, _ in final.used] == [f"k{number}" for number in reversed(shown)]


def test_a_question_about_the_past_is_shown_the_talk_that_it_is_about():
    engine = ScriptedDecoder(script(default="a dog"))
    session = remembering(engine, 2)
    context = session.context
    talk = [DialogueTurn(float(n), "q", "an answer") for n in range(9)]
    talk[3] = DialogueTurn(3.0, "zzz", "zzzz")
    context.view = lambda: RecentView(dialogue=tuple(talk))
    context.rules = replace(context.rules, dialogue_turns=2)
    context.recall = replace(context.recall, rows=lambda text: np.eye(256)[list(text.encode())])
    take(session, question("What was zzzz?", 3602.0))
    assert "User: zzz\nAssistant: zzzz" in engine.seen[-1] and engine.seen[-1].count("User:") == 3
    take(session, question("What is zzzz?", 3603.0))
    assert "User: zzz\n" not in engine.seen[-1]


def test_nothing_younger_than_the_question_is_shown():
    engine = ScriptedDecoder(script())
    final, _ = take(remembering(engine, 5, topk=9), question("What was there?", 130.0))
    assert {name for name, _ in final.used} == {"k0", "k1", "k2"}


# Checks of standing requests.


def check(text, time_s, turn_id="t9"):
    return Turn(turn_id, "standing", time_s, "check", question=Question("r1", text, time_s))


def test_a_check_is_asked_without_the_talk_and_is_no_part_of_it():
    engine = ScriptedDecoder(script({}, {"a": "1", "dark?": "Yes.", "b": "2"}))
    session = recent(engine, memory_of(4))
    take(session, question("a", 1.5))
    final, _ = take(session, check("dark?", 1.5))
    assert (final.text, final.cause, final.ended_by) == ("Yes.", "standing", "model")
    assert engine.seen[-1] == f"{SYSTEM}\n[#2,#3]\nUser: dark?\nAssistant:Yes."
    take(session, question("b", 1.5))
    assert engine.seen[-1].startswith(f"{SYSTEM}\nUser: a\nAssistant: 1$\n[#2,#3]\nUser: b")


def test_a_check_leaves_a_continuous_stream_as_it_was():
    engine = ScriptedDecoder(script({}, {"dark?": "No."}))
    session = continuous(engine)  # where questions stay in the stream
    for number in range(3):
        take(session, observed(number))
    before = session.model.arena.snapshot()
    assert take(session, check("dark?", 1.0))[0].text == "No."
    after = session.model.arena.snapshot()
    assert np.array_equal(before.values, after.values)
    take(session, observed(3))
    assert engine.seen[-1] == SYSTEM + "\n[#0,#1,#2,#3"


def test_who_leaves_in_the_middle_of_a_check_is_told_nothing_of_it():
    session = continuous(ScriptedDecoder(script({}, {}, default="abcdefgh")))
    take(session, observed(0))
    told = []
    responses = session.take(check("dark?", 0.0), lambda: False, told.append)
    assert next(responses).text == "a"
    with pytest.raises(KeyboardInterrupt):
        responses.throw(KeyboardInterrupt)
    assert not told


# A load that the governor sets.


def test_a_lighter_load_shows_fewer_tokens_of_each_frame_and_a_heavier_one_all_again():
    takes = []
    for loads in ([], [Load(token_share=0.5)], [Load(token_share=0.5), Load()]):
        engine = ScriptedDecoder(script({}, {"a": "1"}))
        session = recent(engine, memory_of(4))
        assert [take(session, load) for load in loads] == [(None, [])] * len(loads)
        assert take(session, question("a", 1.5))[0].text == "1"
        takes.append(engine.tokens)
    assert takes == [takes[0], takes[0] - 2 * (FRAME_ROWS - (FRAME_ROWS + 1) // 2), takes[0]]


def test_a_continuous_stream_reads_fewer_tokens_of_the_frames_that_come():
    engine = ScriptedDecoder(script())
    session = continuous(engine)
    take(session, observed(0))
    before = session.model.arena.length
    take(session, observed(1))
    whole = session.model.arena.length - before
    take(session, Load(token_share=0.5))
    before = session.model.arena.length
    take(session, observed(2))
    assert session.model.arena.length - before == whole - FRAME_ROWS + (FRAME_ROWS + 1) // 2


@pytest.mark.parametrize(("share", "shown"), [(1.0, 8), (0.5, 4), (0.25, 2), (0.01, 1)])
def test_a_lighter_load_shows_less_of_memory(share, shown):
    engine = ScriptedDecoder(script({}, {}))
    session = remembering(engine, 12, topk=8)
    take(session, Load(recall_share=share))
    final, _ = take(session, question("@recall what was there?", 3601.0))
    assert len(final.used) == shown


# Forgetting.


def test_recent_forgets_the_talk_and_the_prompt_of_before_a_time():
    engine = ScriptedDecoder(script({}, {"a": "1", "b": "2"}))
    session = recent(engine, memory_of(4))
    take(session, question("a", 0.5))
    take(session, question("b", 1.5, "t2"))
    held = session.model.arena.length
    assert take(session, Forget(0.25)) == (None, []) and session.model.arena.length == held
    take(session, Forget(1.0))
    assert session.model.arena.length == 0, "the prompt showed what was said of 0.5 s"
    take(session, question("b", 1.5, "t3"))
    assert "User: a" not in engine.seen[-1] and "\nUser: b\nAssistant: 2$" in engine.seen[-1]
    take(session, Forget(float("inf")))
    take(session, question("a", 1.5, "t4"))
    assert engine.seen[-1] == f"{SYSTEM}\n[#2,#3]\nUser: a\nAssistant:1"


def test_a_continuous_stream_forgets_the_frames_of_before_a_time_and_goes_on():
    engine = ScriptedDecoder(script({}, {"what?": "a cat"}))
    session = continuous(engine)
    for number in range(6):
        take(session, observed(number))
    spans = session.context.spans
    take(session, Forget(0.0))
    assert session.context.spans == spans
    take(session, Forget(1.5))
    left = [span.time_s for span in session.context.spans if span.kind == "frame"]
    assert left == [1.5, 2.0, 2.5]
    assert session.model.arena.length == sum(span.slots for span in session.context.spans)
    final, _ = take(session, question("what?", 2.5))
    assert final.about_s == (1.5, 2.5) and final.text == "a cat"
    take(session, Forget(float("inf")))
    assert session.model.arena.length == 0 and session.context.spans == ()
    take(session, observed(6))
    assert engine.seen[-1] == SYSTEM + "\n[#6"
