"""The upstream: streaming dialogue data, losses, LoRA stages, the reference assistant."""
