"""The README of a Hub folder: what it is, under which licence, how it was made, how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..runtime.bundle import Bundle
from ..runtime.manifest_values import Variant
from ..runtime.prompt import PromptParts, Shown, prompt_pieces, runs
from .hub_graphs import decoder_graph, vision_is_whole

QUESTION = "What happened?"

_RUN = """import numpy as np
import onnxruntime as ort


def opened(name):
    return ort.InferenceSession(f"onnx/{{name}}.onnx", providers=["CPUExecutionProvider"])


{prompt}
STOP, MOST = {stop}, {most}
embed_tokens, decoder = opened("embed_tokens"), opened("decoder_model_merged")
types = {{"tensor(float)": np.float32, "tensor(float16)": np.float16}}
cache = {{
    one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), types[one.type])
    for one in decoder.get_inputs()
    if one.name.startswith("past_key_values.")
}}


def rows(ids):
    return embed_tokens.run(None, {{"input_ids": np.array([ids], np.int64)}})[0]


present = [name.replace("past_key_values", "present") for name in cache]
embeds, said, length = {embeds}, [], 0
while len(said) < MOST:
    count = embeds.shape[1]
    inputs = {{
        "inputs_embeds": embeds,
        "attention_mask": np.ones((1, length + count), np.int64),
        **cache,
    }}
{positions}    logits, *kept = decoder.run(["logits", *present], inputs)
    cache, length = dict(zip(cache, kept)), length + count
    token = int(logits[0, -1].argmax())
    if token in STOP:
        break
    said.append(token)
    embeds = rows([token])
print(said)
"""
_ONE_POSITION = (
    '    inputs["position_ids"] = np.arange(length, length + count, dtype=np.int64)[None]\n'
)
_EACH_AXIS = (
    "    # Text: one position a token, the same on every axis.\n"
    '    inputs["position_ids"] = np.tile(\n'
    "        np.arange(length, length + count, dtype=np.int64), ({axes}, 1, 1)\n"
    "    )\n"
)


def run_text(bundle: Bundle) -> str:
    """A program of numpy and onnxruntime alone that prints the ids of a greedy answer.

    It asks `QUESTION`, about one frame where a frame is a picture and its tokens stand at
    positions that go on by one; about none else.
    """
    manifest = bundle.manifest
    layout = manifest.layout()
    axes = 1 if manifest.positions is None else manifest.positions.axes
    sees = axes == 1 and (manifest.input.channels or 3) == 3 and vision_is_whole(bundle)
    shown = [(0.0, np.zeros((manifest.tokens_per_frame, 1), np.float32))] if sees else []
    tokenizer = _tokenizer(bundle)
    found = runs(
        prompt_pieces(layout, PromptParts(QUESTION, shown, time_s=0.0)),
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
    )
    prompt: list[list[int] | None] = []
    for run in found:
        if isinstance(run, Shown):
            prompt.append(None)
        elif prompt and prompt[-1] is not None:
            prompt[-1] += run
        else:
            prompt.append(list(run))
    lines = [f"# The prompt of {QUESTION!r}, by tokenizer.json and prompt.json."]
    names = []
    for index, ids in enumerate(prompt):
        if ids is not None:
            lines.append(f"P{index} = {ids}")
        names.append("seen" if ids is None else f"rows(P{index})")
    if sees:
        height, width = manifest.input.size_px
        lines += [
            "# A grey frame; a real one is made as preprocessor_config.json says.",
            f"pixels = np.zeros((1, 3, {height}, {width}), np.float32)",
            'seen = opened("vision_encoder").run(["image_features"], {"pixel_values": pixels})[0]',
        ]
    whole = names[0] if len(names) == 1 else f"np.concatenate([{', '.join(names)}], axis=1)"
    return _RUN.format(
        prompt="\n".join(lines),
        stop=set(layout.stop_ids),
        most=layout.max_answer_tokens,
        embeds=whole,
        positions=_positions(bundle),
    )


def hub_card(bundle: Bundle, files: Mapping[str, str], has_own_config: bool) -> str:
    """README.md.

    Args:
        bundle: that was unpacked.
        files: name → what it is, in the order in which they are told.
        has_own_config: config.json is the checkpoint's own.
    """
    manifest = bundle.manifest
    listed = "\n".join(f"- `{name}`: {what}" for name, what in files.items())
    config = "the checkpoint's own" if has_own_config else "what the graphs say"
    height, width = manifest.input.size_px
    return f"""{_front_matter(bundle)}
# {manifest.name}

{_origin(bundle)}
## What is here

{listed}

`config.json` is {config}. The decoder gives the logits of the last position alone. A frame is
{manifest.tokens_per_frame} tokens of one picture of {width} x {height} px. Nothing here needs
EdgeStream.

## Run it

With numpy and onnxruntime, in this folder:

```python
{run_text(bundle)}```

With onnxruntime-genai (text alone): `onnxruntime_genai.Model(".")`. With transformers.js, the files
go by the names of `dtype: "fp32"`, whatever their weights are kept as.
"""


def _origin(bundle: Bundle) -> str:
    manifest = bundle.manifest
    source = manifest.source
    made = ", ".join(f"{name} {number}" for name, number in sorted(manifest.made_with.items()))
    adapter = f", with the adapter `{source.adapter}` merged in" if source.adapter else ""
    revision = f" at `{source.revision}`" if source.revision else ""
    told = [part for part in manifest.parts if part.role != "evict"]
    parts = "\n".join(f"| {part.role} | {_weights(part.variants[0])} |" for part in told)
    return f"""ONNX graphs of `{source.checkpoint}`{revision} (family `{source.family}`){adapter},
in the layout of the Hub's `onnx/` folders. Licence: {source.licence}, that of the
checkpoint; look there for its terms. SHA-256 of the checkpoint: `{source.sha256}`.
{_warning(bundle)}
## How it was made

`edgestream export` quantized the checkpoint and proved the graphs against it; `edgestream unpack`
wrote this folder from the bundle `{bundle.sha256}`.
Made with {made}.

| part | weights |
|---|---|
{parts}
"""


def _positions(bundle: Bundle) -> str:
    for value in decoder_graph(bundle).input:
        if value.name == "position_ids":
            shape = value.type.tensor_type.shape.dim
            is_by_axis = len(shape) == 3
            axes = shape[0].dim_value or 3
            return _EACH_AXIS.format(axes=axes) if is_by_axis else _ONE_POSITION
    return ""


def _front_matter(bundle: Bundle) -> str:
    source = bundle.manifest.source
    is_known = source.licence.lower() not in ("unknown", "")
    licence = source.licence.lower() if is_known else "other"
    lines = ["---", f"license: {licence}"]
    if source.checkpoint.count("/") == 1:
        lines += [f"base_model: {source.checkpoint}", "base_model_relation: quantized"]
    lines += ["pipeline_tag: image-text-to-text", "library_name: onnxruntime",
              "tags:", "- onnx", "- edgestream", "---"]  # fmt: skip
    return "\n".join(lines)


def _warning(bundle: Bundle) -> str:
    if not bundle.manifest.weights_look_random:
        return ""
    return "\n**Not for use: its weights look random.** What it says means nothing.\n"


def _weights(variant: Variant) -> str:
    scheme = variant.scheme
    if scheme is None:
        return "float32"
    return f"{scheme['weights']}, activations {scheme.get('activations', 'float32')}"


def _tokenizer(bundle: Bundle) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(bundle.path("tokenizer.json")))
