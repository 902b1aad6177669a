"""Watts and memory of a GPU while something is measured, as nvidia-smi tells them."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from statistics import fmean
from typing import Any

PERIOD_MS = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """What nvidia-smi said at one moment.

    Attributes:
        at_s: `time.monotonic` when it was read.
        watts: that the board draws; None where it does not tell.
        used_bytes: memory in use on the device, by all processes.
    """

    at_s: float
    watts: float | None
    used_bytes: int | None


class Meter:
    """Reads a GPU five times a second inside its block; says nothing where there is no nvidia-smi.

    Args:
        device: as `nvidia-smi -i` takes it; None: there is no GPU to read.
    """

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._readings: list[Reading] = []
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Meter:
        program = shutil.which("nvidia-smi")
        if program is not None and self._device is not None:
            command = [
                program, "-i", self._device, "--query-gpu=power.draw,memory.used",
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
        told = [one.watts for one in self._since(since_s) if one.watts is not None]
        return fmean(told) if told else None

    def most_bytes(self, since_s: float) -> int | None:
        """Most memory that was in use on the device since a moment."""
        return max(
            (one.used_bytes for one in self._since(since_s) if one.used_bytes is not None),
            default=None,
        )

    def _since(self, since_s: float) -> list[Reading]:
        return [one for one in list(self._readings) if one.at_s >= since_s]

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            watts, _, used_mib = line.partition(",")
            used = _number(used_mib)
            used_bytes = None if used is None else int(used * (1 << 20))
            self._readings.append(Reading(time.monotonic(), _number(watts), used_bytes))


def _number(text: str) -> float | None:
    """A number; None for `[N/A]`, which boards say that have no such sensor."""
    try:
        return float(text)
    except ValueError:
        return None


def smi_name(device: Any) -> str | None:
    """A device of PyTorch as `nvidia-smi -i` takes it: by its UUID, since indices may differ."""
    if device.type != "cuda":
        return None
    import torch

    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
