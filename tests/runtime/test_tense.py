"""Whether a question is about now or about the past, and what its user may say about that."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgestream.runtime.tense import RULES, cue_of, split_override, tense_of

PAST = {
    "past auxiliary": ["Just tell me who was here", "What did he do?", "Where did I go?"],
    "past subject question": [
        "Who left the door open?",
        "What broke?",
        "Which car passed?",
        "How many people walked by?",
        "Who let the dog out?",
        "Who fed the cat?",
        "Who put this here?",
        "I just got home, who rang the bell?",
    ],
    "past clause": [
        "What color is the cup he picked?",
        "Whose is the bag she brought?",
        "Do you know where I left my keys?",
        "Tell me where I put my glasses",
        "Tell me when the postman came",
    ],
    "past time": [
        "Anything new since noon?",
        "How many cars so far?",
        "Summarise the last hour",
        "Summarize the day",
        "Who was that man yesterday?",
        "What was that noise an hour ago?",
        "Who was that at the door this morning?",
        "Who is new in the last 10 minutes?",
        "Any visitors in the past hour?",
        "Any deliveries today?",
        "What happened while I was away?",
    ],
    "memory": ["Do you remember the red car?", "I forget the name, recall it for me"],
    "present perfect": [
        "Has anyone been here?",
        "Have you seen my glasses?",
        "Where have I put my keys?",
        "How long has he been sitting there?",
        "Who's been at the door?",
        "What's happened?",
        "Has the dog been fed?",
        "Has the man in the red hat left?",
        "Has anyone from the delivery company been here?",
        "Anyone come by?",
    ],
    "order of events": ["What does the man do after he opens the box?"],
    "search": [
        "Where's my phone?",
        "where is the towel",
        "Where are the red cups?",
        "Hey, where are my keys?",
        "Can you tell me where my keys are?",
    ],
    "advice": ["Where can I sit?", "What should I use to open this?"],
    "check": ["Is the stove on?", "Are the windows open or not?", "Is the lamp on or off?"],
    "elsewhere": ["What color is the chair in the bedroom?", "How many beds are upstairs?"],
}
PRESENT = {
    "a moment ago": [
        "What did he just say?",
        "Who just came in?",
        "What was that?",
        "What happened a moment ago?",
    ],
    "now": ["What is happening now?", "Is the dog still asleep?"],
    "future": ["What is he about to do?", "Who will win?"],
    "progressive": [
        "What colored hat is he wearing today?",
        "What is he cooking in the kitchen?",
        "Where is the dog standing?",
    ],
    "none": [
        "What is on the table?",
        "Who has the red ball?",
        "What is on the left?",
        "Where is the cup on the table?",
        "Where is everyone?",
        "Is anyone at the door?",
        "How many red cups are there?",
        "How fast is the speed?",
        "Is she dressed?",
        "How many are dressed in red?",
        "What has he got in his hand?",
        "Have you got a good view?",
        "Can you see the gate since it is dark?",
        "What's left on the plate?",
        "What is used for this?",
        "Tell me when somebody comes.",
        'What does "I was here" mean?',
        "",
        "?!",
    ],
}


@pytest.mark.parametrize("cue", [*PAST, *PRESENT])
def test_each_rule_decides_the_questions_that_it_is_there_for(cue):
    expected = "past" if cue in PAST else "present"
    for question in {**PAST, **PRESENT}[cue]:
        assert cue_of(question) == (expected, cue), question


def test_every_rule_has_an_example():
    assert {name for name, _, _ in RULES} | {"none"} == {*PAST, *PRESENT}


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("where is my phone?", "  WHERE IS MY PHONE  "),
        ("What's he doing?", "What’s he doing"),
        ("Didn't he come?", "Didn’t he come"),
        ("Did he come?", "did, he, come"),
    ],
)
def test_case_space_and_marks_do_not_matter(question, other):
    assert cue_of(question) == cue_of(other)


@pytest.mark.medium
@given(st.text())
@example("\ud800")
@example("where is the " + "a " * 5000)
@example("has " * 5000)
@example('"' * 5001)
def test_any_text_has_one_of_two_tenses_and_always_the_same(text):
    assert tense_of(text) == tense_of(text) == cue_of(text)[0]
    assert tense_of(text) in ("present", "past")


@pytest.mark.parametrize(
    ("text", "question", "context"),
    [
        ("@recall What was it?", "What was it?", "recall"),
        ("@recent What was it?", "What was it?", "recent"),
        ("  @RECALL\twhat  was it? ", "what  was it?", "recall"),
        ("@recall", "", "recall"),
        ("@recallwhat", "@recallwhat", None),
        ("@continuous what?", "@continuous what?", None),
        ("what is @recall ?", "what is @recall ?", None),
        (" what? ", " what? ", None),
        ("", "", None),
    ],
)
def test_a_question_may_begin_with_the_context_that_its_user_wants(text, question, context):
    assert split_override(text) == (question, context)


@given(st.text().filter(lambda text: not text.lstrip().lower().startswith("@rec")))
def test_the_question_is_what_stands_behind_the_override(text):
    assert split_override(text) == (text, None)
    assert split_override(f"@recent {text}") == (text.strip(), "recent")
