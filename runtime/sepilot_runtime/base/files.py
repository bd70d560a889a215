"""Writing files so that a reader never sees half of one.

Everything is written beside its destination and renamed, which is atomic within one file system. A failure or Ctrl-C
removes what was written and leaves whatever stood there before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sepilot_runtime.base.caps import DOCUMENT_BYTES
from sepilot_runtime.base.errors import OutputError, SepilotError
from sepilot_runtime.base.reading import open_regular, read_regular

__all__ = [
    "atomic_directory",
    "atomic_file",
    "exists",
    "gzip_size",
    "read_json",
    "require_new",
    "require_place",
    "sha256_of",
    "sync_directory",
    "write_durably",
    "write_json",
    "writing",
]


def exists(path: Path, error: type[SepilotError], *, follow_symlinks: bool = True) -> bool:
    """Whether there is a file or folder at `path`.

    `Path.exists` is of no use in a folder without permission: some versions of Python raise there, others say no.

    Args:
        follow_symlinks: without, a link that leads nowhere is there.

    Raises:
        error: it cannot be told.
    """
    try:
        path.stat(follow_symlinks=follow_symlinks)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as e:
        raise error(f"{path}: cannot be read: {e.strerror or e}") from e
    return True


def require_new(path: Path) -> None:
    """Refuse an output path that exists or cannot be made, before any work is done for it.

    Raises:
        OutputError: something is at `path` already, or the folder that it would lie in takes no new entry.
    """
    with writing(path):
        there = path.exists() or path.is_symlink()
    if there:
        raise OutputError(f"{path}: exists already; name a new path or remove it first")
    require_place(path)


def require_place(path: Path) -> None:
    """Refuse an output path, that of a file which may be there already, where none can be made.

    Raises:
        OutputError: it is a folder, or the folder that it would lie in takes no new entry.
    """
    with writing(path):
        folder = path.is_dir()
        parent = next(p for p in path.absolute().parents if p.exists())
    if folder:
        raise OutputError(f"{path}: a file expected, found a folder")
    if not parent.is_dir():
        raise OutputError(f"{path}: cannot be written: {parent} is not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written: no permission in {parent}")


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Give a temporary path beside `path` with the same suffix; rename it to `path` when the block succeeds.

    Args:
        mode: of the file; nobody gets more than the mask of the process allows, nor anything before it is renamed.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    part = Path(name)
    try:
        with writing(path):
            yield part
            part.chmod(mode & ~_umask())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary directory beside `path`; rename it to `path` when the block succeeds.

    With `overwrite` an existing `path` is replaced in the last moment; without, it is an error.

    Raises:
        OutputError: `path` exists, cannot be written, or the disk is full.
    """
    if not overwrite:
        require_new(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        with writing(path):
            yield part
            part.chmod(0o777 & ~_umask())
            if overwrite and path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
                path.replace(old / path.name)
                part.replace(path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: Path, value: Any, *, mode: int = 0o666) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused, as JSON has no word for them.

    `mode` is that of `atomic_file`.
    """
    with atomic_file(path, mode=mode) as part:
        part.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, error: type[SepilotError] = SepilotError, *, limit: int = DOCUMENT_BYTES) -> Any:
    """Read one JSON document.

    Raises:
        error: the file is missing, no regular file, of more than `limit` bytes, not UTF-8 or not JSON; the message
            names the file and the place.
    """
    try:
        return json.loads(read_regular(path, limit).decode("utf-8"))
    except FileNotFoundError as e:
        raise error(f"{path}: no such file") from e
    except OSError as e:
        raise error(f"{path}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise error(f"{path}: cannot be read: {e}") from e
    except json.JSONDecodeError as e:
        raise error(f"{path}: line {e.lineno}, column {e.colno}: not JSON ({e.msg})") from e
    except (ValueError, RecursionError) as e:  # A number of thousands of digits; thousands of brackets.
        raise error(f"{path}: not JSON that can be read") from e


def sha256_of(path: Path, *, limit: int | None = None) -> str:
    """Hexadecimal SHA-256 of a regular file's bytes; OSError where it is none."""
    with open_regular(path, limit) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    # The kernel tells the mask only by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into an OutputError that names `path`."""
    try:
        yield
    except OSError as e:
        # A file that was to be read names itself; what remains is about the place that is written to.
        raise OutputError(f"{path}: cannot be written: {e.strerror or e}") from e


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(folder: Path) -> None:
    """Wait until names in a directory are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def gzip_size(file: Path | bytes) -> int:
    """Bytes of a file or of its content after gzip at its highest level. Zeros cost next to nothing there."""
    import gzip

    return len(gzip.compress(file if isinstance(file, bytes) else file.read_bytes(), 9))
