"""Measure a bundle on this device: its parts alone, frames and answers together, its memory.

A round opens the bundle in one mode of the lane, measures and closes it, then in the other. So the
rounds of all figures take turns, only one copy of the weights is in memory at a time, and the
spread of a figure holds what changes from one start to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..runtime.assembly import Attached, attached
from ..runtime.bundle import Bundle, open_bundle
from ..runtime.engine import backend_for
from ..runtime.engine_pool import EngineRules
from ..runtime.engines.ladder import Refusal
from ..runtime.manifest import Variant
from ..runtime.metrics import rss_bytes
from ..runtime.speaking import SpeakingRules
from .bench_advice import Advice, LaneFigures, LaneMode, advice
from .bench_figures import Figure, Samples, over_rounds, rounded
from .bench_load import Load, load, speech_alone
from .bench_parts import Counts, Parts, prefill_tokens
from .bench_scene import Scene
from .engine_place import say
from .machine import Machine, this_machine

SCHEMA = "edgestream.bench/1"
MODES: tuple[LaneMode, ...] = ("shared", "split")
STEPS_A_ROUND = 8
OnStep = Callable[[str, float], None]
"""Told what is done now and how much of all is done, [0, 1]."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What is measured, and for how long.

    Attributes:
        threads: of each engine; 0: as `engine.threads` chooses for each mode.
        rounds: how often everything is measured.
        seconds: of frames and answers together, for each mode in each round.
        fps: of these frames.
        part_s: that one figure of a part may take in a round, seconds.
        counts: how often a part is measured in a round, at most.
        speak_share: that speech is to keep (`engine.speak_share`).
        engines_dir: where compiled engines lie; None: the user's cache folder.
    """

    threads: int = 0
    rounds: int = 3
    seconds: float = 4.0
    fps: float = 4.0
    part_s: float = 1.0
    counts: Counts = field(default_factory=Counts)
    speak_share: float = EngineRules().speak_share
    engines_dir: Path | None = None

    def engines(self, mode: LaneMode) -> EngineRules:
        """As settings would choose them; a heartbeat of 0 encodes every frame."""
        return EngineRules(
            threads=self.threads,
            is_shared=mode == "shared",
            speak_share=self.speak_share,
            heartbeat_s=0.0,
            engines_dir=self.engines_dir,
            tell=say,
        )


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured.

    Attributes:
        bundle: that was measured; its hashes were right.
        machine: the device.
        plan: how.
        variants: role → what ran.
        refusals: variants that did not run here, and why.
        cpu_share: CPU time by wall time and thread while the language model ran alone.
        figures: all of them.
        advice: what to set.
    """

    bundle: Bundle
    machine: Machine
    plan: BenchPlan
    variants: dict[str, Variant]
    refusals: tuple[Refusal, ...]
    cpu_share: float
    figures: tuple[Figure, ...]
    advice: Advice

    def figure(self, name: str) -> Figure:
        """The figure of this name."""
        return next(one for one in self.figures if one.name == name)

    def as_json(self) -> dict[str, Any]:
        """The one line of `edgestream.bench/1` (docs/FORMATS.md, section 5)."""
        providers = {one.provider: f"refused: {one.why}" for one in self.refusals}
        providers |= {one.provider: "proven" for one in self.variants.values()}
        return {
            "schema": SCHEMA,
            "command": "bench",
            "bundle_sha256": self.bundle.sha256,
            "machine": {**asdict(self.machine), "providers": providers},
            "edgestream": __version__,
            "threads": self.plan.engines("shared").engine_threads,
            "cpu_share": rounded(self.cpu_share),
            "engines": {role: one.id for role, one in self.variants.items()},
            "metrics": [figure.as_json() for figure in self.figures],
            "advice": self.advice.as_json(),
            "passed": True,
        }


def bench_bundle(
    folder: Path, plan: BenchPlan | None = None, *, on_step: OnStep = lambda what, share: None
) -> Benchmark:
    """Measure everything.

    Args:
        folder: of the bundle; its weights may be random, since no word is decoded.
        plan: how long.
        on_step: told how far it is.

    Raises:
        BackendMissing: ONNX Runtime is not installed.
        BundleError: a leaf of it, as `open_bundle` and `read_golden` say.
        EngineError: nothing here runs a part, or an engine broke off.
        PromptTooLong, ContextTooSmall: the cache has no room for a question.
    """
    plan = plan or BenchPlan()
    backend_for("cpu")  # without it, every part would only say that nothing here runs it
    bundle = open_bundle(folder)
    return _Rounds(bundle, plan, on_step).measured()


@dataclass(slots=True)
class _Rounds:
    """The rounds of one benchmark. State: what was measured so far."""

    bundle: Bundle
    plan: BenchPlan
    on_step: OnStep
    scene: Scene = field(default_factory=Scene)
    samples: Samples = field(init=False)
    loads: dict[LaneMode, list[Load]] = field(default_factory=lambda: {mode: [] for mode in MODES})
    alone: list[float] = field(default_factory=list)
    variants: dict[str, Variant] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    arena_bytes: int = 0
    rss: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        self.samples = Samples(budget_s=self.plan.part_s)

    def measured(self) -> Benchmark:
        """All rounds, and what came of them."""
        for _ in range(self.plan.rounds):
            for mode in MODES:
                self._measure(mode)
        threads = self.plan.engines("shared").engine_threads
        return Benchmark(
            self.bundle,
            this_machine(),
            self.plan,
            self.variants,
            self.refusals,
            self.samples.cpu_share / threads,
            (*self._part_figures(), *self._load_figures(), *self._memory_figures()),
            advice(
                {mode: self._lane_figures(mode) for mode in MODES},
                fps=self.plan.fps,
                speak_share=self.plan.speak_share,
            ),
        )

    def _measure(self, mode: LaneMode) -> None:
        """One mode; when this returns, nothing holds its model any more."""
        with self._opened(mode) as model:
            self._load(mode, model)
            if mode == "shared":
                self._step("answers alone")
                alone_s = max(0.5, self.plan.seconds / 4)
                self.alone.append(speech_alone(model, self.scene, alone_s))
                self._parts(model)

    def _step(self, what: str) -> None:
        self.on_step(what, self.steps / (STEPS_A_ROUND * self.plan.rounds))
        self.steps += 1

    @contextmanager
    def _opened(self, mode: LaneMode) -> Iterator[Attached]:
        self._step(f"opening, lane {mode}")
        speaking = SpeakingRules(
            recent_every_s=0.0,
            allow_random_weights=True,  # frames of a slow device lie far apart
        )
        begun_s = time.perf_counter()
        with attached(self.bundle, self.plan.engines(mode), speaking) as model:
            self.samples.keep(f"open_{mode}_ms", [1e3 * (time.perf_counter() - begun_s)])
            roles = [part.role for part in self.bundle.manifest.parts]
            self.variants = {role: model.variants[role] for role in roles if role in model.variants}
            self.refusals = model.refusals
            yield model

    def _load(self, mode: LaneMode, model: Attached) -> None:
        self._step(f"frames and answers, lane {mode}")
        found = load(model, self.scene, self.plan.fps, self.plan.seconds)
        self.loads[mode].append(found)
        self.samples.keep(f"{mode}_frame_ms", list(found.frame_ms))
        if mode == "shared":
            self.arena_bytes = model.session.model.arena.n_bytes
            self.rss = self.rss or rss_bytes()  # of a first start: what is closed is not all freed

    def _parts(self, model: Attached) -> None:
        size = self.bundle.manifest.tokens_per_frame
        parts = Parts(model, self.scene, self.samples, size, self.plan.counts)
        self._step("seeing")
        parts.measure_seeing()
        self._step("the language model")
        parts.measure_cache()
        self._step("first words")
        parts.measure_turns()

    def _part_figures(self) -> Iterator[Figure]:
        samples, manifest = self.samples, self.bundle.manifest
        assert manifest.cache is not None
        prefill = prefill_tokens(manifest.cache.capacity)
        yield samples.rate("decode_tokens_per_s", "decode_ms", 1)
        yield samples.rate("prefill_tokens_per_s", "prefill_ms", prefill)
        size = manifest.tokens_per_frame
        yield samples.rate("append_frame_tokens_per_s", "append_frame_ms", size)
        for name in (
            *("decode_ms", "prefill_ms", "append_frame_ms", "evict_ms"),
            *("stage0_ms", "gate_ms", "encoder_ms", "connector_ms"),
            *("first_token_cold_ms", "first_token_warm_ms", "event_to_first_token_ms"),
            *("open_shared_ms", "open_split_ms"),
        ):
            yield samples.latency(name)

    def _load_figures(self) -> Iterator[Figure]:
        yield over_rounds("speech_alone_tokens_per_s", self.alone, "tokens/s")
        for mode in MODES:
            loads, found = self.loads[mode], self._lane_figures(mode)
            threads = {"threads": self.plan.engines(mode).engine_threads}
            due = sum(one.due for one in loads)
            rates = [one.tokens_per_s for one in loads]
            yield self.samples.latency(f"{mode}_frame_ms", **threads)
            if mode == "shared":
                yield _waits(loads)
            yield over_rounds(f"{mode}_speech_tokens_per_s", rates, "tokens/s", **threads)
            yield Figure(f"{mode}_speech_share", found.speech_share, "1", len(loads))
            yield Figure(f"{mode}_drops", sum(one.dropped for one in loads), "1", due)

    def _memory_figures(self) -> Iterator[Figure]:
        memory = self.bundle.manifest.memory
        if memory is not None:
            yield Figure("weights_bytes", memory.weights_bytes, "bytes", 1)
        yield Figure("cache_bytes", self.arena_bytes, "bytes", 1)
        yield Figure("rss_bytes", self.rss, "bytes", 1)

    def _lane_figures(self, mode: LaneMode) -> LaneFigures:
        loads = self.loads[mode]
        alone = over_rounds("alone", self.alone, "tokens/s").value
        speech = over_rounds("speech", [one.tokens_per_s for one in loads], "tokens/s").value
        dropped = sum(one.dropped for one in loads) / sum(one.due for one in loads)
        frame_ms = self.samples.latency(f"{mode}_frame_ms")
        return LaneFigures(frame_ms.more["p99"], frame_ms.n, dropped, speech / alone)


def _waits(loads: list[Load]) -> Figure:
    """Waits of frames for the shared lane: medians of the rounds, and the worst of them."""
    rounds = [one.wait_ms for one in loads]
    p50 = over_rounds("p50", [one["p50"] for one in rounds], "ms").value
    more = {
        "p50": p50,
        "p99": max(one["p99"] for one in rounds),
        "worst": max(one["max"] for one in rounds),
    }
    return Figure("shared_lane_wait_ms", p50, "ms", sum(one["n"] for one in rounds), more)
