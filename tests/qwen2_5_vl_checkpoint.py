"""A tiny Qwen2.5-VL as the Hub has it: of transformers' own classes, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from .hub_checkpoints import chat_tokenizer, save_hub, varied_

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
# As Qwen/Qwen2.5-VL-3B-Instruct has it.
CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}"
    "Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}"
    "Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATCH, MERGE = 14, 2
PREPROCESSOR = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}


def tiny_model(
    vocab_size: int,
    ids: dict[str, int],
    *,
    seed: int = 0,
    is_tied: bool = True,
    gains: float = 0.1,
    **text: Any,
) -> Qwen2_5_VLForConditionalGeneration:
    """The whole model; logits wide enough that the best token is no tie.

    Gains of 0 are as before any training: the proof then knows that the weights are random.
    """
    vision = {
        "depth": 3, "hidden_size": 48, "intermediate_size": 80, "num_heads": 4,
        "out_hidden_size": 64, "fullatt_block_indexes": [2], "window_size": 112,
        "patch_size": PATCH, "spatial_merge_size": MERGE,
    }  # fmt: skip
    words = {
        "vocab_size": vocab_size, "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0,
                            "mrope_section": [2, 3, 3]},
        **text,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=words,
        tie_word_embeddings=is_tied,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)
        varied_(model)
        for name, weight in model.named_parameters():
            if ".attn." in name and weight.ndim == 2:
                weight.data.mul_(3.0)  # so that it matters who looks at whom
            elif "bias" in name:
                weight.data.normal_(0.0, 0.1)
            elif "norm" in name or "ln_q" in name:
                weight.data.add_(torch.randn_like(weight) * gains)
    return model


def tiny_folder(folder: Path, **more: Any) -> tuple[Path, Qwen2_5_VLForConditionalGeneration]:
    """A checkpoint folder as the Hub has it, and the model in it; `more` is for `tiny_model`."""
    tokenizer = chat_tokenizer(SPECIAL)
    ids = {one: tokenizer.token_to_id(one) for one in SPECIAL}
    # A padded table, as the Hub's has it; no layer is as wide.
    model = tiny_model(tokenizer.get_vocab_size() + 5, ids, **more)
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    save_hub(folder, model, tokenizer, chat_template=CHAT_TEMPLATE, preprocessor=PREPROCESSOR)
    return folder, model


def image_values(pixels: np.ndarray) -> torch.Tensor:
    """What the model reads of a picture (3, height, width): patches in blocks of 2 x 2, twice."""
    rows, columns = (side // PATCH // MERGE for side in pixels.shape[1:])
    twice = np.stack([pixels, pixels])
    cut = twice.reshape(2, 3, rows, MERGE, PATCH, columns, MERGE, PATCH)
    patches = cut.transpose(2, 5, 3, 6, 1, 0, 4, 7).reshape(rows * columns * MERGE**2, -1)
    return torch.from_numpy(np.ascontiguousarray(patches))


def image_grid(pixels: np.ndarray) -> torch.Tensor:
    """(1, 3): times, rows and columns of its patches."""
    return torch.tensor([[1, pixels.shape[1] // PATCH, pixels.shape[2] // PATCH]])
