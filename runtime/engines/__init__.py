"""One file per way to run a graph; `runtime/engine.py` says what they have in common."""
