"""A reference assistant of toy size and a recipe for it, for tests of training."""

from __future__ import annotations

from edgestream.models.reference_model import TEXT, VISION, ReferenceConfig
from edgestream.training.reference_parts import world_config
from edgestream.training.reference_recipe import Recipe


def tiny_config() -> ReferenceConfig:
    whole = world_config()
    return ReferenceConfig(
        whole.events,
        whole.attributes,
        whole.attributes_of,
        vision={**VISION, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
                "num_attention_heads": 2},
        text={**TEXT, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2},
        gate_width=24,
    )  # fmt: skip


def tiny_recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "clips": 2, "frames": 4, "late_frames": 6, "warm_up_steps": 2, "cache_frames": 20,
        "cache_clips": 8, "text_clips": 2, "stream_clips": 2, "described": 4, "looks": 4,
        "checks": 1, "calibration_clips": 4, **changes,
    }  # fmt: skip
    return Recipe(**values)  # type: ignore[arg-type]
