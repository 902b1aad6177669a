"""What the runtime is told of engines and of speaking, as the user's settings say it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.decoder import Decoding
from ..runtime.engine_pool import EngineRules
from ..runtime.engines.ladder import PROVIDERS
from ..runtime.errors import SettingsInvalid
from ..runtime.memory.keyframes import KeyFrameRules
from ..runtime.recall import RecallRules
from ..runtime.speaking import MemoryRules, SpeakingRules, TokenGateRules
from .engine_place import say

if TYPE_CHECKING:
    from ..runtime.manifest_values import MemoryPlan
    from .settings_tables import Settings


def folder_of_engines(settings: Settings) -> Path | None:
    """Where compiled engines lie; None: the user's cache folder."""
    named = settings.engine.engines_dir
    return Path(named).expanduser() if named else None


def engine_rules(settings: Settings) -> EngineRules:
    """What models run on."""
    engine = settings.engine
    return EngineRules(
        providers=PROVIDERS if engine.provider == "auto" else (engine.provider,),
        threads=engine.threads,
        is_shared=engine.lane == "shared",
        speak_share=engine.speak_share,
        chunk_tokens=engine.chunk_tokens,
        heartbeat_s=settings.encoder.heartbeat_s,
        settle_s=settings.encoder.settle_s,
        engines_dir=folder_of_engines(settings),
        tell=say,
    )


def speaking_rules(settings: Settings) -> SpeakingRules:
    """What the language model sees, when it speaks and how it chooses words."""
    context, session = settings.context, settings.session
    return SpeakingRules(
        context=context.kind,
        cache_slots=context.cache_slots,
        recent_frames=context.recent_frames,
        recent_every_s=context.recent_every_s,
        dialogue_turns=context.dialogue_turns,
        sink_slots=context.sink_slots,
        recent_slots=context.recent_slots,
        block_slots=context.block_slots,
        protected_slots=context.protected_slots,
        read_fps=context.read_fps,
        skip_still=context.skip_still,
        on_branch={"layout": None, "yes": True, "no": False}[session.question_on_branch],
        describe_prompt=session.describe_prompt,
        decoding=decoding(settings),
        partials_every_s=session.partials_every_s,
        token_gate=_token_gate(settings),
        gate_query=settings.gate.query,
        adapter=session.adapter or None,
        memory=memory_rules(settings),
        recall=recall_rules(settings),
    )


def key_frame_rules(settings: Settings) -> KeyFrameRules:
    """How key frames are made."""
    memory = settings.memory
    return KeyFrameRules(
        clip_len=memory.clip_len or KeyFrameRules().clip_len,
        key_frame_buffer_size=memory.key_frame_buffer_size,
        key_frame_match_ratio=memory.key_frame_match_ratio,
        max_frame_set_num=memory.max_frame_set_num,
        thumbnails=memory.thumbnails and settings.privacy.keep_pictures,
    )


def with_memory_of(settings: Settings, plan: MemoryPlan | None) -> Settings:
    """The settings with what a bundle says of its memory in place of what the user left to it.

    Args:
        settings: of the run.
        plan: of its bundle; None where it has none.
    """
    chosen = settings.memory
    told = {} if plan is None else {"topk": plan.topk, "clip_len": plan.clip_len}
    own = {name: value for name, value in told.items() if value and not getattr(chosen, name)}
    return settings.model_copy(update={"memory": chosen.model_copy(update=own)})


def memory_rules(settings: Settings) -> MemoryRules:
    """What is kept of the stream."""
    memory = settings.memory
    return MemoryRules(
        None if memory.kind == "recent" else key_frame_rules(settings),
        math.ceil(memory.budget_mb * 1e6),
        math.ceil(memory.dialogue_kb * 1e3),
    )


def recall_rules(settings: Settings) -> RecallRules:
    """When memory is asked, and what is shown of it.

    `context.kind` decides when; without key frames there is nothing to show but the present.

    Raises:
        SettingsInvalid: the past is always to be shown, and nothing of it is kept.
    """
    memory, kind = settings.memory, settings.context.kind
    if memory.kind == "recent" and kind == "recall":
        raise SettingsInvalid(
            "context.kind = recall needs key frames to show; got memory.kind = recent",
            hint="set memory.kind to keyframes, or context.kind to recent",
        )
    mode = "recent" if memory.kind == "recent" or kind == "continuous" else kind
    return RecallRules(mode, memory.topk or RecallRules().topk, memory.router, memory.selection)


def decoding(settings: Settings) -> Decoding:
    """How words are chosen."""
    session = settings.session
    return Decoding(
        temperature=session.temperature,
        top_k=session.top_k,
        top_p=session.top_p,
        repetition_penalty=session.repetition_penalty,
        no_repeat_ngram=session.no_repeat_ngram,
        max_tokens=session.max_answer_tokens or None,
        seed=session.seed,
    )


def _token_gate(settings: Settings) -> TokenGateRules | None:
    gate = settings.gate
    return TokenGateRules(gate.speak_below, gate.speak_once) if gate.kind == "token" else None
