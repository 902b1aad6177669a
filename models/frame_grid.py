"""The grid of a frame's tokens, for towers that see pictures of any size in whole blocks."""

from __future__ import annotations

import math
from typing import Any

from ..runtime.errors import SettingsInvalid
from .family import LoadOptions

TOKENS = 64
MOST_TOKENS = 1024


def block_px(tower: Any) -> int:
    """Side of what one token of a Qwen stands for, px, by its tower's config."""
    side: int = tower.spatial_merge_size * tower.patch_size
    return side


def frame_grid(block_px: int, options: LoadOptions, tokens: int = TOKENS) -> tuple[int, int]:
    """(rows, columns) of a frame's tokens; a square where nobody chose a size.

    Args:
        block_px: side of what one token stands for, px.
        options: what the user chose.
        tokens: of a frame where nothing was.

    Raises:
        SettingsInvalid: the frame is no whole number of tokens high and wide, or has too many.
    """
    if options.size_px is None:
        side = math.isqrt(options.tokens_per_frame or tokens)
        rows, columns = side, side
    else:
        rows, columns = (side // block_px for side in options.size_px)
    fits = options.size_px in (None, (rows * block_px, columns * block_px))
    is_meant = options.tokens_per_frame in (None, rows * columns)
    if not fits or not is_meant or not 1 <= rows * columns <= MOST_TOKENS:
        raise SettingsInvalid(
            f"got --frame-px {options.frame_text}, --tokens-per-frame {options.tokens_per_frame}; "
            f"this model has a token for each {block_px} x {block_px} px of a frame, "
            f"{MOST_TOKENS} at most, and without a size a frame is a square",
            hint=f"--frame-px {8 * block_px} gives 64 tokens, --frame-px {12 * block_px}x"
            f"{7 * block_px} 84 of a wide picture; one of the two options is enough",
        )
    return rows, columns
