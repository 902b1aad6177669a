"""LoRA adapters for tests: random matrices in PEFT's own layout."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from edgestream.models.family import Checkpoint


def random_adapter(
    folder: Path, base: Checkpoint, seed: int, std: float = 0.3, **changes: Any
) -> Path:
    """A LoRA adapter of a checkpoint's decoder, written by PEFT; the same seed, the same bytes."""
    chosen = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"],
              "task_type": "CAUSAL_LM"}  # fmt: skip
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed)
        # peft 0.21 asks transformers 5.23 by a name that is on its way out.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
        config = LoraConfig(**{**chosen, **changes})
        model = get_peft_model(copy.deepcopy(base.decoder), config)
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=std)
        model.save_pretrained(folder, save_embedding_layers=False)
    return folder
