"""One file per command: it declares typed options and calls one function with values."""
