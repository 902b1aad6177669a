"""What the user may choose of remembering: how much is kept, of what, and what is shown again."""

from __future__ import annotations

from typing import Literal

from .settings_field import Table, setting


class MemorySettings(Table):
    """What is kept of the stream, inside one budget of bytes; needs a bundle."""

    kind: Literal["keyframes", "recent"] = setting(
        "keyframes",
        "",
        "What is kept: keyframes (a few frames that stand for the whole stream) or recent (the "
        "last ones alone). keyframes, because a question about the past needs one of it.",
    )
    budget_mb: float = setting(
        0.0,
        "MB",
        "All that memory keeps, at most, in millions of bytes: frames, pictures and words. 0 for "
        "what the bundle says.",
        ge=0,
        le=1_000_000,
    )
    clip_len: int = setting(
        0,
        "frames",
        "Frames that wait until they are sorted in together; meanwhile what is said is still tied "
        "to the very frame. 0 for what the bundle was taught with, or 8, as in the key-frame "
        "router.",
        ge=0,
        le=1024,
    )
    key_frame_buffer_size: int = setting(
        5,
        "clusters",
        "Groups of like frames that new ones may still join; beyond it the one joined longest ago "
        "goes to the long store. 5, as in the key-frame router; more cost more per frame.",
        ge=1,
        le=1024,
    )
    key_frame_match_ratio: float = setting(
        0.6,
        "",
        "How alike a frame must be to a group to join it: mean cosine of their tokens, place by "
        "place. 0.6, as in the key-frame router; lower keeps fewer frames.",
        ge=-1,
        le=1,
    )
    max_frame_set_num: int = setting(
        5,
        "frames",
        "Frames that one group takes; then the next one opens another, so that a long scene has "
        "more than one picture. 5, as in the key-frame router; still frames do not count.",
        ge=1,
        le=1_000_000,
    )
    thumbnails: bool = setting(
        False,
        "",
        "Keep the picture of 112 x 112 px of every key frame with it, also in what --state saves. "
        "Off, because the model does not read it and its 38 kB take room from frames.",
    )
    dialogue_kb: float = setting(
        64.0,
        "kB",
        "Questions and answers that are kept, in thousands of bytes, within the budget, an eighth "
        "of it at most. Half is for their words: 64 hold the last 125 of up to 256 letters.",
        ge=1,
        le=1_000_000,
    )
    topk: int = setting(
        0,
        "frames",
        "Remembered frames that a question about the past is shown, at most; all where fewer are "
        "kept. 0 for what the bundle was taught with, or 8, as in the key-frame router.",
        ge=0,
        le=1024,
    )
    router: Literal["recency", "cos_sim_coarse", "cos_sim_fine", "cross-attn", "indexer"] = setting(
        "cos_sim_fine",
        "",
        "What scores remembered frames for a question. cos_sim_fine (each word against each token) "
        "finds planted evidence best; indexer needs a bundle that has one.",
    )
    selection: Literal["top", "similar", "spread"] = setting(
        "top",
        "",
        "How remembered frames are chosen: top (the best scores), similar (those that look most "
        "like the present) or spread (good scores that look unlike each other). top, the plainest.",
    )
    snapshot_every_s: float = setting(
        300.0,
        "s",
        "With --state, stream time between two saved states; one more comes at the end. What a "
        "power cut may cost, against wear of the disk: 64 MB every 300 s are 18 GB a day.",
        gt=0,
        le=86400,
    )
