"""How questions reach the inbox of a run: written before it, typed or piped while it runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..runtime.errors import UsageError
from ..runtime.inbox import Inbox
from .questions import LATEST_S, AskedQuestion, parse_question
from .typed_questions import ask_line, asked_while_running, lines_from

FROM_STDIN = "-"
HOW_TO_ASK = "Type a question and press Enter; Ctrl-C ends."
READING = "reading questions from stdin until it ends"
SAY_AFTER_S = 1.0
# As many as may wait at all (`session.questions_waiting`); a pipe that never ends is told so.
MOST_KNOWN = 100_000
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


def asked_before(
    asks: Asks, *, is_live: bool, has_left: Callable[[], bool]
) -> tuple[AskedQuestion, ...]:
    """Every question that is known before the first frame.

    A pipe is read to its end before a file is watched, so that the answers do not depend on how
    fast the lines come. What is waited for is said on stderr.

    Args:
        asks: of the user.
        is_live: frames do not wait, and so nobody waits for a pipe either.
        has_left: whether the run is being left; the pipe is then let go.

    Raises:
        UsageError: stdin holds more than MOST_KNOWN of them.
    """
    known = list(asks.questions)
    if asks.reads_stdin and not (is_live or is_typed_at()):
        with _said_after(SAY_AFTER_S, READING):
            for line in lines_from(sys.stdin.fileno(), has_left):
                ask_line(line, known.append)
                if len(known) > MOST_KNOWN:
                    raise UsageError(
                        f"stdin holds more than {MOST_KNOWN} questions, expected a list that ends",
                        hint="add --realtime: questions are then asked as they come",
                    )
    return tuple(known)


@contextmanager
def asked(
    known: Sequence[AskedQuestion], inbox: Inbox, *, has_end: bool, reads_stdin: bool
) -> Iterator[None]:
    """Ask what is known before the run, and while the block runs what is typed or piped.

    A question without a time is about the end of a source that has one; one that comes while it
    runs, or about a camera, is about now.

    Args:
        known: from `asked_before`.
        inbox: of the run; it has a language model, and room for all that is known.
        has_end: of the source.
        reads_stdin: more come while it runs, where frames do not wait for them.

    Raises:
        QuestionRefused: the inbox has no room.
    """
    untimed_s = AT_THE_END_S if has_end else None
    for question in known:
        inbox.ask(question.text, untimed_s if question.time_s is None else question.time_s)

    def ask_now(question: AskedQuestion) -> None:
        inbox.ask(question.text, question.time_s)

    if is_typed_at():
        _say(HOW_TO_ASK)
    if is_typed_at() or reads_stdin:
        with asked_while_running(sys.stdin.fileno(), ask_now):
            yield
    else:
        yield


@contextmanager
def _said_after(seconds: float, words: str) -> Iterator[None]:
    """A line on stderr where the block takes longer than that."""
    timer = threading.Timer(seconds, _say, [words])
    timer.daemon = True  # a stderr that takes nothing holds nobody
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(words: str) -> None:
    if sys.stderr is not None:
        print(words, file=sys.stderr, flush=True)
