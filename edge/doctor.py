"""Examine this device: what it is, what is installed, and what of that works when it is run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..runtime.part_rungs import RungsInUse
from .machine import Machine, this_machine
from .provider_probe import PROVEN, EngineReport, engine_report, reason_in
from .tensorrt_probe import tensorrt_report
from .tested import never_on_a_gpu

SCHEMA = "edgestream.bench/1"
INSTALL_HINT = (
    "pip install 'edgestream[cpu]', or 'edgestream[cuda]' on a machine with an NVIDIA GPU"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is installed and does not work.

    Attributes:
        code: stable, kebab case.
        message: what is wrong, in one sentence.
        hint: what to do.
    """

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class VideoReport:
    """What PyAV decodes with.

    Attributes:
        pyav: its version; None where it cannot be imported.
        ffmpeg: version of the FFmpeg it carries.
        hardware: kind of decoder that FFmpeg was built with (`cuda`) → `opened` or `refused: …`.
        refusal: why it cannot be imported.
    """

    pyav: str | None
    ffmpeg: str | None
    hardware: dict[str, str]
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that doctor found.

    Attributes:
        machine: what the device is.
        video: what decodes.
        wheels: name → version of each installed distribution that fills the folder `onnxruntime/`.
        engine: what ONNX Runtime does; None where none is installed.
        problems: what is installed and broken; empty on a sound device.
        tensorrt: `tensorrt` and `tensorrt-rtx` where they are installed → `proven` or `refused: …`.
        rungs: what runs each part of a bundle; None where none was named.
        without: parts of it that nothing runs, and why.
    """

    machine: Machine
    video: VideoReport
    wheels: dict[str, str]
    engine: EngineReport | None
    problems: tuple[Problem, ...]
    tensorrt: Mapping[str, str] = field(default_factory=dict)
    rungs: RungsInUse | None = None
    without: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The one line of `edgestream.bench/1` (docs/FORMATS.md, section 5)."""
        machine = asdict(self.machine)
        # ONNX Runtime has a provider `tensorrt` too, which nothing here uses.
        providers = {**(self.engine.providers if self.engine else {}), **self.tensorrt}
        video = asdict(self.video)
        proven = sum(verdict == PROVEN for verdict in providers.values())
        metrics = [
            {"name": "providers_proven", "value": proven, "unit": "1"},
            {"name": "problems", "value": len(self.problems), "unit": "1", "must": 0},
        ]
        metrics[-1]["passed"] = not self.problems
        return {
            "schema": SCHEMA,
            "command": "doctor",
            "bundle_sha256": None,
            "machine": {**machine, "providers": providers, "video": video, "wheels": self.wheels},
            "edgestream": __version__,
            "threads": None,
            "cpu_share": None,
            "metrics": metrics,
            "problems": [asdict(problem) for problem in self.problems],
            "never_on_a_gpu": list(never_on_a_gpu()),
            **({} if self.rungs is None else {"ladder": self.rungs.as_json()}),
            "passed": not self.problems,
        }


def examine(bundle: Path | None = None, engines_dir: Path | None = None) -> Report:
    """Everything, by looking and by running; takes about a second.

    Nothing in it names the machine, its user or a folder.

    Args:
        bundle: whose ladder is climbed too.
        engines_dir: where its compiled engines lie; None: the user's cache folder.

    Raises:
        BundleError: a leaf of it, as `open_bundle` and `read_golden` say.
    """
    machine = this_machine()
    video = video_report()
    wheels = runtime_wheels()
    engine = engine_report() if wheels else None
    tensorrt = tensorrt_report()
    problems = problems_of(machine, video, wheels, engine) + idle_tensorrt(machine, tensorrt)
    report = Report(machine, video, wheels, engine, problems, tensorrt)
    if bundle is None:
        return report
    from .engine_place import backends_with
    from .ladder_report import climbed

    rungs, without = climbed(bundle, backends_with(engines_dir))
    stuck = tuple(
        Problem("part-without-engine", why, "`edgestream verify` shows how far each is off")
        for why in without.values()
    )
    return replace(report, rungs=rungs, without=without, problems=problems + stuck)


def runtime_wheels(path: Sequence[str] | None = None) -> dict[str, str]:
    """Name and version of each distribution whose files lie in the folder `onnxruntime/`.

    Args:
        path: folders to look in; None for those of this interpreter.
    """
    found = (
        metadata.distributions(path=list(path)) if path is not None else metadata.distributions()
    )
    wheels: dict[str, str] = {}
    for distribution in found:
        name = distribution.metadata["Name"] or ""
        # Reading the file list of every distribution would take longer than all the rest.
        if re.match(r"onnxruntime|ort[-_]", name, re.IGNORECASE) and _fills_the_folder(
            distribution
        ):
            wheels.setdefault(name, distribution.version)
    return dict(sorted(wheels.items()))


def _fills_the_folder(distribution: metadata.Distribution) -> bool:
    # Not `distribution.files`: it leaves out what another wheel's removal has deleted.
    record = distribution.read_text("RECORD") or ""
    return any(line.startswith("onnxruntime/__init__.py,") for line in record.splitlines())


def video_report() -> VideoReport:
    """Import PyAV and open each hardware decoder that its FFmpeg was built with."""
    try:
        import av
        from av.codec.hwaccel import hwdevices_available
    except ImportError as error:
        return VideoReport(None, None, {}, reason_in(str(error)))
    hardware = {name: _opened(name) for name in sorted(hwdevices_available())}
    return VideoReport(av.__version__, str(av.ffmpeg_version_info), hardware)


def _opened(device: str) -> str:
    """Whether a decoder for H.264 can be had from a kind of hardware."""
    import av
    from av.codec.hwaccel import HWAccel

    try:
        HWAccel(device, allow_software_fallback=False).create(av.Codec("h264", "r"))
    except NotImplementedError:
        return "refused: no H.264 decoder in this build"
    except (av.error.FFmpegError, ValueError) as error:
        return f"refused: {reason_in(getattr(error, 'strerror', None) or str(error))}"
    return "opened"


def problems_of(
    machine: Machine, video: VideoReport, wheels: dict[str, str], engine: EngineReport | None
) -> tuple[Problem, ...]:
    """What is installed and broken; an engine that is not installed is no problem."""
    problems: list[Problem] = []
    if video.refusal:
        problems.append(
            Problem("pyav-broken", f"PyAV cannot be imported: {video.refusal}", _reinstall("av"))
        )
    if len(wheels) > 1:
        problems.append(_shared_folder(wheels))
    if engine is None:
        return tuple(problems)
    if engine.refusal:
        message = f"ONNX Runtime is installed and cannot be imported: {engine.refusal}"
        problems.append(Problem("engine-broken", message, _reinstall(*wheels)))
    elif (cpu := engine.providers.get("cpu", "refused: it is not there")) != PROVEN:
        message = f"ONNX Runtime does not run on the CPU: {cpu}"
        problems.append(Problem("engine-broken", message, _reinstall(*wheels)))
    cuda = engine.providers.get("cuda", PROVEN)
    if machine.gpu and cuda != PROVEN:
        message = f"there is an NVIDIA GPU, but CUDA does not run: {cuda}"
        hint = "`edgestream[cuda]` brings the CUDA libraries; is the driver new enough for them?"
        problems.append(Problem("cuda-broken", message, hint))
    return tuple(problems)


def idle_tensorrt(machine: Machine, verdicts: Mapping[str, str]) -> tuple[Problem, ...]:
    """A module of TensorRT that is installed beside a GPU and does not run on it."""
    if machine.gpu is None:
        return ()
    return tuple(
        Problem(
            f"{name}-broken",
            f"there is an NVIDIA GPU, but {name} does not run: {verdict}",
            "is the driver new enough for it? Without it, the next rung runs",
        )
        for name, verdict in verdicts.items()
        if verdict != PROVEN
    )


def _shared_folder(wheels: dict[str, str]) -> Problem:
    names = list(wheels)
    return Problem(
        "engines-overlap",
        f"{' and '.join(names)} are installed together: they share the folder onnxruntime/, "
        "and the one that came last has overwritten the other",
        f"pip uninstall -y {' '.join(names)}, then exactly one of: {INSTALL_HINT}",
    )


def _reinstall(*names: str) -> str:
    return f"pip install --force-reinstall --no-deps {' '.join(names)}"
