"""Two adapters on one decoder: how long a swap takes, and what carrying and using them costs.

    python benchmarks/adapter_swap.py                 the reference checkpoint, int8, two of rank 16

The same checkpoint is exported twice, without adapters and with two (random matrices: only speed is
looked at here). One thread; all variants in turn, medians. The peer is PEFT on eager PyTorch with
both adapters loaded: `set_adapter`, and a token behind the same prompt.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from figures import BusyTime, Figure, report

from edgestream.runtime.adapters import Adapters, adapters_of
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.decoder_rungs import DecoderRungs
from edgestream.runtime.engine_pool import EngineRules, engine_pool
from edgestream.runtime.language_model import LanguageModel

CHECKPOINT = Path(__file__).parent.parent / "assets" / "reference-checkpoint"
NAMES, RANK, PROMPT, TOKENS = ("one", "two"), 16, 250, 48
MUST_SWAP_MS = 5.0


def main() -> None:
    """Export, measure, print, and leave with 1 where a swap is above its bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        decoder, paths = exported(folder)
        plain, _ = opened(stack, folder / "plain")
        carrying, adapters = opened(stack, folder / "carrying")
        sha256 = open_bundle(folder / "carrying", check="manifest").sha256
        rows, swaps, share = measured(plain, carrying, adapters, peft(decoder, paths), rounds)
    figures = [Figure(f"swap, {name}", 1e3 * statistics.median(taken), "ms", len(taken),
                      at_most=MUST_SWAP_MS if name == "edgestream" else None)
               for name, taken in swaps.items()]  # fmt: skip
    passed = report("benchmarks/adapter_swap.py", rows, figures, bundle_sha256=sha256, threads=1,
                    cpu_share=share, rounds=rounds, weights="trained; adapters random")  # fmt: skip
    raise SystemExit(not passed)


def exported(folder: Path) -> tuple[Any, dict[str, Path]]:
    """The decoder in PyTorch, and the adapters' folders; bundles `plain` and `carrying`."""
    from edgestream.export.build import ExportChoice, export_bundle
    from edgestream.export.graphs import Schemes
    from edgestream.models.families import load_checkpoint
    from edgestream.tests.lora_adapters import random_adapter

    checkpoint = load_checkpoint(CHECKPOINT)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    paths = {name: random_adapter(folder / name, checkpoint, seed, 0.01, r=RANK,
                                  target_modules=targets)
             for seed, name in enumerate(NAMES)}  # fmt: skip
    for name, adapters in (("plain", {}), ("carrying", paths)):
        choice = ExportChoice(Schemes.named("int8", "int8"), name, adapters=adapters)
        export_bundle(CHECKPOINT, folder / name, choice, lambda *told: None)
    return checkpoint.decoder, paths


def opened(stack: ExitStack, folder: Path) -> tuple[LanguageModel, Adapters]:
    """The language model of a bundle, as a run has it."""
    bundle = open_bundle(folder)
    pool = stack.enter_context(engine_pool(bundle, EngineRules(providers=("cpu",), threads=1)))
    turn = pool.lease("evict").engine
    rungs = DecoderRungs(lambda failed: pool.lease("decoder", failed))
    return rungs.model(bundle.manifest, pool.rows, pool.lane, turn), adapters_of(bundle)


def peft(decoder: Any, paths: dict[str, Path]) -> Any:
    """PEFT's model with both adapters loaded, one thread."""
    import torch
    from peft import PeftModel

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = paths
        model = PeftModel.from_pretrained(copy.deepcopy(decoder), str(paths[first]), first)
        model.load_adapter(str(paths[second]), second)
    return model.eval()


def measured(
    plain: LanguageModel, carrying: LanguageModel, adapters: Adapters, model: Any, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, list[float]], float]:
    """A table of tokens a second, seconds of each swap, the share of a core."""
    prompt = plain.rows(list(np.random.default_rng(0).integers(10, 200, PROMPT)))
    swaps: dict[str, list[float]] = {"edgestream": [], "PEFT on PyTorch": []}
    tokens: dict[str, list[float]] = {}
    busy = BusyTime()
    for number in range(rounds + 1):  # the first warms up
        told = {"no adapters": spoken(plain, prompt)}
        carrying.use(adapters.of(None))
        told["adapters, none in use"] = spoken(carrying, prompt)
        for name in NAMES:
            swaps["edgestream"].append(taken(partial(carrying.use, adapters.of(name))))
        told["one adapter in use"] = spoken(carrying, prompt)
        for name in NAMES:
            swaps["PEFT on PyTorch"].append(taken(partial(model.set_adapter, name)))
        told["PEFT on PyTorch, one in use"] = spoken_by_peft(model, prompt)
        for name, seconds in told.items() if number else ():
            tokens.setdefault(name, []).append(seconds)
    rows = [{"variant": name, "tok/s": round(TOKENS / statistics.median(one))}
            for name, one in tokens.items()]  # fmt: skip
    return rows, swaps, busy.cpu_share()


def taken(do: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def spoken(model: LanguageModel, prompt: Any) -> float:
    """Seconds of TOKENS tokens behind a prompt."""
    model.arena.reset()
    token = int(model.append(prompt).argmax())
    begun = time.perf_counter()
    for _ in range(TOKENS):
        token = int(model.step(token).argmax())
    return time.perf_counter() - begun


def spoken_by_peft(model: Any, prompt: Any) -> float:
    """The same by PyTorch, its cache as `transformers` keeps it."""
    import torch

    embed = model.get_input_embeddings()
    with torch.inference_mode():
        out = model(inputs_embeds=torch.from_numpy(prompt[None]), use_cache=True)
        begun = time.perf_counter()
        for _ in range(TOKENS):
            rows = embed(out.logits[:, -1:].argmax(-1))
            out = model(inputs_embeds=rows, past_key_values=out.past_key_values, use_cache=True)
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
