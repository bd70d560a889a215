"""One process at a time for a place that is written to for minutes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.base.files import writing

__all__ = ["claimed"]


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep `path` for this process while the block runs, by a locked file `.NAME.lock` beside it.

    The lock ends with the process, however that ends: a file that was left behind is in nobody's way.

    Raises:
        OutputError: another process has claimed it, or the folder that it lies in cannot be written.
    """
    whole = path.absolute()
    lock = whole.parent / f".{whole.name}.lock"
    with writing(path):
        whole.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not _locked(handle, lock):
            raise OutputError(f"{path}: another process writes there at this moment; wait for it or name a new path")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _locked(handle: int, lock: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it may have removed it in between.
        return os.path.samestat(os.fstat(handle), lock.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        # A network's file system without locks.
        return True
