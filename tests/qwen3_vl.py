"""A tiny Qwen3-VL with random weights, as transformers saves it, and pictures cut as it reads them.

Its processor itself needs torchvision, which is not installed: `cut` is written from its
documentation, one patch at a time, and shares nothing with the product.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from .small_tokenizer import TEXT, trained_tokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
# What the model's own template does with the messages that a camera needs.
TEMPLATE = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for content in message.content %}
            {%- if content.type == 'image' %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif content.type == 'text' %}
                {{- content.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
VISION: dict[str, Any] = {
    "depth": 4, "hidden_size": 48, "intermediate_size": 96, "num_heads": 4, "patch_size": 16,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 64,
    "num_position_embeddings": 36, "deepstack_visual_indexes": [0, 2],
}  # fmt: skip
TEXT_SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0,
                        "mrope_section": [6, 5, 5], "mrope_interleaved": True},
}  # fmt: skip


def tiny_tower(**changes: Any) -> Qwen3VLVisionModel:
    """The tower alone, with weights wide enough that its attention looks somewhere."""
    config = Qwen3VLVisionConfig(**{**VISION, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = Qwen3VLVisionModel(config).eval().requires_grad_(False)
        _widen_(tower)
    return tower


def tiny_qwen3_vl(folder: Path, *, is_tied: bool = True, seed: int = 0, **changes: Any) -> Path:
    """A folder as the Hub has it; `changes` are of text_config. Half a million parameters."""
    tokenizer = trained_tokenizer(TEXT)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    ids = {text: tokenizer.token_to_id(text) for text in SPECIAL}
    # A table is padded: some of its rows belong to no token.
    sizes = {"vocab_size": tokenizer.get_vocab_size() + 9, **TEXT_SIZES, **changes}
    config = Qwen3VLConfig(
        vision_config=VISION,
        text_config=sizes,
        tie_word_embeddings=is_tied,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config).eval()
        _widen_(model)
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
            "chat_template": TEMPLATE}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(told), "utf-8")
    colours = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16, "merge_size": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours), "utf-8")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n", "utf-8")
    return folder


def cut(picture: np.ndarray, patch: int = 16, merge: int = 2) -> torch.Tensor:
    """(patches, 3 * 2 * patch * patch) of a normalised picture (3, height, width).

    Patches of one token stand together, tokens row by row; each is the picture twice in time.
    """
    _, height, width = picture.shape
    rows = []
    for top in range(0, height, patch * merge):
        for left in range(0, width, patch * merge):
            for y in range(top, top + patch * merge, patch):
                for x in range(left, left + patch * merge, patch):
                    still = picture[:, y : y + patch, x : x + patch]
                    rows.append(np.stack([still, still], axis=1).reshape(-1))
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _widen_(model: torch.nn.Module) -> None:
    """Weights three times wider than an initialisation, norms that differ, biases that count."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            parameter.data.mul_(3.0)
        elif "norm" in name and name.endswith("weight"):
            parameter.data.add_(torch.randn_like(parameter) * 0.2)
        else:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
