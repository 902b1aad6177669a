"""Watts of a GPU while something is measured, as nvidia-smi tells them."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from statistics import fmean
from typing import Any

PERIOD_MS = 200


class Meter:
    """Reads a GPU five times a second inside its block; says nothing where there is no nvidia-smi.

    Args:
        device: as `nvidia-smi -i` takes it; None: there is no GPU to read.
    """

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._readings: list[tuple[float, float]] = []
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Meter:
        program = shutil.which("nvidia-smi")
        if program is not None and self._device is not None:
            command = [
                program, "-i", self._device, "--query-gpu=power.draw",
                "--format=csv,noheader,nounits", f"--loop-ms={PERIOD_MS}",
            ]  # fmt: skip
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._thread is not None:
            self._process.terminate()
            self._thread.join()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def watts(self, since_s: float) -> float | None:
        """Mean since a moment of `time.monotonic`; None where nothing was read."""
        told = [watts for at_s, watts in list(self._readings) if at_s >= since_s]
        return fmean(told) if told else None

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            try:
                watts = float(line)
            except ValueError:  # boards without a sensor say [N/A]
                continue
            self._readings.append((time.monotonic(), watts))


def smi_name(device: Any) -> str | None:
    """A device of PyTorch as `nvidia-smi -i` takes it: by its UUID, since indices may differ."""
    if device.type != "cuda":
        return None
    import torch

    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
