"""Peers in processes of their own: one at a time is asked to work, the others sleep.

Nothing but the standard library, so that a peer may live in another environment.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

PREFILL_TOKENS, APPEND_TOKENS, DECODE_TOKENS = 256, 64, 64
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class Worker:
    """A process that answers each JSON line with one; leaving the block ends it.

    Args:
        command: that starts it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = " ".join(command)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD, "TOKENIZERS_PARALLELISM": "false"},
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Its answer.

        Raises:
            RuntimeError: it has ended; its own words are on stderr.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):  # a library may say something too
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"{self._command} ended with {self._process.wait()}")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def serve(answers: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer what is asked on stdin until it is closed."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = answers[request.pop("do")](**request)
        print(json.dumps(answer), flush=True)


class Peer(Protocol):
    """A decoder with a cache, as the comparison sees it."""

    def reset(self) -> None:
        """An empty cache."""

    def append(self, ids: Sequence[int]) -> Any:
        """Read these tokens; logits of the last position, in the peer's own form."""


def some_ids(count: int, seed: int = 0) -> list[int]:
    """Token ids that every vocabulary here has."""
    chosen = random.Random(seed)
    return [chosen.randrange(2, 480) for _ in range(count)]


def timed_pass(peer: Peer) -> dict[str, Any]:
    """A prompt into an empty cache, a frame's worth behind it, then one token at a time.

    Returns:
        Tokens per second of the three, and CPU seconds per wall second.
    """
    ids = some_ids(PREFILL_TOKENS + APPEND_TOKENS + DECODE_TOKENS)
    prompt, frame = ids[:PREFILL_TOKENS], ids[PREFILL_TOKENS:-DECODE_TOKENS]
    peer.reset()
    cpu_s, begun_s = time.process_time(), time.perf_counter()
    peer.append(prompt)
    prefilled_s = time.perf_counter()
    peer.append(frame)
    appended_s = time.perf_counter()
    for token in ids[-DECODE_TOKENS:]:
        peer.append([token])
    decoded_s = time.perf_counter()
    return {
        "prefill": PREFILL_TOKENS / (prefilled_s - begun_s),
        "append": APPEND_TOKENS / (appended_s - prefilled_s),
        "decode": DECODE_TOKENS / (decoded_s - appended_s),
        "cpu_share": (time.process_time() - cpu_s) / (decoded_s - begun_s),
    }


def rss_bytes() -> int:
    """Resident memory of this process, bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
