"""How a language model speaks in a run: what it sees, when it speaks, how it chooses words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from .context import Context
from .context_continuous import ContinuousContext, ContinuousRules, reserved_slots
from .context_recent import RecentContext, RecentRules
from .decoder import Decoding
from .engine import Engine
from .errors import SettingsInvalid
from .eviction import EvictionPolicy
from .language_model import LanguageModel
from .manifest import Manifest
from .memory.key_frame import MemoryView
from .memory.key_frame_rules import KeyFrameRules
from .prompt import Encode, PromptParts
from .prompt_layout import PromptLayout
from .prompt_plan import planned_prompt
from .recall import Recall, RecallRules
from .stream_prompt import StreamText
from .token_gate import TokenGate

BLOCK_SHARE, RECENT_SHARE, PROTECTED_SHARE = 8, 2, 8
"""Of the slots that are left to the stream, where nothing else is said: an eighth goes at a time,
the newest half stays, and frames with an event may hold an eighth."""


FRAME_WORDS = 8
"""Tokens around one frame: its opening, its closing, its time."""


@dataclass(frozen=True, slots=True)
class TokenGateRules:
    """The model's own decision to speak; see `TokenGate`."""

    speak_below: float = 0.725
    once_per_stretch: bool = True


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """What is kept of the stream.

    Attributes:
        key_frames: how they are made; None to keep the last frames alone.
        budget_bytes: for everything that is kept; 0: as the bundle says.
        dialogue_bytes: of that, for questions and answers.
    """

    key_frames: KeyFrameRules | None = field(default_factory=KeyFrameRules)
    budget_bytes: int = 0
    dialogue_bytes: int = 64_000


@dataclass(frozen=True, slots=True)
class SpeakingRules:
    """What the user chose; what is None or 0 is taken from the model.

    Attributes:
        context: what the model has before it: recent (the last frames), recall (and what memory
            keeps), auto (recall for questions about the past) or continuous.
        memory: what is kept.
        recall: which remembered frames are shown, and when.
        cache_slots: of its cache; 0: as the bundle says.
        recent_frames, recent_every_s: of the context recent; see `RecentRules`.
        dialogue_turns: that the context recent shows again.
        sink_slots, recent_slots, block_slots, protected_slots: of the context continuous; see
            `EvictionPolicy` and `ContinuousRules`.
        read_fps: frames a second that the context continuous reads; 0: as the bundle says.
        skip_still: the context continuous does not read a frame on which nothing changed.
        on_branch: a question is forgotten by the context continuous; None: as the layout says.
        describe_prompt: what is asked when an event opens; empty: as the layout says.
        decoding: how words are chosen.
        partials_every_s: between two partial texts, at least, seconds.
        token_gate: None where another gate decides.
        gate_query: what the bundle's own gate looks for, where it reads that; empty: nothing.
        adapter: of the bundle, that answers where no request names another; None: the base.
        allow_random_weights: a model that has learned nothing may speak; for trying things out.
    """

    context: Literal["auto", "recent", "recall", "continuous"] = "auto"
    memory: MemoryRules = field(default_factory=MemoryRules)
    recall: RecallRules = field(default_factory=RecallRules)
    cache_slots: int = 0
    recent_frames: int = 4
    recent_every_s: float = 1.0
    dialogue_turns: int = 4
    sink_slots: int = 0
    recent_slots: int = 0
    block_slots: int = 0
    protected_slots: int = 0
    read_fps: float = 0.0
    skip_still: bool = True
    on_branch: bool | None = None
    describe_prompt: str = ""
    decoding: Decoding = field(default_factory=Decoding)
    partials_every_s: float = 0.1
    token_gate: TokenGateRules | None = None
    gate_query: str = ""
    adapter: str | None = None
    allow_random_weights: bool = False


def context_of(
    rules: SpeakingRules,
    model: LanguageModel,
    manifest: Manifest,
    layout: PromptLayout,
    encode: Encode,
    view: Callable[[], MemoryView],
    plain: Callable[[str], str] = str,
    indexer: Engine | None = None,
) -> Context:
    """The context that the rules name.

    Args:
        model: the decoder and its cache.
        manifest: its rate and the tokens of a frame.
        layout, encode: how it reads.
        view: what memory keeps now.
        plain: a text of the user → one without tokens that steer the model.
        indexer: of the bundle, where the router is that.

    Raises:
        SettingsInvalid: the cache has no room for the shortest question about one frame, or an
            answer may be longer than the model's.
    """
    limit = min(layout.max_answer_tokens, rules.decoding.max_tokens or layout.max_answer_tokens)
    if (rules.decoding.max_tokens or 0) > layout.max_answer_tokens:
        raise SettingsInvalid(
            f"session.max_answer_tokens is {rules.decoding.max_tokens}, expected at most the "
            f"{layout.max_answer_tokens} that the bundle's model was made for"
        )
    describe = rules.describe_prompt or layout.describe
    _check_room(model.arena.capacity, layout, encode, manifest.tokens_per_frame)
    if rules.context != "continuous":
        recent = RecentRules(
            rules.recent_frames,
            rules.recent_every_s,
            rules.dialogue_turns,
            limit,
            describe,
        )
        recall = Recall(rules.recall, view, lambda text: model.rows(encode(text)), indexer)
        return RecentContext(model, layout, encode, lambda: view().recent, recent, plain, recall)
    text = StreamText(layout, encode)
    capacity = model.arena.capacity
    stream = capacity - reserved_slots(capacity, limit) - len(text.system_ids()) - FRAME_WORDS
    _check_sinks(rules.sink_slots, stream - manifest.tokens_per_frame)
    policy = EvictionPolicy(
        recent_slots=rules.recent_slots or stream // RECENT_SHARE,
        block_slots=rules.block_slots or stream // BLOCK_SHARE,
        sink_slots=rules.sink_slots,
    )
    on_branch = layout.question_on_branch if rules.on_branch is None else rules.on_branch
    continuous = ContinuousRules(
        policy,
        limit,
        rules.protected_slots or stream // PROTECTED_SHARE,
        1.0 / (rules.read_fps or manifest.input.fps),
        rules.skip_still,
        on_branch,
        describe,
    )
    return ContinuousContext(model, layout, text, continuous, plain)


def slots_needed(layout: PromptLayout, encode: Encode, frame_tokens: int) -> int:
    """Slots of the smallest cache with which a model can speak.

    Half of it, which answers leave to prompts, holds the shortest question about one frame.

    Args:
        layout, encode: how it reads.
        frame_tokens: of one frame.
    """
    shortest = planned_prompt(layout, encode, PromptParts("?"), budget_tokens=1 << 30).tokens
    return 2 * (shortest + frame_tokens + FRAME_WORDS)


def _check_room(capacity: int, layout: PromptLayout, encode: Encode, frame_tokens: int) -> None:
    needed = slots_needed(layout, encode, frame_tokens)
    if capacity < needed:
        raise SettingsInvalid(
            f"the cache has {capacity} slots, expected {needed} or more: the shortest question "
            f"about one frame takes {needed // 2}, and an answer may take as many",
            hint="raise context.cache_slots, or leave it to the bundle",
        )


def _check_sinks(sink_slots: int, most: int) -> None:
    if sink_slots > most:
        raise SettingsInvalid(
            f"context.sink_slots is {sink_slots}, expected at most {max(most, 0)}: the rest of the "
            "cache is for the system text, one frame, a question and its answer",
            hint="lower it, or use a larger cache",
        )


def token_gate_of(rules: SpeakingRules, layout: PromptLayout) -> TokenGate | None:
    """The token gate; None where another gate decides.

    Raises:
        SettingsInvalid: it needs the context continuous, or a model with a silent token.
    """
    if rules.token_gate is None:
        return None
    if rules.context != "continuous":
        raise SettingsInvalid(
            f"the gate token got the context {rules.context}, expected continuous: it decides "
            "from what the model reads of every frame",
            hint="add --set context.kind=continuous",
        )
    return TokenGate(
        layout.silent_ids,
        threshold=rules.token_gate.speak_below,
        once_per_stretch=rules.token_gate.once_per_stretch,
    )
