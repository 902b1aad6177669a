"""A state folder: what a run has kept, saved so that a later run can go on from it.

`DIR/<n>/` is one snapshot. Each appears whole, under a number of its own, before an older one goes;
the last two are kept. Whatever kills the writer, the newest one that has its name can be read.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from .errors import OutputUnwritable, StateInvalid
from .state_snapshot import ANOTHER, SNAPSHOT_FILE, State, read_snapshot, write_snapshot
from .whole_folder import whole_folder

KEPT = 2
REMOVED = ".*.removed-*"
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


class StateFolder:
    """One run's hold on a state folder. Use it in a `with` block; nobody else can meanwhile.

    State: the lock on the folder; the numbers of snapshots that were found damaged, and the last
    one that was used.

    Args:
        folder: made where it is not there; its parent must exist.

    Raises:
        OutputUnwritable: it is no folder, may not be written, or another run holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._lock: int | None = locked_state(self.folder)
        self._damaged: set[int] = set()
        self._last = 0

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; a second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(
        self, bundle_sha256: str | None, tell: Callable[[StateInvalid], None] | None = None
    ) -> State | None:
        """The newest snapshot that can be read; None where there is none at all.

        A damaged one is passed over for the one before it. One of another bundle or of a newer
        format is not: its user means something else than what would happen.

        Args:
            bundle_sha256: of the bundle that goes on from it; None without one.
            tell: takes the fault of each snapshot that was passed over.

        Raises:
            StateMismatch: the newest is of another bundle.
            FormatTooNew: it is of a newer format.
            StateInvalid: snapshots are there, and each is damaged.
        """
        faults: list[StateInvalid] = []
        for number in sorted(self._numbers(), reverse=True):
            try:
                state = read_snapshot(self.folder / str(number), bundle_sha256)
            except StateInvalid as fault:
                faults.append(fault)
                self._damaged.add(number)
                continue
            if tell is not None:
                for passed_over in faults:
                    tell(passed_over)
            return state
        if faults:
            raise faults[0]
        return None

    def write(self, state: State, *, kept: int = KEPT) -> int:
        """Save a snapshot; afterwards it and the last good ones before it are kept.

        Args:
            state: what is saved.
            kept: snapshots that are, with this one.

        Returns:
            its number.

        Raises:
            OutputFull: the disk is full; the older snapshots are as they were.
            OutputUnwritable: the folder went away or may not be written.

        Cost: all bytes of it are written, read once for their hash, and flushed to the disk.
        """
        self._last = number = max(self._last, *self._numbers(), 0) + 1
        with _faults_named(self.folder):
            with whole_folder(self.folder / str(number)) as place:
                write_snapshot(place, state)
            self._remove_older(number, kept)
        return number

    def wipe(self) -> None:
        """Remove every snapshot, and what killed writers and removals have left.

        Raises:
            OutputUnwritable: something of it is still there.
        """
        with _faults_named(self.folder):
            for number in self._numbers():
                self._last = max(self._last, number)
                self._take_number_away(number)
            for pattern in (REMOVED, ".*.writing-*"):
                for left in self.folder.glob(pattern):
                    shutil.rmtree(left)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _numbers(self) -> list[int]:
        with _faults_named(self.folder):
            return [int(name) for name in os.listdir(self.folder) if _NUMBER.fullmatch(name)]

    def _remove_older(self, newest: int, kept: int) -> None:
        """Remove what is older than the last ones kept, and what a killed removal has left.

        First the number is taken away, then the files: a half of a snapshot never has a number.
        What holds no snapshot.json is somebody else's.
        """
        older = sorted((n for n in self._numbers() if n != newest), reverse=True)
        good = [number for number in older if number not in self._damaged][: kept - 1]
        for number in set(older) - set(good):
            self._take_number_away(number)
        for left in self.folder.glob(REMOVED):
            shutil.rmtree(left, ignore_errors=True)

    def _take_number_away(self, number: int) -> None:
        place = self.folder / str(number)
        if place.is_dir() and not place.is_symlink() and (place / SNAPSHOT_FILE).exists():
            place.rename(self.folder / f".{number}.removed-{secrets.token_hex(4)}")


def locked_state(folder: Path) -> int:
    """A lock on a folder, made where it is not there; it lasts until this descriptor is closed.

    Raises:
        OutputUnwritable: it is no folder, may not be written, or another run holds it.
    """
    import fcntl  # POSIX alone; imported here so that this file can be read elsewhere

    with _faults_named(folder):
        folder.mkdir(exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise OutputUnwritable(
            f"the state folder {folder} is in use by another run, expected one run a folder",
            hint=ANOTHER,
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        os.close(held)
        raise OutputUnwritable(f"the state folder {folder} may not be written", hint=ANOTHER)
    return held


@contextmanager
def _faults_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputUnwritable(
            f"the state folder {folder} cannot be used: {(error.strerror or str(error)).lower()}",
            hint=ANOTHER,
        ) from error
