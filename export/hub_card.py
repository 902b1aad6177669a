"""The README of a Hub folder: what it is, under which licence, how it was made, how it is run."""

from __future__ import annotations

from collections.abc import Mapping

from ..runtime.bundle import Bundle
from ..runtime.manifest_values import Variant
from .hub_configs import MODEL_TYPES
from .hub_program import hub_program

UNPACKED = ("vision", "connector", "gate", "decoder")


def hub_card(bundle: Bundle, files: Mapping[str, str], has_own_config: bool) -> str:
    """README.md.

    Args:
        bundle: that was unpacked.
        files: name → what it is, in the order in which they are told.
        has_own_config: config.json is the checkpoint's own.
    """
    manifest = bundle.manifest
    listed = "\n".join(f"- `{name}`: {what}" for name, what in files.items())
    config = "the checkpoint's own" if has_own_config else _config_made(manifest.source.family)
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
{hub_program(bundle)}```

With onnxruntime-genai (text alone): `onnxruntime_genai.Model(".")`. With transformers.js, the files
go by the names of `dtype: "fp32"`, whatever their weights are kept as.
"""


def _config_made(family: str) -> str:
    if family in MODEL_TYPES:
        return "what the graphs say"
    return (
        "the language model's alone, as the graphs say: `transformers` has no\n"
        f"model type for the family `{family}`"
    )


def _origin(bundle: Bundle) -> str:
    manifest = bundle.manifest
    source = manifest.source
    made = ", ".join(f"{name} {number}" for name, number in sorted(manifest.made_with.items()))
    adapter = f", with the adapter `{source.adapter}` merged in" if source.adapter else ""
    revision = f" at `{source.revision}`" if source.revision else ""
    told = [part.role for part in manifest.parts if part.role in UNPACKED]
    parts = "\n".join(f"| {role} | {_weights(bundle.variant(role))} |" for role in told)
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
