"""PyTorch as a peer: as a plain loop around `transformers` has it, and with a bounded cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gpu_arena import ATTENTION, ArenaCache, DeviceArena
from gpu_models import Random
from gpu_peer import Peer
from torch import Tensor


class GrowingPeer(Peer):
    """The baseline: eager PyTorch, scaled dot product attention, `transformers`' own cache."""

    state: tuple[Tensor, ...]

    def __init__(self, model: Random) -> None:
        super().__init__(model)
        self.label = f"PyTorch {dtype_name(model.dtype)}, eager, SDPA, growing cache"
        self.reset()

    def activate(self) -> None:
        """Let the shared decoder attend as `transformers` does."""
        self.model.decoder.set_attn_implementation("sdpa")

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return int(self._cache.get_seq_length())

    @property
    def n_bytes(self) -> int:
        """Of weights and cache."""
        layers: list[Any] = list(self._cache.layers)
        held = (one for one in layers if one.is_initialized)
        return self.model.n_bytes + sum(one.keys.nbytes + one.values.nbytes for one in held)

    def reset(self) -> None:
        """An empty cache."""
        from transformers import DynamicCache

        self._cache = DynamicCache()

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and embeds of one picture."""
        on_device = pixels.to(self.model.device, non_blocking=True)
        scores, embeds, *self.state = self.model.watch(on_device, *self.state)
        return scores, embeds

    def read(self, embeds: Tensor) -> Tensor:
        """Logits behind these embeds."""
        said = self.model.decoder(
            inputs_embeds=embeds, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        logits: Tensor = said.logits[0, -1]
        return logits

    def step(self, token: int) -> int:
        """The likeliest token behind this one."""
        row = self.model.embed(torch.tensor([[token]], device=self.model.device))
        return int(self.read(row).argmax().item())


class Captured:
    """A function of tensors at fixed shapes: a CUDA graph where there is CUDA, else the function.

    Args:
        function: of the tensors of `inputs`; allocates nothing that lives on, and reads no value
            back.
        inputs: examples; what is called with is copied over them.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> None:
        self._function, self._inputs = function, tuple(one.clone() for one in inputs)
        self._graph: Any = None
        if inputs[0].device.type != "cuda":
            return
        cuda: Any = torch.cuda
        aside = cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries choose their kernels now, not in the capture
            for _ in range(3):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the function gives; the next call writes over it."""
        for held, one in zip(self._inputs, inputs, strict=True):
            held.copy_(one, non_blocking=True)
        if self._graph is None:
            return self._function(*self._inputs)
        self._graph.replay()
        return self._outputs


class ArenaPeer(Peer):
    """What peers with a bounded cache share: whole spans go when there is no room."""

    def __init__(self, model: Random, dtype: torch.dtype | None = None) -> None:
        super().__init__(model)
        config, capacity = model.decoder.config, model.shape.capacity
        self.arena = DeviceArena(config, capacity, model.device, dtype or model.dtype)

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self.arena.length

    @property
    def n_bytes(self) -> int:
        """Of weights and cache."""
        return self.model.n_bytes + self.arena.block.nbytes

    def reset(self) -> None:
        """An empty cache."""
        self.arena.reset()

    def refill(self, frames: int) -> None:
        """As after so many frames: nothing before the last ones is left anyway."""
        shape = self.model.shape
        self.fill(min(frames * (shape.frame_tokens + 1), 2 * shape.capacity))

    def make_room(self, tokens: int) -> None:
        """Evict until so many tokens fit."""
        self.arena.make_room(tokens)

    def note(self, kind: str, tokens: int) -> None:
        """So many tokens were read: a frame, or a part of a text."""
        self.arena.add(self._noted(kind, tokens))


class BoundedPeer(ArenaPeer):
    """PyTorch over EdgeStream's bounded cache; steps of fixed shapes are CUDA graphs.

    No part of the product: it shows what cache and graphs bring where no engine is installed.
    """

    state: tuple[Tensor, ...]

    def __init__(self, model: Random) -> None:
        super().__init__(model)
        graphs = ", CUDA graphs" if model.device.type == "cuda" else ""
        self.label = f"PyTorch {dtype_name(model.dtype)}, EdgeStream's bounded cache{graphs}"
        self._cache = ArenaCache(self.arena)
        self._captured: dict[str, Captured] = {}

    def activate(self) -> None:
        """Let the shared decoder attend over the slots of the arena."""
        self.model.decoder.set_attn_implementation(ATTENTION)

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and embeds of one picture."""
        if "watch" not in self._captured:
            on_device = pixels.to(self.model.device)
            self._captured["watch"] = Captured(self.model.watch, on_device, *self.state)
        scores, embeds, conv, ssm = self._captured["watch"](pixels, *self.state)
        self.state = (conv.clone(), ssm.clone())
        return scores, embeds

    def read(self, embeds: Tensor) -> Tensor:
        """Logits behind these embeds: a frame is a captured step, a prompt is not."""
        tokens, begin = embeds.shape[1], torch.tensor([self.length])
        if tokens != self.model.shape.frame_tokens + 1:
            self._cache.limit = self.length + tokens
            logits = self._logits(embeds, begin.to(embeds.device))
            self._cache.limit = self.arena.capacity
            return logits
        if "frame" not in self._captured:
            self._captured["frame"] = Captured(
                lambda *given: (self._logits(*given),), embeds, begin.to(embeds.device)
            )
        return self._captured["frame"](embeds, begin)[0]

    def step(self, token: int) -> int:
        """The likeliest token behind this one."""
        ids, begin = torch.tensor([[token]]), torch.tensor([self.length])
        if "step" not in self._captured:
            device = self.model.device
            self._captured["step"] = Captured(self._next, ids.to(device), begin.to(device))
        return int(self._captured["step"](ids, begin)[0].item())

    def _next(self, ids: Tensor, begin: Tensor) -> tuple[Tensor]:
        return (self._logits(self.model.embed(ids), begin).argmax(),)

    def _logits(self, embeds: Tensor, begin: Tensor) -> Tensor:
        """Of the last of these embeds, which go into the slots from `begin` on."""
        device = embeds.device
        slots = begin + torch.arange(embeds.shape[1], device=device)
        self._cache.slots = slots
        sees = torch.arange(self._cache.limit, device=device) <= slots[:, None]
        said = self.model.decoder(
            inputs_embeds=embeds, position_ids=slots[None], attention_mask=sees[None, None],
            past_key_values=self._cache, use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        logits: Tensor = said.logits[0, -1]
        return logits


def dtype_name(dtype: torch.dtype) -> str:
    """In short."""
    return {"float16": "fp16", "bfloat16": "bf16"}.get(str(dtype).removeprefix("torch."), "fp32")
