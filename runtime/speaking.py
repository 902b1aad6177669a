"""How a language model speaks in a run: what it sees, when it speaks, how it chooses words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from .context_continuous import ContinuousContext, ContinuousRules
from .context_recent import RecentContext, RecentRules
from .decoder import Decoding
from .errors import SettingsInvalid
from .eviction import EvictionPolicy
from .language_model import LanguageModel
from .prompt import Encode
from .prompt_layout import PromptLayout
from .recent import RecentView
from .session import Context
from .stream_prompt import StreamText
from .token_gate import TokenGate

BLOCK_SHARE, RECENT_SHARE, PROTECTED_SHARE = 8, 2, 8
"""Of the cache, where nothing else is said: an eighth goes at a time, the newest half stays, and
frames with an event may hold an eighth."""


@dataclass(frozen=True, slots=True)
class TokenGateRules:
    """The model's own decision to speak; see `TokenGate`."""

    speak_below: float = 0.725
    once_per_stretch: bool = True


@dataclass(frozen=True, slots=True)
class SpeakingRules:
    """What the user chose; what is None or 0 is taken from the model.

    Attributes:
        context: what the model has before it.
        cache_slots: of its cache; 0: as the bundle says.
        recent_frames, recent_every_s: of the context recent; see `RecentRules`.
        dialogue_turns: that the context recent shows again.
        sink_slots, recent_slots, block_slots, protected_slots: of the context continuous; see
            `EvictionPolicy` and `ContinuousRules`.
        skip_still: the context continuous does not read a frame on which nothing changed.
        on_branch: a question is forgotten by the context continuous; None: as the layout says.
        describe_prompt: what is asked when an event opens; empty: nothing.
        decoding: how words are chosen.
        partials_every_s: between two partial texts, at least, seconds.
        token_gate: None where another gate decides.
        allow_random_weights: a model that has learned nothing may speak; for trying things out.
    """

    context: Literal["recent", "continuous"] = "recent"
    cache_slots: int = 0
    recent_frames: int = 4
    recent_every_s: float = 1.0
    dialogue_turns: int = 4
    sink_slots: int = 0
    recent_slots: int = 0
    block_slots: int = 0
    protected_slots: int = 0
    skip_still: bool = True
    on_branch: bool | None = None
    describe_prompt: str = ""
    decoding: Decoding = field(default_factory=Decoding)
    partials_every_s: float = 0.1
    token_gate: TokenGateRules | None = None
    allow_random_weights: bool = False


def context_of(
    rules: SpeakingRules,
    model: LanguageModel,
    layout: PromptLayout,
    encode: Encode,
    view: Callable[[], RecentView],
) -> Context:
    """The context that the rules name.

    Args:
        model: the decoder and its cache.
        layout, encode: how it reads.
        view: what memory keeps now.
    """
    limit = min(layout.max_answer_tokens, rules.decoding.max_tokens or layout.max_answer_tokens)
    if rules.context == "recent":
        recent = RecentRules(
            rules.recent_frames,
            rules.recent_every_s,
            rules.dialogue_turns,
            limit,
            rules.describe_prompt,
        )
        return RecentContext(model, layout, encode, view, recent)
    capacity = model.arena.capacity
    policy = EvictionPolicy(
        recent_slots=rules.recent_slots or capacity // RECENT_SHARE,
        block_slots=rules.block_slots or capacity // BLOCK_SHARE,
        sink_slots=rules.sink_slots,
    )
    on_branch = layout.question_on_branch if rules.on_branch is None else rules.on_branch
    continuous = ContinuousRules(
        policy,
        limit,
        rules.protected_slots or capacity // PROTECTED_SHARE,
        rules.skip_still,
        on_branch,
        rules.describe_prompt,
    )
    return ContinuousContext(model, layout, StreamText(layout, encode), continuous)


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
