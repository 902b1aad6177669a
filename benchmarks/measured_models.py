"""The models that the benchmarks measure: random weights in real shapes, made once in .cache/.

Their words mean nothing and are never shown; what is measured is time, memory and agreement.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parents[1] / ".cache" / "benchmarks"


def random_checkpoint() -> Path:
    """SmolLM2-135M's shape and SigLIP-B/16 at 224 px, random weights.

    Cost: half a minute and 0.9 GB of disk the first time.
    """
    folder = CACHE / "random-135m" / "checkpoint"
    if not folder.is_dir():
        from edgestream.tests.checkpoints import random_live_checkpoint

        part = _emptied(folder.with_suffix(".part"))
        random_live_checkpoint(part, "135m")
        part.rename(folder)
    return folder


def random_bundle(llm: str = "int4") -> Path:
    """The bundle of `random_checkpoint`.

    Args:
        llm: int4, int8 or fp32, as `edgestream export --llm` takes it.

    Cost: about four minutes and 5 GB of memory the first time.
    """
    return exported(random_checkpoint(), CACHE / "random-135m" / llm, llm)


def small_tower_bundle() -> Path:
    """A bundle whose vision is a ViT of 12 layers, 384 wide, at 224 px; its decoder is tiny.

    Cost: under a minute the first time.
    """
    folder = CACHE / "small-tower" / "checkpoint"
    if not folder.is_dir():
        _write_small_tower(_emptied(folder.with_suffix(".part")))
        folder.with_suffix(".part").rename(folder)
    return exported(folder, CACHE / "small-tower" / "fp32", "fp32")


def _write_small_tower(folder: Path) -> None:
    import torch

    from edgestream.models.checkpoint import save_checkpoint
    from edgestream.models.connector import Connector
    from edgestream.models.families.live import live_modules
    from edgestream.models.frame_tokens import FrameEncoder
    from edgestream.models.transformers_parts import DECODERS, TOWERS
    from edgestream.tests.checkpoints import (
        DECODER_SIZES,
        TEXT,
        live_config,
        new_model,
        trained_tokenizer,
    )

    tokenizer = trained_tokenizer(TEXT)
    torch.manual_seed(0)
    decoder = new_model(DECODERS["llama"], vocab_size=tokenizer.get_vocab_size(),
                        tie_word_embeddings=True, **DECODER_SIZES["tiny"])  # fmt: skip
    tower: Any = new_model(TOWERS["siglip_vision_model"], hidden_size=384, intermediate_size=1536,
                      num_hidden_layers=12, num_attention_heads=6, image_size=224,
                      patch_size=16)  # fmt: skip
    connector = Connector(384, decoder.config.hidden_size)
    config = live_config("random-small-tower", decoder, tower, tokenizer)
    modules = live_modules(decoder, FrameEncoder(tower, 10), connector)
    save_checkpoint(folder, config, modules, tokenizer)


def exported(checkpoint: Path, folder: Path, llm: str) -> Path:
    """The bundle in `folder`; exported there from the checkpoint where it is missing.

    PyTorch is imported only to make what is missing: its memory must not be taken for ours.
    """
    if not folder.is_dir():
        from edgestream.export.build import ExportChoice, export_bundle
        from edgestream.export.graphs import Schemes

        print(f"exporting {folder.parent.name} ({llm}) into .cache, once", file=sys.stderr)
        folder.parent.mkdir(parents=True, exist_ok=True)
        choice = ExportChoice(schemes=Schemes.named("int8", llm), name=folder.parent.name)
        export_bundle(checkpoint, folder, choice, lambda stage, part: None)
    return folder


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder.parent, exist_ok=True)
    return folder
