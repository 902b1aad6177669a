"""Whether a question is about now or about the past: a small rule of English grammar, as data.

The first rule below that fits decides; where none does, the question is about now. Words in double
quotes are what somebody shows or says, so they are not looked at. The rule sees the words alone:
"What colour is the mug?" is about now, also where the mug left the picture an hour ago. For such a
question the user says which context is meant: "@recall What colour is the mug?".
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

Tense: TypeAlias = Literal["present", "past"]
ContextName: TypeAlias = Literal["recent", "recall"]

# The past tense of common verbs, where it differs from the present ("put" and "read" do not) and
# from the words around a noun ("left" and "found" are met there: "on the left").
IRREGULAR_PAST = (
    "ate became began bit blew bought broke brought built came caught chose drank drew drove fell "
    "flew fought gave grew held kept knew lost made met paid ran rang rode rose said sang sank "
    "sat saw slept sold sent shook spoke spent stole stood swam taught told thought threw took "
    "tore used went woke won wore wrote fed led hid hung lit dug swept laid fled burnt"
)
IRREGULAR_PARTICIPLES = (
    "been bitten broken bought brought built caught chosen come done drunk driven eaten fallen "
    "flown found given gone gotten grown had held hidden hit kept known left lost made met "
    "put run rung said sat seen set sent shown shut slept spoken stolen stood taken thrown told "
    "torn won worn written fed led hung lit dug swept laid let cut hurt burnt read"
)
# Verbs whose past is spelled as their present; behind "who" they would else end in an s.
UNCHANGED_PAST = "put let cut hit set shut hurt read"
SPANS = "seconds? minutes? hours? days? nights? weeks? while"
# Rooms, beside what is called "... room".
ROOMS = (
    "bedroom bathroom kitchen garage hall hallway office workroom workshop basement cellar attic "
    "pantry garden yard balcony"
)

# "walked", not "red", "shed" or "speed".
_ED = r"\w{3,}(?<!e)ed"
_IRREGULAR = rf"(?:{IRREGULAR_PAST.replace(' ', '|')})"
_PAST = rf"(?:{_ED}|{_IRREGULAR})"
_PARTICIPLE = rf"(?:{_ED}|{IRREGULAR_PARTICIPLES.replace(' ', '|')})"
# "he closed", not "is he dressed".
_NOT_PASSIVE = r"(?<!\bis )(?<!\bare )(?<!\bam )\b"
_PERSON = r"(?:i|you|he|she|it|we|they|who|someone|somebody|anyone|anybody)"
_OWNER = r"(?:the|my|our|your|his|her|their|all)"
_PLAIN_WORD = rf"(?!(?:in|on|at|to|from|by|of|relative|(?:\w+ing|{_ED})$)\b)\w+"
_STATE = (
    r"(?:on|off|in|out|open|opened|closed|shut|locked|unlocked|lit|empty|full|clean|dirty|running)"
)
_OPENER = (
    r"(?:(?:hey|hi|ok|okay|please|and|so|do you know|any idea|tell me|show me|"
    r"(?:can|could) you (?:tell|show) me) )*"
)
_SPAN = rf"(?:{SPANS.replace(' ', '|')})"
_DAYTIME = r"(?:time|day|night|morning|noon|afternoon|evening|hour|week)"
_DOING = r"(?!living|dining|morning|evening|building|ceiling|something|anything|nothing)\w{3,}ing"
_ROOM = rf"(?:\w+ room|(?:\w+ )?(?:{ROOMS.replace(' ', '|')}))"

SEARCH, ADVICE, CHECK, ELSEWHERE = "search", "advice", "check", "elsewhere"
OUT_OF_SIGHT = (SEARCH, ADVICE, CHECK, ELSEWHERE)
"""The rules that go by what a question is asked for, not by its tense. They guess more than the
others: "Is the door open?" is also asked under a camera that looks at the door. `recall` shows the
newest frames as well, so such a question costs some attention; a missed one has no evidence."""

RULES: tuple[tuple[str, Tense, str], ...] = (
    # A time that has gone by, more than the few seconds that the recent frames hold.
    ("past time", "past", rf"(?<!moment )(?<!second )(?<!seconds )ago|yesterday|this {_DAYTIME}"),
    ("past time", "past", rf"(?:last|past) (?:(?:\w+ ){{0,2}}{_SPAN}|{_DAYTIME})"),
    ("past time", "past", r"while i(?:m| am| was| have been) (?:out|away|gone|asleep|at work)"),
    # The seconds before now are among the recent frames.
    (
        "a moment ago",
        "present",
        r"(?:did|has|have|had|who|what|was|were|he|she|they|it|someone|somebody|anyone)"
        r"(?: \w+){0,2} just|just now|ago|(?:what|who) was that",
    ),
    # The verb of the question, or of a clause in it, stands in the past tense.
    ("past auxiliary", "past", r"did|didnt|was|wasnt|were|werent|had|hadnt"),
    ("past subject question", "past", rf"(?:who|what) (?!colou?red)(?:{_PAST}|got|left|found)"),
    ("past subject question", "past", rf"who (?:{UNCHANGED_PAST.replace(' ', '|')})"),
    ("past subject question", "past", rf"(?:which|how many|how much) (?!is |are )\w+ {_PAST}"),
    ("past clause", "past", rf"{_NOT_PASSIVE}{_PERSON} (?:last )?{_PAST}"),
    ("past clause", "past", rf"where {_PERSON} (?:left|put|hid)"),
    ("past clause", "past", rf"when {_OWNER}(?: \w+){{1,5}} {_IRREGULAR}"),
    # All the time until now.
    ("past time", "past", r"earlier|previously|formerly|so far|until now|since(?! it is)|ever"),
    ("past time", "past", r"how (?:often|many times)|at (?:the beginning|first|\d\d?:\d\d)"),
    ("past time", "past", rf"(?:summari[sz]e|recap|review)(?: \w+){{0,3}} {_DAYTIME}"),
    ("memory", "past", r"remember|recall|remind me|forgot|forgotten"),
    # What is asked for is now, or follows now.
    ("now", "present", r"now|currently|at (?:the|this) moment|in this moment|still"),
    ("future", "present", r"about to|going to|gonna|will|(?:getting|get) ready|prepar\w+ to"),
    # The present perfect looks back; at most a subject of three words stands in between.
    (
        "present perfect",
        "past",
        rf"(?:has|have|hasnt|havent|ive|youve)(?: \w+){{0,3}} {_PARTICIPLE}",
    ),
    ("present perfect", "past", rf"^(?:has|have|hasnt|havent)(?: \w+){{1,8}} {_PARTICIPLE}"),
    ("present perfect", "past", r"(?:whos|hes|shes) (?:been|come|gone|had|taken|eaten|left)"),
    ("present perfect", "past", r"whats (?:been|come|gone|happened|changed)"),
    ("present perfect", "past", r"any(?:one|body) (?:been|come|call|called|ring|rung|drop|stop)"),
    # The order of things needs both of them: one is over.
    ("order of events", "past", r"before|after|prior to|afterwards?"),
    # Nobody asks his assistant for what he has before his eyes (OUT_OF_SIGHT above): where a thing
    # is, but not how it stands to another or what it does, "Where is the cup on the table?";
    (
        SEARCH,
        "past",
        rf"^{_OPENER}where(?:s| is| are) {_OWNER} (?:{_PLAIN_WORD} ){{0,6}}{_PLAIN_WORD}$",
    ),
    (SEARCH, "past", rf"^{_OPENER}where {_OWNER} (?:{_PLAIN_WORD} ){{1,6}}(?:is|are)$"),
    # what there is in the places around;
    (ADVICE, "past", r"(?:where|what) (?:can|could|should) (?:i|we)(?! do| see| hear)"),
    # whether something was left on or open;
    (CHECK, "past", rf"^(?:is|are) {_OWNER} .*\b{_STATE}(?: or (?:{_STATE}|not))?$"),
    # how things are in another room, unless somebody is doing something there now.
    ("progressive", "present", rf"(?:am|is|are)(?: \w+){{0,8}} {_DOING}"),
    (ELSEWHERE, "past", rf"in {_OWNER} {_ROOM}|downstairs|upstairs"),
    # "What is he wearing today?" is about now; what is left is about the day.
    ("past time", "past", r"today|overnight"),
)
_COMPILED = tuple(
    (name, tense, re.compile(rf"\b(?:{pattern})(?!\w)")) for name, tense, pattern in RULES
)
_QUOTED = re.compile(r"[\"“”«»][^\"“”«»]*[\"“”«»]")
_NO_WORD = re.compile(r"[^\w:]+")
_OVERRIDE = re.compile(r"\s*@(recent|recall)(?=\s|$)", re.IGNORECASE)


def split_override(text: str) -> tuple[str, ContextName | None]:
    """A question without the context that its user asked for, and that context.

    Args:
        text: for example "@recall what colour is the mug?"; upper case is as good.

    Returns:
        (question, "recent" | "recall"), or (text, None) where nothing was asked for. The question
        is empty where nothing follows.
    """
    found = _OVERRIDE.match(text)
    if found is None:
        return text, None
    return text[found.end() :].strip(), "recent" if found[1].lower() == "recent" else "recall"


def tense_of(question: str) -> Tense:
    """Whether a question in English is about now or about the past; see `cue_of` for why.

    Cost: one search in the text per rule.
    """
    return cue_of(question)[0]


def cue_of(question: str) -> tuple[Tense, str]:
    """The tense of a question, and the name of the rule that decided; "none" where none did."""
    words = _plain(question)
    for name, tense, pattern in _COMPILED:
        if pattern.search(words):
            return tense, name
    return "present", "none"


def _plain(question: str) -> str:
    """Lower-case words with one space between; no quotations, no punctuation within words."""
    unquoted = _QUOTED.sub(" ", question.lower())
    return _NO_WORD.sub(" ", unquoted.replace("'", "").replace("’", "")).strip()
