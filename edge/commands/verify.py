"""`edgestream verify`: whether a bundle is as it was written, and right on this device."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import BOLD, GREEN, RED, YELLOW, columns_of, painted
from .engines_option import EnginesFolder
from .inspect import BundleFolder

if TYPE_CHECKING:
    from ...runtime.bundle import Bundle
    from ...runtime.golden_check import GoldenResult
    from ..verification import Verification

_STYLES = {"passed": GREEN, "failed": RED, "skipped": YELLOW}


def verify(
    bundle: BundleFolder,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="CHECKPOINT",
            help="Repeat the whole proof against the checkpoint, a folder or owner/name on the "
            "Hub; needs the extra `export`.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--adapter", metavar="PEFT_DIR", help="Adapter that was merged, for --against."
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate", metavar="DIR", help="Gate that the export was given, for --against."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", metavar="SET", help="Calibration set of the export, for --against."
        ),
    ] = None,
    engines: EnginesFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> int:
    """Hash every file of BUNDLE and run its golden calls on this device.

    Needs no PyTorch, unless --against repeats the proof of the export. Exit code 3: a file is not
    as it was written; 4: an engine fails; 6: an output is not what it should be.
    """
    from ..engine_place import backends_with, chosen_folder
    from ..verification import THREADS, verify_bundle

    if against is None:
        _refuse_options_of_against({"adapter": adapter, "gate": gate, "calibration": calibration})
    backends = backends_with(chosen_folder(engines), THREADS)
    with _bar_while_hashing() as on_bytes:
        on_hashed, on_result = (None, None) if as_json else (_print_files, _print_result)
        found = verify_bundle(
            bundle,
            on_bytes=on_bytes,
            on_hashed=on_hashed,
            on_result=on_result,
            backends=backends,
        )
    if against is not None:
        _prove_again(found.bundle, against, adapter, gate, calibration, as_json=as_json)
    if as_json:
        print(json.dumps(found.as_json()))
    else:
        _print_end(found)
    return found.exit_code


def _refuse_options_of_against(given: Mapping[str, Path | None]) -> None:
    """Raises UsageError where one is given: nothing would read it."""
    from ...runtime.errors import UsageError

    for name, path in given.items():
        if path is not None:
            raise UsageError(
                f"--{name} needs --against, the checkpoint that the proof is repeated with; got "
                "none",
                hint=f"name it by --against CHECKPOINT, or leave --{name} out",
            )


def _prove_again(
    bundle: Bundle,
    source: str,
    adapter: Path | None,
    gate: Path | None,
    calibration: Path | None,
    *,
    as_json: bool,
) -> None:
    """The proof of the export once more; a gate that refuses is ParityFailed, exit code 6."""
    from ...runtime.errors import BackendMissing, ParityFailed
    from ..bundle_text import wrapped

    try:
        from ...export.reprove import reproven
        from ...models.hub import checkpoint_folder
    except ImportError as error:
        raise BackendMissing(
            f"--against needs {error.name}, which is not installed here",
            hint="pip install 'edgestream[export]', or verify without --against",
        ) from error
    folder = checkpoint_folder(source)
    report = reproven(bundle, folder, adapter=adapter, gate=gate, calibration=calibration)
    if not report.passed:
        worst, *others = report.failures
        more = f" (and {len(others)} more)" if others else ""
        raise ParityFailed(
            f"{worst.sentence()}{more}", hint="do not use this bundle; export it again"
        )
    if not as_json:
        told = f"{len(report.checks)} checks against {folder.name}"
        print("\n".join(wrapped("proof", told, columns_of(sys.stdout))))


@contextmanager
def _bar_while_hashing() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr where that is a terminal; it goes when the last byte is hashed."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = [TextColumn("hashing"), BarColumn(bar_width=24), DownloadColumn()]
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("", total=None)
    progress.start()

    def on_bytes(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)
        if done == total:
            progress.stop()

    try:
        yield on_bytes
    finally:
        progress.stop()


def _print_result(result: GoldenResult) -> None:
    from ..bundle_text import result_lines, verdict

    word = verdict(result)
    first, *rest = result_lines(result, columns_of(sys.stdout))
    shown = first.replace(f"{word}:", painted(f"{word}:", _STYLES[word], sys.stdout), 1)
    print("\n".join([shown, *rest]), flush=True)


def _print_files(bundle: Bundle, hash_s: float) -> None:
    from ..bundle_text import size_text, wrapped

    text = f"{len(bundle.manifest.files)} files, {size_text(bundle.n_bytes)}, as they were written"
    print("\n".join(wrapped("hashes", f"{text} ({hash_s:.1f} s)", columns_of(sys.stdout))))


def _print_end(found: Verification) -> None:
    from ..bundle_text import wrapped

    for role in found.unrunnable:
        text = f"no variant of {role} runs here: `edgestream doctor` says why"
        print("\n".join(wrapped("problem", text, columns_of(sys.stdout))))
    end = "passed" if found.exit_code == 0 else "failed"
    print("bundle".ljust(12) + painted(end, f"{BOLD};{_STYLES[end]}", sys.stdout))
