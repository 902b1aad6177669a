"""Decoders of real sizes with random weights: what writing them costs, and how fast they are.

    python benchmarks/real_sizes.py                          SmolLM2-135M and -360M, both routes
    python benchmarks/real_sizes.py qwen2.5-vl-3b            the text part of Qwen2.5-VL-3B
    python benchmarks/real_sizes.py --scheme int8 --work DIR

A checkpoint of the shape is written to DIR in bfloat16, then each route writes the graph in a
process of its own, whose peak memory is told: `builder` is onnxruntime-genai's, `layers` is ours,
which reads the files tensor by tensor. Then the graph appends frames of 64 tokens and speaks,
through the runtime's own cache of 512 slots. What a model of random weights says means nothing.
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

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "smollm2-135m": ("llama", {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}),
    "smollm2-360m": ("llama", {
        "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
        "num_attention_heads": 15, "num_key_value_heads": 5, "vocab_size": 49152,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}),
    "qwen2.5-vl-3b": ("qwen2_5_vl_text", {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936,
        "max_position_embeddings": 128000, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                            "mrope_section": [16, 24, 24]}}),
}  # fmt: skip
BUILDER_KNOWS = ("llama",)
PEAK_MUST_GIB = 8.0
CAPACITY, FRAME_TOKENS, FRAMES, ANSWER_TOKENS, PASSES = 512, 64, 6, 48, 3
MIB, GIB = float(1 << 20), float(1 << 30)


def main() -> None:
    """Write, measure, print, and leave with 1 where a peak is above its bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("shapes", nargs="*", default=["smollm2-135m", "smollm2-360m"])
    parser.add_argument("--scheme", default="int4", help="int4, int8 or fp32")
    parser.add_argument("--work", type=Path, default=Path("/tmp/edgestream-real-sizes"))
    parser.add_argument("--keep", action="store_true", help="leave the files where they are")
    parser.add_argument("--do", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.do:
        print(json.dumps(_do(chosen.work, chosen.scheme, *chosen.do)))
        return
    busy, rows, figures = BusyTime(), [], []
    try:
        for shape in chosen.shapes:
            made = _asked(chosen.work / shape, chosen.scheme, "checkpoint", shape, "-")
            for route in _routes(shape):
                row = _measured(chosen.work / shape, chosen.scheme, shape, route)
                rows.append({**row, "checkpoint MB": made["MB"]})
                figures.append(
                    Figure(
                        f"{shape} {route} peak while writing",
                        row["peak GiB"],
                        "GiB",
                        1,
                        at_most=PEAK_MUST_GIB,
                    )
                )
    finally:
        if not chosen.keep:
            shutil.rmtree(chosen.work, ignore_errors=True)
    passed = report("benchmarks/real_sizes.py", rows, figures, bundle_sha256=None, threads=2,
                    cpu_share=busy.cpu_share(), weights="random")  # fmt: skip
    sys.exit(not passed)


def _routes(shape: str) -> tuple[str, ...]:
    return ("builder", "layers") if SHAPES[shape][0] in BUILDER_KNOWS else ("layers",)


def _measured(work: Path, scheme: str, shape: str, route: str) -> dict[str, Any]:
    row = {"shape": shape, "scheme": scheme, "route": route}
    row |= _asked(work, scheme, "write", shape, route)
    for threads in (1, 2):
        told = _asked(work, scheme, "run", route, str(threads))
        row |= {f"{name}, {threads} thr": value for name, value in told.items()}
    return row


def _asked(work: Path, scheme: str, *do: str) -> dict[str, Any]:
    """What a process of its own says after it did that."""
    command = [sys.executable, __file__, "--work", str(work), "--scheme", scheme, "--do", *do]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _do(work: Path, scheme: str, what: str, one: str, other: str) -> dict[str, Any]:
    if what == "checkpoint":
        return write_checkpoint(work, one)
    if what == "write":
        return write_graph(work, scheme, one, other)
    return run_graph(work, one, int(other))


def _config(shape: str) -> Any:
    from transformers import AutoConfig

    kind, sizes = SHAPES[shape]
    return AutoConfig.for_model(kind, **sizes, tie_word_embeddings=True)


def write_checkpoint(work: Path, shape: str) -> dict[str, Any]:
    """Random weights in bfloat16, one file a layer, so that none of them is in memory whole."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel

    work.mkdir(parents=True, exist_ok=True)
    auto: Any = AutoModel
    with torch.device("meta"):
        model = auto.from_config(_config(shape))
    torch.manual_seed(0)
    for part in dict.fromkeys(_part(name) for name, _ in model.named_parameters()):
        tensors = {
            f"model.{name}": random_tensor(name, one.shape)
            for name, one in model.named_parameters()
            if _part(name) == part
        }
        save_file(tensors, work / f"{part}.safetensors")
    return {"MB": round(sum(one.stat().st_size for one in work.glob("*.safetensors")) / 1e6)}


def _part(name: str) -> str:
    return name.split(".")[1] if name.startswith("layers.") else name


def random_tensor(name: str, size: Any) -> Any:
    """As an initialisation leaves it, bfloat16."""
    import torch

    if len(size) == 1 and name.endswith("weight"):
        return torch.ones(size, dtype=torch.bfloat16)
    if len(size) == 1:
        return torch.zeros(size, dtype=torch.bfloat16)
    return torch.randn(size, dtype=torch.bfloat16) * size[1:].numel() ** -0.5


def write_graph(work: Path, scheme: str, shape: str, route: str) -> dict[str, Any]:
    """The decoder graph of a checkpoint: seconds, peak memory of this process, size."""
    from edgestream.models.decoder_weights import FileWeights
    from edgestream.models.weights import stored_tensors
    from edgestream.quant.schemes import scheme_named

    chosen = scheme_named(scheme, "decoder")
    busy = BusyTime()
    stored = stored_tensors(tuple(sorted(work.glob("*.safetensors"))))
    weights = FileWeights(_config(shape), stored, {name: name for name in stored})
    if route == "layers":
        from edgestream.export.layer_writer import write_layers

        write_layers(weights, chosen, work, route)
    else:
        _by_builder(work, _config(shape), weights, chosen, route)
    size = sum(one.stat().st_size for one in work.glob(f"{route}.onnx*"))
    return {"write s": round(busy.wall_s(), 1), "CPU s": round(busy.wall_s() * busy.cpu_share(), 1),
            "peak GiB": _peak_gib(), "MB": round(size / 1e6)}  # fmt: skip


def _by_builder(work: Path, config: Any, weights: Any, scheme: Any, name: str) -> None:
    """As an export does it: the model in memory, saved once more, and read by the builder."""
    import torch
    from transformers import LlamaForCausalLM

    from edgestream.export.decoder_onnx import write_decoder
    from edgestream.tests.small_tokenizer import TEXT, trained_tokenizer

    kind: Any = LlamaForCausalLM
    model = kind(config).eval().requires_grad_(False)
    for parameter, tensor in model.named_parameters():
        tensor.copy_(torch.from_numpy(weights.tensor(parameter)))
    trained_tokenizer(TEXT).save(str(work / "tokenizer.json"))
    write_decoder(model, work / "tokenizer.json", scheme, work, name)


def run_graph(work: Path, route: str, threads: int) -> dict[str, Any]:
    """How fast a decoder of `SHAPES` is."""
    import onnx

    from edgestream.runtime.manifest import CacheShape, Positions

    graph = onnx.load(str(work / f"{route}.onnx"), load_external_data=False).graph
    past = [one for one in graph.input if one.name.startswith("past_key_values.")]
    heads, _, head_dim = (one.dim_value for one in past[0].type.tensor_type.shape.dim[1:])
    is_multi = any(one.name == "position_ids" for one in graph.input)
    positions = Positions(3, 1e6, (16, 24, 24)) if is_multi else Positions(1, 1e6)
    cache = CacheShape(len(past) // 2, heads, head_dim, CAPACITY)
    return decoder_speed(work / f"{route}.onnx", positions, cache, threads)


def decoder_speed(graph: Path, positions: Any, cache: Any, threads: int) -> dict[str, Any]:
    """Appending and speaking through the runtime's cache, tokens a second, best of some passes."""
    import contextlib

    from edgestream.runtime.arena import Arena
    from edgestream.runtime.engines.ort import OrtBackend
    from edgestream.runtime.language_model import LanguageModel
    from edgestream.runtime.token_rows import TokenRows

    class Free:
        speak = staticmethod(contextlib.nullcontext)

    busy = BusyTime()
    with OrtBackend("cpu", threads).open(graph) as engine:
        load_s = busy.wall_s()
        width: Any = next(spec.shape[-1] for spec in engine.inputs if spec.name == "inputs_embeds")
        rows = TokenRows(np.random.default_rng(0).standard_normal((64, width)).astype(np.float16))
        model = LanguageModel(engine, Arena(cache, positions), rows, Free())
        passes = [_pass(model, width) for _ in range(PASSES)]
    best = {name: round(max(one[name] for one in passes), 2) for name in passes[0]}
    return {**best, "load s": round(load_s, 1), "run peak GiB": _peak_gib()}


def _pass(model: Any, width: int) -> dict[str, float]:
    model.arena.reset()
    frame = np.random.default_rng(1).standard_normal((FRAME_TOKENS, width)).astype(np.float32)
    busy = BusyTime()
    for _ in range(FRAMES):
        model.append(frame)
    append_s = busy.wall_s()
    for step in range(ANSWER_TOKENS):
        model.step(step)
    decode_s = busy.wall_s() - append_s
    return {
        "append tok/s": FRAMES * FRAME_TOKENS / append_s,
        "decode tok/s": ANSWER_TOKENS / decode_s,
        "CPU share": busy.cpu_share(),
    }


def _peak_gib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB, 2)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
