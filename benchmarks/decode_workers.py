"""PyTorch and EdgeStream as peers in processes of their own; see `decode_peers.py`.

python benchmarks/decode_workers.py torch CHECKPOINT bfloat16
python benchmarks/decode_workers.py edgestream BUNDLE 16      16 tokens a chunk
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from workers import rss_bytes, serve, timed_pass

CAPACITY = 512


class TorchPeer:
    """A decoder in eager PyTorch with `transformers`' own growing cache, one thread.

    Args:
        folder: a checkpoint.
        dtype: bfloat16 or float32.
    """

    def __init__(self, folder: str, dtype: str) -> None:
        import torch

        from edgestream.models.families import load_checkpoint

        torch.set_num_threads(1)
        self._torch = torch
        self.decoder = load_checkpoint(Path(folder)).decoder.to(getattr(torch, dtype)).eval()
        self._rows = self.decoder.get_input_embeddings()
        self.dtype = self._rows.weight.dtype
        self.reset()

    def reset(self) -> None:
        """An empty cache."""
        from transformers import DynamicCache

        self._cache = DynamicCache()

    def append(self, ids: Sequence[int]) -> Any:
        """Read these tokens; logits (vocabulary,) of the last position."""
        with self._torch.inference_mode():
            return self._read(self._rows(self._torch.tensor([list(ids)])))

    def append_embeds(self, embeds: np.ndarray) -> Any:
        """The same of embeds, (tokens, hidden) float32."""
        with self._torch.inference_mode():
            return self._read(self._torch.from_numpy(embeds)[None].to(self.dtype))

    def rows(self, ids: Sequence[int]) -> np.ndarray:
        """Embeds of tokens, (tokens, hidden) float32."""
        with self._torch.inference_mode():
            return self._rows(self._torch.tensor(list(ids))).float().numpy()

    def _read(self, embeds: Any) -> Any:
        said = self.decoder(
            inputs_embeds=embeds, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        return said.logits[0, -1]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits behind these tokens, (vocabulary,) float32."""
        self.reset()
        return self.append(ids).float().numpy()


class EdgeStreamPeer:
    """The decoder of a bundle over an arena of constant size, one thread.

    Args:
        folder: a bundle.
        chunk_tokens: that are read at a time.
    """

    def __init__(self, folder: str, chunk_tokens: int) -> None:
        from bounded_context import language_model

        from edgestream.runtime.bundle import open_bundle

        bundle = open_bundle(folder, check="manifest")
        self._model = language_model(bundle, CAPACITY, chunk_tokens=chunk_tokens)

    def reset(self) -> None:
        """An empty cache."""
        self._model.arena.reset()

    def append(self, ids: Sequence[int]) -> Any:
        """Read these tokens; logits (vocabulary,) of the last position."""
        if len(ids) == 1:
            return self._model.step(ids[0])
        return self._model.append(self._model.rows(ids))

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits behind these tokens, (vocabulary,) float32."""
        self.reset()
        return np.array(self.append(ids))


class TorchStream:
    """Recorded frames into an unbounded cache, as a plain loop around a decoder has it."""

    def __init__(self, peer: TorchPeer) -> None:
        self._peer = peer
        self._frames: np.ndarray | None = None
        self._count = 0

    def open(self, recording: str) -> dict[str, Any]:
        """Start again with the recording in this file; see `recorded_stream.py`."""
        with np.load(recording) as arrays:
            self._frames, prefix = arrays["embeds"], arrays["prefix_ids"].tolist()
            self._join = self._peer.rows(arrays["join_ids"].tolist())
        self._peer.reset()
        self._peer.append(prefix)
        self._count = 0
        return {}

    def frames(self, count: int) -> dict[str, Any]:
        """Read so many frames more; seconds of each."""
        assert self._frames is not None
        taken_s, cpu_s, begun_s = [], time.process_time(), time.perf_counter()
        for _ in range(count):
            embeds = self._frames[self._count % len(self._frames)]
            frame_s = time.perf_counter()
            joined = np.concatenate([self._join, embeds]) if self._count else embeds
            self._peer.append_embeds(joined)
            taken_s.append(time.perf_counter() - frame_s)
            self._count += 1
        share = (time.process_time() - cpu_s) / (time.perf_counter() - begun_s)
        return {"frame_s": taken_s, "cpu_share": share, "rss_bytes": rss_bytes()}


def main() -> None:
    """Answer until stdin is closed."""
    kind, folder, how = sys.argv[1:]
    peer = TorchPeer(folder, how) if kind == "torch" else EdgeStreamPeer(folder, int(how))

    def logits(ids: Sequence[int], file: str) -> dict[str, Any]:
        np.save(file, peer.logits(ids))
        return {}

    answers: dict[str, Callable[..., dict[str, Any]]] = {
        "pass": lambda: timed_pass(peer),
        "logits": logits,
        "memory": lambda: {"rss_bytes": rss_bytes()},
    }
    if isinstance(peer, TorchPeer):
        stream = TorchStream(peer)
        answers |= {"open": stream.open, "frames": stream.frames}
    serve(answers)


if __name__ == "__main__":
    main()
