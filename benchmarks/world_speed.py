"""How fast the rendered world is made, on one thread: frames a second with pixels, clips without.

The first clips of a process also paint the backgrounds of the bank; that is timed by itself. No
peer: nothing else renders such clips. The figure to compare with is what training takes, about 200
frames a second and core.
"""

from __future__ import annotations

import argparse
import os
import time

from edgestream.evaluation.world import WorldRules, render_clip
from edgestream.evaluation.world.backgrounds import background

FRAMES = 40


def rate(clips: int, first_seed: int, *, pixels: bool) -> tuple[float, float, float]:
    """(clips a second of wall time, of CPU time, share of a CPU that was had)."""
    wall, cpu = time.perf_counter(), time.process_time()
    for seed in range(first_seed, first_seed + clips):
        render_clip(seed, FRAMES, pixels=pixels)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return clips / wall, clips / cpu, cpu / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=150)
    clips = parser.parse_args().clips
    rules = WorldRules()
    began = time.process_time()
    for number in range(rules.looks):
        background(rules.first_look + number)
    print(f"bank of {rules.looks} backgrounds: {time.process_time() - began:.1f} s of CPU, once")
    rate(20, 10_000, pixels=True)
    wall, cpu, share = rate(clips, 0, pixels=True)
    print(
        f"with pixels: {wall * FRAMES:.0f} frames/s ({cpu * FRAMES:.0f} per second of CPU, "
        f"{share:.2f} of one core, nice {os.nice(0)})"
    )
    wall, cpu, share = rate(4 * clips, 0, pixels=False)
    print(f"without: {wall:.0f} clips/s of {FRAMES} frames ({cpu:.0f} per second of CPU)")


if __name__ == "__main__":
    main()
