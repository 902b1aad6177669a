"""How questions reach the inbox of a run: written before it, typed or piped while it runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..runtime.errors import UsageError
from ..runtime.inbox import Inbox
from .questions import LATEST_S, AskedQuestion, parse_question
from .typed_questions import ask_line, asked_while_running, lines_from

FROM_STDIN = "-"
HOW_TO_ASK = "Type a question and press Enter; Ctrl-C ends."
# Later than any time that can be asked for: the inbox has it due when the stream ends.
AT_THE_END_S = 2 * LATEST_S


@dataclass(frozen=True, slots=True)
class Asks:
    """What is asked with `--ask`.

    Attributes:
        questions: those that were written out.
        reads_stdin: more of them come as lines on stdin.
    """

    questions: tuple[AskedQuestion, ...] = ()
    reads_stdin: bool = False


def asks_from_options(written: Sequence[str]) -> Asks:
    """The questions of every `--ask`; `-` stands for lines on stdin.

    Raises:
        UsageError: one of them is none, or stdin is closed.
    """
    reads_stdin = FROM_STDIN in written
    if reads_stdin and sys.stdin is None:
        raise UsageError("--ask - reads questions from stdin, which is closed")
    questions = [parse_question(text) for text in written if text != FROM_STDIN]
    return Asks(tuple(questions), reads_stdin)


def is_typed_at() -> bool:
    """Whether a person may type: stdin is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()  # None where the caller closed it


@contextmanager
def asked(
    asks: Asks, inbox: Inbox, *, is_live: bool, has_end: bool, left: threading.Event
) -> Iterator[None]:
    """Ask what is known before the run, and while the block runs what is typed or piped.

    A question without a time is about the end of a source that has one; one that comes while it
    runs, or about a camera, is about now. A pipe is read to its end before a file is watched, so
    that the answers do not depend on how fast the lines come.

    Args:
        asks: of the user.
        inbox: of the run; it has a language model.
        is_live: frames do not wait.
        has_end: of the source.
        left: set where the run is left, also while stdin is read.

    Raises:
        QuestionRefused: the inbox does not hold as many as were written out.
    """
    untimed_s = AT_THE_END_S if has_end else None

    def ask_before(question: AskedQuestion) -> None:
        inbox.ask(question.text, untimed_s if question.time_s is None else question.time_s)

    def ask_now(question: AskedQuestion) -> None:
        inbox.ask(question.text, question.time_s)

    for question in asks.questions:
        ask_before(question)
    if is_typed_at():
        if sys.stderr is not None:
            print(HOW_TO_ASK, file=sys.stderr, flush=True)
        with asked_while_running(sys.stdin.fileno(), ask_now):
            yield
    elif asks.reads_stdin and is_live:
        with asked_while_running(sys.stdin.fileno(), ask_now):
            yield
    else:
        if asks.reads_stdin:
            for line in lines_from(sys.stdin.fileno(), left.is_set):
                ask_line(line, ask_before)
        yield
