"""A tiny Qwen2.5-VL as the Hub has it: of transformers' own classes, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from .small_tokenizer import TEXT, trained_tokenizer

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


def tiny_model(vocab_size: int, ids: dict[str, int], *, seed: int = 0, **text: Any):
    """The whole model; logits wide enough that the best token is no tie."""
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
        tie_word_embeddings=True,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.data.mul_(6.0 if "embed_tokens" not in name else 20.0)
            elif "bias" in name:
                weight.data.normal_(0.0, 0.2)
            else:
                weight.data.add_(torch.randn_like(weight) * 0.1)
    return model


def tiny_qwen2_5_vl(folder: Path, *, seed: int = 0, **text: Any) -> Path:
    """A checkpoint folder as `save_pretrained` writes it; `text` changes its language model."""
    tokenizer = trained_tokenizer(TEXT)
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in SPECIAL])
    ids = {one: tokenizer.token_to_id(one) for one in SPECIAL}
    # A padded table, as the Hub's has it; no layer is as wide.
    model = tiny_model(tokenizer.get_vocab_size() + 5, ids, seed=seed, **text)
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return folder


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
