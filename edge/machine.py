"""Read what this machine is: processor, memory, disk and GPU, and nothing that names its owner."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Instructions that change how fast integer and half-precision models run.
FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "f16c"),
    *("asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),  # ARM
)
GPU_QUERY = "name,memory.total,driver_version,compute_cap"
# nvidia-smi answers within a second, or after about three where the driver has to wake up.
GPU_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine is.

    Attributes:
        system: operating system, kernel and architecture.
        python: implementation and version.
        cpu: model name.
        cores: that this process may use.
        cores_total: of the machine.
        features: instructions of FEATURES that it has.
        ram_bytes: that this process may use at most; None where the system does not tell.
        ram_available_bytes: free without swapping.
        disk_bytes: size of the disk of the current folder.
        disk_free_bytes: free on it.
        gpu: name, memory, driver and compute capability, or the Jetson's model; None without one.
    """

    system: str
    python: str
    cpu: str
    cores: int
    cores_total: int
    features: tuple[str, ...]
    ram_bytes: int | None
    ram_available_bytes: int | None
    disk_bytes: int
    disk_free_bytes: int
    gpu: str | None


def this_machine(root: Path = Path("/")) -> Machine:
    """The machine that this process runs on.

    Args:
        root: folder that holds `proc` and `sys`; another one in a test.

    Cost: some small files, and nvidia-smi where it is installed.
    """
    cpu = _first_fields(_text(root / "proc/cpuinfo"))
    memory = _first_fields(_text(root / "proc/meminfo"))
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    disk = shutil.disk_usage(Path())
    return Machine(
        system=_system(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cpu=cpu.get("model name") or _board(root) or platform.processor() or platform.machine(),
        cores=_usable_cores(),
        cores_total=os.cpu_count() or 1,
        features=tuple(name for name in FEATURES if name in flags),
        ram_bytes=_ram_bytes(memory, root),
        ram_available_bytes=_bytes_from_kb(memory.get("MemAvailable")),
        disk_bytes=disk.total,
        disk_free_bytes=disk.free,
        gpu=_nvidia_gpu() or _jetson(root),
    )


def _text(path: Path) -> str:
    """The text of a file of the kernel, or none where this kernel has no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").rstrip("\0\n")
    except OSError:
        return ""


def _first_fields(text: str) -> Mapping[str, str]:
    """`name : value` lines; the first of each name, since processors repeat."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}, {platform.machine()}"


def _board(root: Path) -> str:
    return _text(root / "proc/device-tree/model")


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _bytes_from_kb(field: str | None) -> int | None:
    return int(field.split()[0]) * 1024 if field else None


def _ram_bytes(memory: Mapping[str, str], root: Path) -> int | None:
    """Of the machine, or less where a container has a limit."""
    total = _bytes_from_kb(memory.get("MemTotal"))
    limit = _text(root / "sys/fs/cgroup/memory.max")
    if total is not None and limit.isdigit():
        return min(total, int(limit))
    return total


def _nvidia_gpu() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={GPU_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return (
        "; ".join(gpu_from_query(line) for line in lines)
        if done.returncode == 0 and lines
        else None
    )


def gpu_from_query(line: str) -> str:
    """One line of `nvidia-smi --query-gpu` in words."""
    name, memory, driver, capability = (part.strip() for part in line.split(","))
    return f"{name}, {memory}, driver {driver}, compute capability {capability}"


def _jetson(root: Path) -> str | None:
    """A Jetson's model and its L4T release; older ones have no nvidia-smi."""
    board = _board(root)
    if "jetson" not in board.lower() and "orin" not in board.lower():
        return None
    release = _text(root / "etc/nv_tegra_release").partition(", GCID")[0].lstrip("# ")
    return f"{board}, L4T {release}" if release else board
