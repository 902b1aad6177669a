"""What keeps the stream of a run: key frames or the last frames alone, within a budget of bytes."""

from __future__ import annotations

from collections.abc import Callable

from .manifest import MemoryPlan
from .memory.key_frame import MemoryView
from .memory.keyframes import KeyFrameMemory
from .recent import RecentMemory
from .speaking import MemoryRules

DEFAULT_BUDGET_BYTES = 64_000_000
"""What memory keeps where neither the user nor the bundle says: minutes of frames."""


def memory_of(rules: MemoryRules, plan: MemoryPlan | None) -> KeyFrameMemory | RecentMemory:
    """What keeps the stream, within the budget that the user or else the bundle names.

    Args:
        rules: of the user.
        plan: of the bundle; None where it has none.
    """
    if rules.key_frames is None:
        return RecentMemory(max_bytes=rules.budget_bytes or DEFAULT_BUDGET_BYTES)
    planned = DEFAULT_BUDGET_BYTES if plan is None else plan.budget_default_bytes
    budget_bytes = rules.budget_bytes or planned
    return KeyFrameMemory(rules.key_frames, budget_bytes, dialogue_bytes=rules.dialogue_bytes)


def view_of(memory: KeyFrameMemory | RecentMemory) -> Callable[[], MemoryView]:
    """What gives the newest view of a memory; one of the last frames alone has no key frames."""
    if isinstance(memory, KeyFrameMemory):
        return memory.view
    return lambda: MemoryView(memory.view())
