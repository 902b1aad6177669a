"""Whole models that see, in real sizes with random weights: what an export costs, how fast it runs.

    python benchmarks/real_models.py                        SmolVLM2-256M
    python benchmarks/real_models.py smolvlm2-500m --llm int8
    python benchmarks/real_models.py qwen2.5-vl-3b          25 GB of disk, half an hour on two cores

A checkpoint of the shape is written to --work in bfloat16, layer by layer, in the Hub's form. Then
`edgestream export` turns it into a bundle, proof and all, in a process of its own whose peak memory
is told, and the bundle's vision, connector and decoder run at one and at two threads. Random
weights: what such a model says means nothing, and its proof says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from figures import BusyTime, Figure, report
from real_sizes import GIB, PEAK_MUST_GIB, decoder_speed, random_tensor

VISION = {"smolvlm": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                      "num_attention_heads": 12, "image_size": 512, "patch_size": 16}}  # fmt: skip
ROTATION = {"rope_type": "default", "rope_theta": 1e5}
SMOL = {"model_type": "llama", "vocab_size": 49280, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_parameters": ROTATION}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "smolvlm2-256m": ("smolvlm", {
        "vision_config": VISION["smolvlm"], "scale_factor": 4, "image_token_id": 49190,
        "text_config": {**SMOL, "hidden_size": 576, "intermediate_size": 1536,
                        "num_hidden_layers": 30, "num_attention_heads": 9,
                        "num_key_value_heads": 3}}),
    "smolvlm2-500m": ("smolvlm", {
        "vision_config": VISION["smolvlm"], "scale_factor": 4, "image_token_id": 49190,
        "text_config": {**SMOL, "hidden_size": 960, "intermediate_size": 2560,
                        "num_hidden_layers": 32, "num_attention_heads": 15,
                        "num_key_value_heads": 5}}),
    "qwen2.5-vl-3b": ("qwen2_5_vl", {
        "tie_word_embeddings": True,
        "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420,
                          "num_heads": 16, "out_hidden_size": 2048},
        "text_config": {"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008,
                        "num_hidden_layers": 36, "num_attention_heads": 16,
                        "num_key_value_heads": 2, "max_position_embeddings": 128000,
                        "tie_word_embeddings": True,
                        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                                            "mrope_section": [16, 24, 24]}}}),
    "qwen3-vl-2b": ("qwen3_vl", {
        "tie_word_embeddings": True,
        "vision_config": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096,
                          "num_heads": 16, "out_hidden_size": 2048,
                          "deepstack_visual_indexes": [5, 11, 17]},
        "text_config": {"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
                        "num_hidden_layers": 28, "num_attention_heads": 16,
                        "num_key_value_heads": 8, "head_dim": 128,
                        "max_position_embeddings": 262144, "tie_word_embeddings": True,
                        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6,
                                            "mrope_section": [24, 20, 20],
                                            "mrope_interleaved": True}}}),
}  # fmt: skip
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
        "<|image_pad|>", "<|video_pad|>")  # fmt: skip
SPECIAL = {
    "smolvlm": ("<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>",
                "<global-img>", "<image>"),
    "qwen2_5_vl": QWEN,
    "qwen3_vl": QWEN,
}  # fmt: skip
FRAMES_SEEN = 3


def main() -> None:
    """Write, export, measure, print, and leave with 1 where a peak is above its bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["smolvlm2-256m"])
    parser.add_argument("--vision", default="int8")
    parser.add_argument("--llm", default="int4")
    parser.add_argument("--work", type=Path, default=Path("/tmp/edgestream-real-models"))
    parser.add_argument("--keep", action="store_true", help="leave the files where they are")
    parser.add_argument("--do", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.do:
        print(json.dumps(_do(chosen, *chosen.do)))
        return
    rows: list[dict[str, Any]] = []
    figures = []
    try:
        for model in chosen.models:
            row: dict[str, Any] = {"model": model, "vision": chosen.vision, "llm": chosen.llm}
            _asked(chosen, "checkpoint", model)
            row |= _asked(chosen, "export", model)
            for threads in ("1", "2"):
                told = _asked(chosen, f"run{threads}", model)
                row |= {f"{name}, {threads} thr": value for name, value in told.items()}
            rows.append(row)
            figures.append(Figure(f"{model} peak of the export", row["peak GiB"], "GiB", 1,
                                  at_most=PEAK_MUST_GIB))  # fmt: skip
    finally:
        if not chosen.keep:
            shutil.rmtree(chosen.work, ignore_errors=True)
    share = min(row["CPU share, 1 thr"] for row in rows)
    passed = report("benchmarks/real_models.py", rows, figures, bundle_sha256=None, threads=2,
                    cpu_share=share, weights="random")  # fmt: skip
    sys.exit(not passed)


def _asked(chosen: argparse.Namespace, what: str, model: str) -> dict[str, Any]:
    """What a process of its own says after it did that."""
    command = [sys.executable, __file__, "--work", str(chosen.work), "--vision", chosen.vision,
               "--llm", chosen.llm, "--do", what, model]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _do(chosen: argparse.Namespace, what: str, model: str) -> dict[str, Any]:
    checkpoint, bundle = chosen.work / model, chosen.work / f"{model}-{chosen.llm}"
    if what == "checkpoint":
        return write_checkpoint(checkpoint, model)
    if what == "export":
        return export(checkpoint, bundle, chosen.vision, chosen.llm)
    return run_bundle(bundle, int(what.removeprefix("run")))


def write_checkpoint(folder: Path, model: str) -> dict[str, Any]:
    """A folder as the Hub has it: shards of one layer each, so that none is in memory whole."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForImageTextToText

    from edgestream.tests.hub_checkpoints import chat_tokenizer

    kind, sizes = MODELS[model]
    folder.mkdir(parents=True, exist_ok=True)
    auto: Any = AutoModelForImageTextToText
    with torch.device("meta"):
        empty = auto.from_config(AutoConfig.for_model(kind, **sizes))
    torch.manual_seed(0)
    shards: dict[str, dict[str, Any]] = {}
    for name, one in empty.named_parameters():
        shards.setdefault(".".join(name.split(".")[:5]), {})[name] = one.shape
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards.values()):
        file = f"model-{number:05d}.safetensors"
        tensors = {name: random_tensor(name, size) for name, size in names.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    empty.config.architectures = [type(empty).__name__]
    empty.config.save_pretrained(folder)
    chat_tokenizer(SPECIAL[kind]).save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return {"shards": len(shards)}


def export(checkpoint: Path, bundle: Path, vision: str, llm: str) -> dict[str, Any]:
    """`edgestream export`, proof and all: seconds, peak memory of this process, size."""
    from edgestream.export.build import ExportChoice, export_bundle
    from edgestream.export.graphs import Schemes

    busy = BusyTime()
    choice = ExportChoice(schemes=Schemes.named(vision, llm), name=bundle.name, force=True)
    made = export_bundle(checkpoint, bundle, choice, lambda *told: print(*told, file=sys.stderr))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return {"export s": round(busy.wall_s()), "CPU s": round(busy.wall_s() * busy.cpu_share()),
            "peak GiB": round(peak, 2), "MB": round(made.n_bytes / 1e6)}  # fmt: skip


def run_bundle(folder: Path, threads: int) -> dict[str, Any]:
    """Milliseconds a frame, tokens a second, and the memory of it all."""
    from edgestream.runtime.bundle import open_bundle
    from edgestream.runtime.engines.ort import OrtBackend

    bundle = open_bundle(folder)
    files = {role: bundle.path(variant.file) for role, variant in bundle.manifest.variants()}
    told: dict[str, Any] = {}
    busy, backend = BusyTime(), OrtBackend("cpu", threads)
    with backend.open(files["vision"]) as vision, backend.open(files["connector"]) as connector:
        shape = [size if isinstance(size, int) else 1 for size in vision.inputs[0].shape]
        pixels = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        names = vision.inputs[0].name, connector.inputs[0].name
        taken = []
        for _ in range(1 + FRAMES_SEEN):
            start = busy.wall_s()
            tokens = vision.run({names[0]: pixels})["tokens"]
            connector.run({names[1]: tokens})
            taken.append(busy.wall_s() - start)
    told["ms a frame"] = round(1000 * min(taken[1:]))
    cache, positions = bundle.manifest.cache, bundle.manifest.positions
    speed: dict[str, Any] = decoder_speed(files["decoder"], positions, cache, threads)
    return told | speed


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
