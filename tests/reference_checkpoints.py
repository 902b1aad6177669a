"""Reference assistants for tests: the real parts at small sizes, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from edgestream.models.reference_checkpoint import embedding_rows, save_reference
from edgestream.models.reference_model import TEXT, VISION, ReferenceConfig, build_reference
from edgestream.models.reference_tokenizer import word_tokenizer

EVENTS = ("cut", "dark", "pan", "enter")
ATTRIBUTES = {
    "colour": ("red", "green", "blue"),
    "direction": ("left", "right", "up", "down"),
}
ATTRIBUTES_OF = {"pan": ("direction",), "enter": ("colour", "direction")}
SENTENCES = (
    "The camera pans left.",
    "The scene changes. Two objects: red and blue.",
    "Something enters from the bottom.",
    "It gets dark.",
    "I cannot tell.",
)
QUESTIONS = ("Is it dark?", "Which way did the camera pan last?", "How many objects are there now?")
SMALL = ReferenceConfig(
    events=EVENTS,
    attributes=ATTRIBUTES,
    attributes_of=ATTRIBUTES_OF,
    vision={**VISION, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
            "num_attention_heads": 2},
    text={**TEXT, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2},
    gate_width=32,
)  # fmt: skip


def small_tokenizer():
    """All words of the sentences and questions above."""
    return word_tokenizer([*SENTENCES, *QUESTIONS, "Yes.", "No."])


def small_reference(seed: int = 0):
    """(model, tokenizer)."""
    tokenizer = small_tokenizer()
    return build_reference(SMALL, embedding_rows(tokenizer, SMALL), seed), tokenizer


def small_reference_checkpoint(folder: Path, *, looks_trained: bool = False) -> Path:
    """A checkpoint of the family `reference` with random weights; the same arguments, same bytes.

    Args:
        folder: where it is written.
        looks_trained: its norms are not as an initialisation leaves them, so that it may speak.
    """
    model, tokenizer = small_reference()
    if looks_trained:
        with torch.no_grad():
            for name, weight in model.narrator.named_parameters():
                if "norm" in name:
                    weight.mul_(1.25)
    save_reference(folder, model, tokenizer, questions=QUESTIONS)
    return folder
