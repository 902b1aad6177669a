"""The scales and ranks that an adapter has for single layers, by the names that these have here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

# A matrix of it, by the name that its layer has in the model that it was trained on.
_WHOLE_LORA = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_[AB](\.\w+)?\.weight")


def patterns_here(
    patterns: Mapping[str, float],
    names: Sequence[str],
    module_of: Callable[[str], str | None],
    *,
    is_whole: bool,
) -> dict[str, float]:
    """`alpha_pattern` or `rank_pattern` by the names that layers have here, as PEFT reads them.

    PEFT takes the plain value, with no more than a warning, where a pattern matches nothing.

    Args:
        patterns: of the adapter's config.
        names: of its tensors.
        module_of: name of a tensor → its layer here; None for another tensor.
        is_whole: all its tensors are there.

    Raises:
        ValueError: a pattern of an adapter that is there as a whole matches no layer.
    """
    found: dict[str, float] = {}
    idle = set(patterns)
    for name in names:
        whole, here = _WHOLE_LORA.fullmatch(name), module_of(name)
        keys = (key for key in patterns if whole and re.match(rf"(.*\.)?({key})$", whole["module"]))
        if here is not None and (key := next(keys, None)) is not None:
            found[re.escape(here)] = patterns[key]
            idle.discard(key)
    if idle and is_whole:
        raise ValueError(f"its pattern {min(idle)} matches no layer that it has matrices for")
    return found
