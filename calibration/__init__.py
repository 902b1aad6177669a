"""Data and truth: calibration sets, collected ranges, parity, thresholds."""
