"""Arithmetic and plans of quantization; pure."""
