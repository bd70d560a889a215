"""Writing so that a power cut loses nothing that was reported as written."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_directory", "write_durably"]


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
