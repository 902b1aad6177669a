"""llama.cpp as a peer in a process of its own; `llama_gguf.py` says how its environment is made.

LLAMA_PYTHON benchmarks/llama_worker.py MODEL.gguf
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import llama_cpp  # type: ignore[import-not-found]
import numpy as np
from workers import rss_bytes, serve, timed_pass


class LlamaPeer:
    """A model of llama.cpp, one thread, its cache in float16 as it has it by default."""

    def __init__(self, file: str) -> None:
        self._llama = llama_cpp.Llama(
            file, n_ctx=512, n_batch=512, n_threads=1, n_threads_batch=1, verbose=False
        )

    def reset(self) -> None:
        """An empty cache."""
        self._llama.reset()

    def append(self, ids: Sequence[int]) -> Any:
        """Read these tokens; a pointer to the logits, asked for so that they are surely there."""
        self._llama.eval(list(ids))
        return llama_cpp.llama_get_logits_ith(self._llama.ctx, -1)

    def logits(self, ids: Sequence[int], file: str) -> dict[str, Any]:
        """Write the logits behind these tokens, (vocabulary,) float32, to a .npy file."""
        self.reset()
        found = np.ctypeslib.as_array(self.append(ids), (self._llama.n_vocab(),))
        np.save(file, found.astype(np.float32))
        return {}


def main() -> None:
    """Answer until stdin is closed."""
    peer = LlamaPeer(sys.argv[1])
    serve({
        "pass": lambda: timed_pass(peer),
        "logits": peer.logits,
        "memory": lambda: {"rss_bytes": rss_bytes()},
    })  # fmt: skip


if __name__ == "__main__":
    main()
