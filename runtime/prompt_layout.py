"""A prompt layout as frozen data: which texts, token ids and slots stand where.

It is read from JSON (`prompt_json.py`) or built by a family, and knows no model's words.
`with_text_ids` fills in what a tokenizer makes of its texts; `check_layout` derives every id again
and names the first that differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from .errors import PromptInvalid

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DIALOGUE_TURN = "dialogue_turn"
KINDS = ("system", "frame_open", "frame", "frame_join", "frame_close", "memory_entry", "user",
         "user_close", "assistant")  # fmt: skip
SLOTS = ("embeds", "time", "said", "question", "answer")
ROLES = ("bos_id", "stop_ids", "silent_ids", "speak_ids")


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text; adjacent texts are joined and tokenised once."""

    text: str


@dataclass(frozen=True, slots=True)
class Ids:
    """Literal token ids; each is one of the layout's own tokens (bos, stop, silent, speak)."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """What is filled in when the prompt is written; `name` is one of `SLOTS`."""

    name: str


Piece: TypeAlias = Text | Ids | Slot
Pieces: TypeAlias = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class PromptLayout:
    """How a model's prompt is written.

    Attributes:
        segments: segment kind → its pieces.
        order: kinds in the order of the prompt; a star means any number of them.
        stop_ids: tokens that end an answer.
        max_answer_tokens: tokens that an answer may have.
        bos_id: token that begins a prompt; None where the model has none.
        silent_ids: tokens that say "nothing to say now".
        speak_ids: tokens that begin to speak.
        dialogue_turn: pieces of one turn of earlier dialogue.
        time_text: format of a stream time in seconds, for example `{:.1f}s`.
        question_on_branch: a question is answered on a branch of the cache, then taken back.
        describe: what is asked when an event opens, of a model that speaks when it is asked;
            empty: the frames alone are shown.
        token_texts: `bos_id`, `stop_ids`, ... → the text of each id there; empty: not filled in.
        text_ids: joined literal text → its token ids; empty: not filled in.

    Raises:
        PromptInvalid: an unknown kind or slot, an order naming a missing segment, no stop id.
    """

    segments: Mapping[str, Pieces]
    order: tuple[str, ...]
    stop_ids: tuple[int, ...]
    max_answer_tokens: int
    bos_id: int | None = None
    silent_ids: tuple[int, ...] = ()
    speak_ids: tuple[int, ...] = ()
    dialogue_turn: Pieces = ()
    time_text: str | None = None
    question_on_branch: bool = False
    describe: str = ""
    token_texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text_ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("segments", "token_texts", "text_ids"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        for kind in self.segments:
            _one_of("segments", kind, KINDS)
        for where, piece in self.pieces():
            _check_piece(where, piece)
        self._check_order()
        if not self.stop_ids:
            raise PromptInvalid("prompt.stop_ids is empty, expected the tokens that end an answer")
        if self.max_answer_tokens < 1:
            raise PromptInvalid(
                f"prompt.max_answer_tokens is {self.max_answer_tokens}, expected 1 or more"
            )
        if self.time_text is not None:
            _check_time_text(self.time_text)
        for role in self.token_texts:
            _one_of("token_texts", role, ROLES)

    def _check_order(self) -> None:
        there = {*self.segments, *([DIALOGUE_TURN] if self.dialogue_turn else [])}
        for index, entry in enumerate(self.order):
            where, kind = f"prompt.order[{index}]", entry.removesuffix("*")
            if kind not in there:
                raise PromptInvalid(
                    f"{where} is {entry!r}, but the layout has no such segment, "
                    f"only {', '.join(sorted(there))}"
                )
        if not self.order or len({entry.removesuffix("*") for entry in self.order}) < len(
            self.order
        ):
            raise PromptInvalid(f"prompt.order is {list(self.order)}, expected each kind once")

    def pieces(self) -> Iterator[tuple[str, Piece]]:
        """Every piece with its place, for example (`prompt.segments.user[0]`, Text("User: "))."""
        for name, pieces in self._runs():
            yield from ((f"{name}[{index}]", piece) for index, piece in enumerate(pieces))

    def literal_texts(self) -> tuple[tuple[str, str], ...]:
        """(place, text) of every literal text, adjacent pieces of a segment joined."""
        found: list[tuple[str, str]] = []
        for name, pieces in self._runs():
            was_text = False
            for index, piece in enumerate(pieces):
                if isinstance(piece, Text):
                    place, before = found.pop() if was_text else (f"{name}[{index}]", "")
                    found.append((place, before + piece.text))
                was_text = isinstance(piece, Text)
        return tuple(found)

    def token_ids(self, role: str) -> tuple[int, ...]:
        """The ids of one of `ROLES`; () where the layout has none."""
        if role == "bos_id":
            return () if self.bos_id is None else (self.bos_id,)
        ids: tuple[int, ...] = getattr(self, role)
        return ids

    def _runs(self) -> Iterator[tuple[str, Pieces]]:
        yield from ((f"prompt.segments.{kind}", pieces) for kind, pieces in self.segments.items())
        yield f"prompt.{DIALOGUE_TURN}", self.dialogue_turn


def ids_of(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Token ids of a text as it stands in a prompt: nothing put before or after it."""
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def single_id(tokenizer: Tokenizer, text: str, where: str) -> int:
    """The one token that a text is.

    Raises:
        PromptInvalid: the tokenizer needs no token or several for it.
    """
    ids = ids_of(tokenizer, text)
    if len(ids) != 1:
        raise PromptInvalid(
            f"{where} is {text!r}, which this tokenizer writes as {list(ids)}, expected one token",
            hint="take the tokenizer.json that the model was trained with",
        )
    return ids[0]


def with_text_ids(layout: PromptLayout, tokenizer: Tokenizer) -> PromptLayout:
    """The layout with `text_ids` of every literal text, checked against the tokenizer.

    Raises:
        PromptInvalid: as `check_layout`.
    """
    texts = {text: ids_of(tokenizer, text) for _, text in layout.literal_texts()}
    filled = replace(layout, text_ids=texts)
    check_layout(filled, tokenizer)
    return filled


def check_layout(layout: PromptLayout, tokenizer: Tokenizer) -> None:
    """Derive every id of the layout again and refuse the first that differs.

    Raises:
        PromptInvalid: names the place, the ids that stand there and those the tokenizer gives; also
            for a text that does not survive encoding and decoding, or an id without a text.
    """
    check_ids(layout, tokenizer.get_vocab_size(with_added_tokens=True), "the tokenizer")
    for role in ROLES:
        _check_role(layout, role, tokenizer)
    for where, text in layout.literal_texts():
        got, expected = layout.text_ids.get(text), ids_of(tokenizer, text)
        if got != expected:
            listed = "no ids" if got is None else f"the ids {list(got)}"
            raise PromptInvalid(
                f"{where} is {text!r} with {listed}, but the tokenizer gives {list(expected)}",
                hint="export again from the checkpoint that this tokenizer belongs to",
            )
        if (back := tokenizer.decode(list(expected), skip_special_tokens=False)) != text:
            raise PromptInvalid(
                f"{where} is {text!r}, whose tokens {list(expected)} read back as {back!r}",
                hint="write the text as this tokenizer writes it",
            )
    own = {token for role in ROLES for token in layout.token_ids(role)}
    for where, piece in layout.pieces():
        if isinstance(piece, Ids) and not own.issuperset(piece.ids):
            raise PromptInvalid(
                f"{where} has the ids {list(piece.ids)}, expected tokens that the layout names "
                f"(bos, stop, silent, speak): {sorted(own)}"
            )


def check_ids(layout: PromptLayout, vocab_size: int, owner: str = "the model") -> None:
    """Refuse an id that `owner`, of `vocab_size` tokens, does not have.

    Raises:
        PromptInvalid: names the place and the id.
    """
    places = [(f"prompt.{role}", layout.token_ids(role)) for role in ROLES]
    places += [(where, piece.ids) for where, piece in layout.pieces() if isinstance(piece, Ids)]
    places += [(f"prompt.text_ids[{text!r}]", ids) for text, ids in layout.text_ids.items()]
    for where, ids in places:
        for token in ids:
            if not 0 <= token < vocab_size:
                raise PromptInvalid(
                    f"{where} has the id {token}, but {owner} has the ids 0 to {vocab_size - 1}"
                )


def _check_role(layout: PromptLayout, role: str, tokenizer: Tokenizer) -> None:
    ids, texts = layout.token_ids(role), layout.token_texts.get(role, ())
    if len(ids) != len(texts):
        raise PromptInvalid(
            f"prompt.{role} has the ids {list(ids)}, but prompt.token_texts names {list(texts)}, "
            "expected one text for each id"
        )
    for got, text in zip(ids, texts, strict=True):
        # A token to speak with that the tokenizer splits is known by its first piece.
        expected = ids_of(tokenizer, text)
        is_known = expected[:1] == (got,) and (len(expected) == 1 or role == "speak_ids")
        if not is_known:
            raise PromptInvalid(
                f"prompt.{role} has the id {got} ({tokenizer.decode([got], False)!r}) "
                f"for {text!r}, but the tokenizer gives {list(expected)}",
                hint="export again from the checkpoint that this tokenizer belongs to",
            )


def _check_piece(where: str, piece: Piece) -> None:
    if isinstance(piece, Slot):
        _one_of(where.removeprefix("prompt."), piece.name, SLOTS)
    elif not (piece.text if isinstance(piece, Text) else piece.ids):
        raise PromptInvalid(f"{where} is empty, expected text, ids or a slot")


def _check_time_text(time_text: str) -> None:
    try:
        written = time_text.format(1.5)
    except (ValueError, IndexError, KeyError) as error:
        raise PromptInvalid(f"prompt.time_text is {time_text!r}, no format of a number") from error
    if written == time_text:
        raise PromptInvalid(f"prompt.time_text is {time_text!r}, expected a place for the seconds")


def _one_of(place: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise PromptInvalid(f"prompt.{place} names {name!r}, expected one of {', '.join(known)}")
