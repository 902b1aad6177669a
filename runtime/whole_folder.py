"""A folder that appears under its name whole, or not at all.

Everything is written into a hidden folder beside the target, flushed to the disk, and given its
name by one rename. The hidden folder is locked while its writer lives; the kernel lets go of the
lock when the writer dies, however it dies, so the next writer can tell what is left over.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputExists, OutputFull, OutputUnwritable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextmanager
def whole_folder(target: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A folder to write into; it becomes `target` when the block ends without an error.

    After an error or Ctrl-C nothing of it is left. After a kill or a power cut the target is what
    it was before, and the next call for the same target removes what was left beside it.

    Args:
        target: must not exist, or be an empty folder; its parent must exist.
        replaces: name of a file; a target that holds one may be replaced. It is swapped with the
            new folder when that is complete, and then removed.

    Raises:
        OutputExists: the target is there and may not be replaced.
        OutputFull: the disk is full.
        OutputUnwritable: the parent is not there or may not be written.

    Cost: one flush to the disk per file and folder.
    """
    target = Path(os.path.abspath(target))
    with _full_disk_named(target), _faults_named(target):
        _check_target(target, replaces)
        _remove_leftovers(target)
        staging, lock = _locked_folder(target)
    try:
        with _full_disk_named(target):
            yield staging
        with _full_disk_named(target), _faults_named(target):
            _flush(staging)
            _check_target(target, replaces)
            _give_name(staging, target)
            _flush_entry(target.parent)
    finally:
        # What lies here now is an unfinished folder, the old target, or nothing.
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def check_place(target: Path, *, replaces: str | None = None) -> None:
    """Raise what `whole_folder` would at its beginning: before long work, not after it.

    Args:
        target, replaces: as for `whole_folder`.
    """
    target = Path(os.path.abspath(target))
    with _full_disk_named(target), _faults_named(target):
        _check_target(target, replaces)
        staging, lock = _locked_folder(target)
        os.rmdir(staging)
        os.close(lock)


@contextmanager
def _full_disk_named(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise  # the block's own fault, such as an input that is not there
        raise OutputFull(
            f"no space is left for {target.parent.name}/{target.name}; nothing of it was kept",
            hint="free some space, or write elsewhere",
        ) from error


@contextmanager
def _faults_named(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and target.exists():
            raise _exists(target, "it appeared while it was written") from error
        raise OutputUnwritable(
            f"{target.name} cannot be written: {error.strerror}: {target.parent}",
            hint="give a place in a folder that exists and that you may write to",
        ) from error


def _check_target(target: Path, replaces: str | None) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise _exists(target, "it is no folder")
    if not any(target.iterdir()):
        return
    if replaces is None:
        raise _exists(target, "it is not empty")
    if not (target / replaces).is_file():
        raise _exists(target, f"it holds no {replaces}, so it is nothing that may be replaced")


def _exists(target: Path, why: str) -> OutputExists:
    return OutputExists(
        f"{target} is already there and stays as it is: {why}",
        hint="choose another name, or --force to replace an older result of the same kind",
    )


def _prefix(target: Path) -> str:
    return f".{target.name}.writing-"


def _locked_folder(target: Path) -> tuple[Path, int]:
    """A new hidden folder and the lock on it.

    Between its making and its locking another writer may take it for left over and remove it; then
    it has no link any more, and another one is made.
    """
    while True:
        staging = target.parent / f"{_prefix(target)}{secrets.token_hex(4)}"
        staging.mkdir()
        lock = _lock(staging)
        if lock is not None and os.fstat(lock).st_nlink:
            return staging, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A lock on a folder that goes with this process; None where another one has it."""
    import fcntl  # POSIX alone; imported here so that this file can be read elsewhere

    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


def _remove_leftovers(target: Path) -> None:
    """Remove the hidden folders of writers that are gone; leave those of living ones."""
    for left in target.parent.iterdir():
        if left.name.startswith(_prefix(target)) and left.is_dir() and not left.is_symlink():
            lock = _lock(left)
            if lock is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)


def _flush(folder: Path) -> None:
    """Everything in a folder is on the disk, the folders too, deepest first."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            _flush_entry(Path(root, name))
        _flush_entry(Path(root))


def _flush_entry(path: Path) -> None:
    held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def _give_name(staging: Path, target: Path) -> None:
    """One rename; or one exchange of names where an older target is replaced."""
    if not target.is_dir() or not any(target.iterdir()):
        os.rename(staging, target)
    elif not _exchange(staging, target):
        # Without the exchange there is an instant in which the target has no name; a kill in it
        # leaves the old one under a hidden name that nothing removes.
        aside = target.parent / f".{target.name}.replaced-{secrets.token_hex(4)}"
        os.rename(target, aside)
        os.rename(staging, target)
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where this system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    done = rename(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    if done == 0:
        return True
    fault = ctypes.get_errno()
    if fault in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(fault, os.strerror(fault), str(other))
