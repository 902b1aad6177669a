"""Each part of a bundle alone: what one frame, one token, one eviction and one answer take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.arena import Arena
from ..runtime.assembly import Attached
from ..runtime.encoder import PixelEncoder
from ..runtime.eviction import EvictionPolicy, Span, keep_slots, kept_spans
from ..runtime.gate_change import ChangeGate
from ..runtime.motion import MotionDetector
from ..runtime.values import Event, Float32, Question, Turn
from .bench_figures import Samples
from .bench_scene import Scene

PREFILL_TOKENS = 256
"""Or what fits."""
QUESTIONS = ("What is there now?", "Where is it?")
"""Two, so that a question about the same frames is another one."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each part is measured in one round, at most."""

    cheap: int = 20
    engine: int = 8
    answer: int = 2


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one attached bundle.

    Attributes:
        model: in the context recent, with its memory.
        scene: what is looked at.
        samples: where the times go.
        tokens_per_frame: that the language model reads.
        counts: how many.
    """

    model: Attached
    scene: Scene
    samples: Samples
    tokens_per_frame: int
    counts: Counts

    def measure_seeing(self) -> None:
        """Stage 0, gate, encoder and connector."""
        samples, scene, counts = self.samples, self.scene, self.counts
        motion, pixels, gate = MotionDetector(), PixelEncoder(), ChangeGate()

        def decide() -> float:
            features = pixels.encode(scene.next())
            return samples.ms(lambda: gate.step(features))

        def look() -> float:
            frame = scene.next()
            return samples.ms(lambda: motion.step(frame))

        def encode() -> float:
            frame = scene.next()
            return samples.ms(lambda: self.model.encoder.encode(frame))

        samples.measure("stage0_ms", look, times=counts.cheap)
        samples.measure("encoder_ms", encode, times=counts.engine)
        fresh = self.model.encoder.encode(scene.next())
        if self.model.gate is not None:  # it is what runs where nobody chose another one
            samples.measure(
                "gate_ms",
                lambda: samples.ms(lambda: self.model.quiet(fresh)),
                times=counts.cheap,
            )
        else:
            samples.measure("gate_ms", decide, times=counts.cheap)
        quiet = self.model.quiet(fresh)
        connect = self.model.connector.step
        samples.measure(
            "connector_ms", lambda: samples.ms(lambda: connect(fresh, quiet)), times=counts.cheap
        )

    def measure_cache(self) -> None:
        """Decoding and a frame at a half-full cache, a long prompt, an eviction."""
        samples, counts, model = self.samples, self.counts, self.model.session.model
        arena = model.arena
        embeds = np.repeat(model.rows([0]), prefill_tokens(arena.capacity), axis=0)
        frame = np.repeat(embeds[:1], min(self.tokens_per_frame, arena.capacity), axis=0)
        keep = newer_half(arena.capacity, self.tokens_per_frame)
        fill(arena, min(arena.capacity // 2, arena.capacity - len(frame)))
        half = arena.mark()

        def append(part: Float32) -> float:
            took_ms = samples.engine_ms(lambda: model.append(part))
            arena.rewind(half)
            return took_ms

        def decode() -> float:
            took_ms = samples.engine_ms(lambda: model.step(0))
            arena.rewind(half)
            return took_ms

        def prefill() -> float:
            arena.reset()
            return samples.engine_ms(lambda: model.append(embeds))

        def evict() -> float:
            fill(arena, arena.capacity)
            return samples.ms(lambda: model.evict(keep))

        samples.measure("decode_ms", decode, times=2 * counts.cheap)
        samples.measure("append_frame_ms", lambda: append(frame), times=counts.engine)
        samples.measure("prefill_ms", prefill, times=counts.answer)
        samples.measure("evict_ms", evict, times=counts.engine)
        self.model.session.reset()

    def measure_turns(self) -> None:
        """First tokens: of a question with an empty cache, of the next one, of an event."""
        samples, times = self.samples, self.counts.answer
        for _ in range(4):
            self._look()
        asked = 0

        def ask() -> float:
            nonlocal asked
            asked += 1
            question = question_turn(QUESTIONS[asked % 2], self.scene.now_s)
            return samples.ms(lambda: self._first_token(question))

        def ask_cold() -> float:
            self.model.session.reset()
            return ask()

        def happen() -> float:
            frame_ms = samples.ms(self._look)
            now_s = self.scene.now_s
            event = Turn("event", "event", now_s, "describe", events=(Event("e", "cut", now_s),))
            return frame_ms + samples.ms(lambda: self._first_token(event))

        samples.measure("first_token_cold_ms", ask_cold, times=times)
        samples.measure("first_token_warm_ms", ask, times=2 * times)
        samples.measure("event_to_first_token_ms", happen, times=times)
        self.model.session.reset()

    def _look(self) -> None:
        """One frame on its way into memory."""
        model = self.model
        features = model.encoder.encode(self.scene.next())
        decision = model.quiet(features)
        model.memory.step(features, model.connector.step(features, decision), decision)

    def _first_token(self, turn: Turn) -> None:
        context = self.model.session.context
        prompted = context.prompt(turn, lambda: False)
        assert prompted is not None, "nobody cancels"
        context.answered(int(prompted.logits.argmax()))


def newer_half(capacity: int, tokens_per_frame: int) -> NDArray[np.int64]:
    """Slots of a full cache that stay when the older half of its frames goes."""
    size = min(tokens_per_frame, max(1, capacity // 4))
    spans = [Span("prefix", size, 0.0)]
    while (left := capacity - sum(span.slots for span in spans)) > 0:
        spans.append(Span("frame", min(size, left), float(len(spans))))
    policy = EvictionPolicy(recent_slots=0, block_slots=capacity // 2)
    return keep_slots(spans, kept_spans(spans, policy, size, capacity))


def fill(arena: Arena, slots: int) -> None:
    """Put small random numbers into an empty arena, as if an engine had written them.

    What attention and evictions cost does not depend on what is in the slots.
    """
    arena.reset()
    arena.reserve(slots)
    random = np.random.default_rng(0)
    for tensor in arena.tensors().values():
        slot = 0.1 * random.standard_normal((*tensor.shape[:2], 1, tensor.shape[3]))
        tensor[:, :, :slots] = slot
    arena.advance(slots)


def prefill_tokens(capacity: int) -> int:
    """Tokens of the long prompt."""
    return min(PREFILL_TOKENS, capacity)


def question_turn(text: str, time_s: float) -> Turn:
    """A question that is due at once."""
    return Turn("question", "question", time_s, "answer", Question("q", text, time_s))
