"""A tiny Qwen3-VL with random weights, as the Hub has it, and pictures cut as its processor does.

The processor itself needs torchvision, which is not installed: `image_values` is written from what
it says of itself, one patch at a time, and shares nothing with the product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from .hub_checkpoints import chat_tokenizer, save_hub, varied_

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
# What the model's own template does with the messages that a camera needs: no system message of
# its own, pictures and texts as they come.
CHAT_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for content in message.content %}"
    "{%- if content.type == 'image' or 'image' in content or 'image_url' in content %}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif 'text' in content %}{{- content.text }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
PATCH, MERGE = 16, 2
PREPROCESSOR = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": PATCH,
                "merge_size": MERGE}  # fmt: skip
VISION: dict[str, Any] = {
    "depth": 4, "hidden_size": 48, "intermediate_size": 96, "num_heads": 4, "patch_size": PATCH,
    "spatial_merge_size": MERGE, "temporal_patch_size": 2, "out_hidden_size": 64,
    "num_position_embeddings": 36, "deepstack_visual_indexes": [0, 2],
}  # fmt: skip
TEXT_SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0,
                        "mrope_section": [6, 5, 5], "mrope_interleaved": True},
}  # fmt: skip


def tiny_tower(**changes: Any) -> Qwen3VLVisionModel:
    """The tower alone; its attention looks at some patches more than at others."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = Qwen3VLVisionModel(Qwen3VLVisionConfig(**{**VISION, **changes}))
        for parameter in tower.parameters():
            if parameter.ndim >= 2:
                parameter.data.mul_(3.0)
        _uneven_(tower, 0.2)
    return tower.eval().requires_grad_(False)


def tiny_model(
    vocab_size: int,
    ids: dict[str, int],
    *,
    seed: int = 0,
    is_tied: bool = True,
    gains: float = 0.1,
    **text: Any,
) -> Qwen3VLForConditionalGeneration:
    """The whole model, half a million parameters; `text` changes its text_config.

    Gains of 0 are as before any training: the proof then knows that the weights are random.
    """
    config = Qwen3VLConfig(
        vision_config=VISION,
        text_config={"vocab_size": vocab_size, **TEXT_SIZES, **text},
        tie_word_embeddings=is_tied,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config).eval().requires_grad_(False)
        varied_(model)
        _uneven_(model, gains)
    return model


def tiny_folder(folder: Path, **more: Any) -> tuple[Path, Qwen3VLForConditionalGeneration]:
    """A checkpoint folder as the Hub has it, and the model in it; `more` is for `tiny_model`."""
    tokenizer = chat_tokenizer(SPECIAL)
    ids = {one: tokenizer.token_to_id(one) for one in SPECIAL}
    # A padded table, as the Hub's has it; no layer is as wide.
    model = tiny_model(tokenizer.get_vocab_size() + 5, ids, **more)
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    save_hub(folder, model, tokenizer, chat_template=CHAT_TEMPLATE, preprocessor=PREPROCESSOR)
    return folder, model


def image_values(picture: np.ndarray) -> torch.Tensor:
    """(patches, 3 * 2 * 16 * 16) of a normalised picture (3, height, width).

    Patches of one token stand together, tokens row by row; each is the picture twice in time.
    """
    _, height, width = picture.shape
    rows = []
    for top in range(0, height, PATCH * MERGE):
        for left in range(0, width, PATCH * MERGE):
            for y in range(top, top + PATCH * MERGE, PATCH):
                for x in range(left, left + PATCH * MERGE, PATCH):
                    still = picture[:, y : y + PATCH, x : x + PATCH]
                    rows.append(np.stack([still, still], axis=1).reshape(-1))
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def image_grid(picture: np.ndarray) -> torch.Tensor:
    """(1, 3): times, rows and columns of its patches."""
    return torch.tensor([[1, picture.shape[1] // PATCH, picture.shape[2] // PATCH]])


def _uneven_(model: torch.nn.Module, gains: float) -> None:
    """Norms that differ from channel to channel, and biases that count."""
    for name, parameter in model.named_parameters():
        if "bias" in name:
            parameter.data.normal_(0.0, 0.1)
        elif "norm" in name:
            parameter.data.add_(torch.randn_like(parameter) * gains)
