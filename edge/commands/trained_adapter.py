"""What `edgestream train lora` tells of the adapter that it wrote, and what comes next."""

from __future__ import annotations

import json
import math
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...training.lora_recipe import LoraTrained, Usual

DEFAULT_LLM = "int4-64"


def say(made: LoraTrained, base: str, usual: Usual, *, as_json: bool) -> None:
    """On stdout, for people or as one line of JSON.

    Args:
        made: what came of the run.
        base: as it was named.
        usual: what the run was told.
        as_json: one object on one line.
    """
    if as_json:
        told = {"adapter": str(made.out), "steps": made.steps, "kept_step": made.best_step,
                "seconds": round(made.seconds, 1), "before": dict(made.before),
                "after": dict(made.after)}  # fmt: skip
        print(json.dumps(told))
        return
    minutes = made.seconds / 60
    kept = f", the weights of step {made.best_step}" if made.best_step != made.steps else ""
    print(f"trained  {made.out}: {made.steps} steps, {minutes:.1f} minutes of work{kept}")
    if made.after:
        print(f"  {'held out':14} {'before':>8} {'after':>8}")
    for name, value in made.after.items():
        print(f"  {name:14} {made.before.get(name, math.nan):8.3f} {value:8.3f}")
    if not made.after:
        print("  nothing was held out: with one video alone there is nothing to choose weights by")
    adapter = quote(str(made.out))
    # What was learned in another scheme than export's default runs in that one.
    llm = f" --llm {usual.round_to}" if usual.round_to not in ("", DEFAULT_LLM) else ""
    print(f"next: edgestream export {quote(base)} --adapter {adapter}{llm} --out BUNDLE")
    print("      edgestream run VIDEO --bundle BUNDLE --gate token --set context.kind=continuous")
    if usual.is_decoder_only:
        print(f"      or keep it beside others: export {base} --adapters NAME={made.out} …")
