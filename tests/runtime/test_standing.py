"""Standing requests: when they are checked, when they fire, and never more often than allowed."""

from __future__ import annotations

import json
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import StandingInvalid, StandingRefused
from edgestream.runtime.standing import StandingRequests, StandingRules
from edgestream.runtime.standing_request import StandingRequest, request_from_json
from edgestream.runtime.values import Event, GateDecision, Response

QUIET = GateDecision(0.0)
FPS = 4.0


def opened(time_s, *types):
    events = tuple(Event(f"e{n}", kind, time_s) for n, kind in enumerate(types))
    return GateDecision(time_s, opened=events)


def answer(turn_id, text, time_s, ended_by="model"):
    is_cut = ended_by in ("cut", "fault")
    about_s = (max(0.0, time_s - 1), time_s)
    return Response(turn_id, "standing", text, True, about_s, is_cut=is_cut, ended_by=ended_by)


def requests_of(rules=None, **more):
    return StandingRequests(rules or StandingRules(), **more)


def obeyed(standing):
    for order in standing.orders.take():
        standing.obey(order)
    return standing


def checked(standing, time_s, texts, decision=QUIET):
    """One frame at which every check that is due is answered at once; the records that fire."""
    fired = []
    for number, request in enumerate(standing.step(time_s, decision)):
        standing.asked(request.request_id, f"t{time_s}-{number}")
        fired.append(standing.verdict(answer(f"t{time_s}-{number}", texts, time_s)))
    return [record for record in fired if record is not None]


says = st.sampled_from(["Yes.", "No.", "I cannot tell."])
stories = st.lists(says, max_size=60)
rules = st.builds(
    StandingRules,
    check_s=st.sampled_from([0.25, 1.0, 2.5]),
    refractory_s=st.sampled_from([0.0, 1.0, 5.0]),
    met_after=st.integers(1, 3),
    unmet_after=st.integers(1, 3),
)


def fired_at(standing, story, start=0):
    """Times at which it fires over a story that says at each frame what would be answered."""
    times_s = []
    for index, text in enumerate(story[start:], start):
        times_s += [record.body["about_s"][1] for record in checked(standing, index / FPS, text)]
    return times_s


@given(stories, rules)
def test_it_fires_at_a_yes_after_a_row_of_them_and_not_twice_within_the_refractory_time(
    story, rules
):
    standing = requests_of(rules)
    standing.add("Tell me when it rains")
    obeyed(standing)
    asked: list[tuple[float, str]] = []
    fired: list[float] = []
    for index, text in enumerate(story):
        time_s = index / FPS
        if standing.step(time_s, QUIET):
            standing.asked("r1", f"t{index}")
            asked.append((time_s, text))
            if standing.verdict(answer(f"t{index}", text, time_s)) is not None:
                fired.append(time_s)
    gaps = [later - sooner for (sooner, _), (later, _) in pairwise(asked)]
    assert all(gap >= rules.check_s for gap in gaps)
    known = [(time_s, text) for time_s, text in asked if text != "I cannot tell."]
    words = [text for _, text in known]
    places = [[time_s for time_s, _ in known].index(time_s) for time_s in fired]
    for number, at in enumerate(places):
        assert words[at] == "Yes."
        before = words[places[number - 1] + 1 if number else 0 : at + 1]
        rows = "".join(word[0] for word in before)
        assert "Y" * rules.met_after in rows
        if number:
            assert fired[number] - fired[number - 1] >= rules.refractory_s
            assert "N" * rules.unmet_after in rows, "it was no longer true in between"
    everything = "".join(word[0] for word in words)
    if "Y" * rules.met_after in everything and not fired:
        raise AssertionError("it never told what came true")


@given(st.integers(1, 40), rules)
def test_what_stays_true_is_told_once(frames, rules):
    standing = requests_of(rules)
    standing.add("Tell me when it rains", check_s=0.25)
    obeyed(standing)
    times_s = fired_at(standing, ["Yes."] * frames)
    assert times_s == ([(rules.met_after - 1) / FPS] if frames >= rules.met_after else [])


@pytest.mark.medium
@given(stories, rules, st.data())
def test_restored_anywhere_it_goes_on_as_if_uninterrupted(story, rules, data):
    whole, first, second = (requests_of(rules) for _ in range(3))
    for standing in (whole, first):
        standing.add("Tell me when it rains", sinks=("phone",), cameras=("door",))
        standing.add("And cuts", events=("cut",))
        obeyed(standing)
    expected = fired_at(whole, story)
    at = data.draw(st.integers(0, len(story)))
    told = fired_at(first, story[:at])
    saved = json.loads(json.dumps(first.snapshot()))
    second.restore(saved)
    assert second.list() == first.list()
    assert told + fired_at(second, story, at) == expected
    assert second.snapshot() == whole.snapshot()
    assert second.add("One more").request_id == "r3"


def test_it_comes_true_again_within_the_refractory_time_and_is_told_after_it():
    standing = requests_of(StandingRules(check_s=1.0, refractory_s=10.0, unmet_after=1))
    standing.add("Tell me when it rains")
    obeyed(standing)
    said = {0: "Yes.", 2: "No."}
    times_s = [t for t in range(30) if checked(standing, float(t), said.get(t, "Yes."))]
    assert times_s == [0, 10], "true again at 3 s; told when the time is over, and then no more"


def test_one_check_is_under_way_at_a_time_and_an_event_meanwhile_has_it_checked_once_more():
    standing = requests_of(StandingRules(check_s=5.0))
    standing.add("Tell me when it rains", question="Does it rain?", events=("motion",))
    obeyed(standing)
    (request,) = standing.step(0.0, QUIET)
    standing.asked(request.request_id, "t1")
    assert not standing.step(6.0, QUIET) and not standing.step(6.25, opened(6.25, "motion"))
    assert standing.verdict(answer("t1", "No.", 0.0)) is None
    assert standing.step(6.5, QUIET) == (request,), "the event that opened meanwhile"
    standing.asked(request.request_id, "t2")
    standing.verdict(answer("t2", "No.", 6.5))
    assert not standing.step(7.0, opened(7.0, "cut")), "no event of its types"
    assert standing.step(7.25, opened(7.25, "cut", "motion")) == (request,)


@pytest.mark.parametrize(("ended_by", "is_again"), [("cut", True), ("fault", False)])
def test_a_check_that_was_cut_is_made_again_and_decides_nothing(ended_by, is_again):
    standing = requests_of(StandingRules(check_s=5.0))
    standing.add("Tell me when it rains")
    obeyed(standing)
    standing.step(0.0, QUIET)
    standing.asked("r1", "t1")
    assert standing.verdict(answer("t1", "Yes", 0.0, ended_by)) is None
    assert not standing.list()[0].is_met
    assert bool(standing.step(0.25, QUIET)) == is_again


def test_a_request_by_events_alone_fires_when_one_opens():
    standing = requests_of(StandingRules(refractory_s=10.0), can_answer=False)
    standing.add("Cuts and pans", events=("cut", "pan"), sinks=("phone",))
    obeyed(standing)
    assert not standing.step(0.0, opened(0.0, "cut")), "nothing is asked"
    assert not standing.opened(opened(1.0, "dark")) and not standing.opened(QUIET)
    (record,) = standing.opened(opened(2.0, "pan", "dark", "cut"))
    assert dict(record.body) == {
        "request_id": "r1",
        "request": "Cuts and pans",
        "turn_id": None,
        "text": "pan, cut",
        "about_s": [2.0, 2.0],
        "is_met": True,
        "sinks": ["phone"],
    }
    assert not standing.opened(opened(11.9, "cut")) and standing.opened(opened(12.0, "cut"))
    assert standing.list()[0].last_fired_s == 12.0


def test_a_request_that_was_cancelled_is_not_checked_and_its_answer_not_heard():
    standing = requests_of()
    standing.add("Tell me when it rains")
    obeyed(standing)
    standing.step(0.0, QUIET)
    standing.asked("r1", "t1")
    assert standing.cancel("r1") and not standing.cancel("r1") and standing.list() == ()
    assert standing.snapshot() == ()
    with pytest.raises(StandingRefused, match="already called r1"):
        standing.add("Another", request_id="r1")
    obeyed(standing)  # at the next frame boundary, which comes before what was heard
    assert standing.verdict(answer("t1", "Yes.", 0.0)) is None
    assert not standing.step(60.0, QUIET)
    standing.add("Another", request_id="r1")


def test_nothing_is_watched_for_before_the_watching_thread_has_taken_it():
    standing = requests_of()
    standing.add("Tell me when it rains")
    standing.add("Cuts", events=("cut",))
    assert len(standing.list()) == 2
    assert not standing.step(0.0, QUIET) and not standing.opened(opened(0.0, "cut"))
    obeyed(standing)
    assert standing.step(0.0, QUIET) and standing.opened(opened(0.0, "cut"))


def test_it_holds_no_more_than_it_may_and_says_so():
    standing = requests_of(StandingRules(most=2))
    standing.add("One", question="Is it one?", request_id="mine")
    with pytest.raises(StandingRefused, match="already called mine"):
        standing.add("Two", request_id="mine")
    standing.add("Two")
    with pytest.raises(StandingRefused, match="2 standing requests are held") as caught:
        standing.add("Three")
    assert "standing.most" in caught.value.hint
    standing.cancel("mine")
    standing.add("Three")
    with pytest.raises(StandingRefused, match="2 standing requests were saved"):
        requests_of(StandingRules(most=1)).restore(standing.snapshot())


def test_without_a_model_only_events_can_be_waited_for():
    standing = requests_of(can_answer=False)
    with pytest.raises(StandingRefused, match="no language model"):
        standing.add("Tell me when it rains")
    asks = requests_of()
    asks.add("Tell me when it rains")
    with pytest.raises(StandingRefused, match="no language model"):
        standing.restore(asks.snapshot())
    standing.add("Cuts", events=["cut"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"text": " "}, "the text ' ', expected 1 to 500 characters"),
        ({"text": "x" * 501}, "expected 1 to 500 characters"),
        ({"question": ""}, "the question ''"),
        ({"question": None, "events": ()}, "neither a question nor event types"),
        ({"events": ("",)}, "expected up to 64 names"),
        ({"sinks": ("a",) * 65}, "expected up to 64 names"),
        ({"cameras": ("door", 5)}, "expected up to 64 names"),
        ({"check_s": 0.0}, "check_s 0.0, expected 0.25 to 604800 seconds"),
        ({"check_s": float("nan")}, "check_s nan"),
        ({"check_s": True}, "check_s True"),
        ({"refractory_s": -1}, "refractory_s -1"),
        ({"request_id": ""}, "the name ''"),
    ],
)
def test_what_is_no_request_is_refused(more, words):
    given = {"request_id": "r1", "text": "Tell me", "question": "Is it?", **more}
    with pytest.raises(StandingInvalid) as caught:
        StandingRequest(**given)
    assert words in caught.value.message


def test_a_request_is_the_same_after_json_and_what_is_none_is_refused():
    request = StandingRequest("r1", "Tell me", "Is it?", ("cut",), 5, 7.5, ("a",), ("door",))
    assert request_from_json(json.loads(json.dumps(request.as_json() | {"new": 1}))) == request
    with pytest.raises(StandingInvalid, match="no request"):
        request_from_json({"text": "Tell me"})
    with pytest.raises(StandingInvalid, match="has no 'checked_s'"):
        requests_of().restore([request.as_json()])


def test_many_threads_add_and_each_request_has_a_name_of_its_own():
    standing, refused = requests_of(StandingRules(most=100)), []

    def add():
        for _ in range(20):
            try:
                standing.add("Tell me when it rains")
            except StandingRefused:
                refused.append(1)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [one.request.request_id for one in standing.list()]
    assert len(names) == len(set(names)) == 100 and len(refused) == 60
    assert len(obeyed(standing).step(0.0, QUIET)) == 100
