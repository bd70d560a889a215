"""Finding the files of a recording, and refusing those that lie outside of it.

A recording comes from somewhere else: what its text and its links name is not trusted.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sepilot_runtime.base.errors import DriveError

__all__ = ["FileFinder", "children_of", "files_in"]


class FileFinder:
    """Looks names up below one folder. Each folder is listed once: a look-up is no system call."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = root.resolve()
        self._listed: dict[str, dict[str, bool]] = {}

    def find(self, name: str, *, below: str = "") -> Path | None:
        """The file `name` in the folder `below`, with / between folders; None when there is no such file.

        Raises:
            DriveError: it is absolute, climbs by `..`, or a link on the way leads out of the recording.
        """
        # Joining an absolute path would drop the root; a Windows path is one strange name here and does no harm.
        if name.startswith("/") or ".." in name.split("/"):
            raise DriveError(f"{self.root}: names the file {name!r}, which lies outside of the drive; refused")
        folder, _, leaf = f"{below}/{name}".rpartition("/")
        folder = folder.lstrip("/")
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        is_link = self._listed[folder].get(leaf)
        if is_link is None:
            return None
        path = self.root / folder / leaf
        if is_link:
            self._require_inside(path)
        return path

    def _list(self, folder: str) -> dict[str, bool]:
        """Names of files, and whether each is a link."""
        path = self.root / folder
        try:
            with os.scandir(path) as entries:
                found = {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in the name.
            return {}
        except OSError as e:
            if e.errno == errno.ENAMETOOLONG:
                return {}
            raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e
        self._require_inside(path)
        return found

    def _require_inside(self, path: Path) -> None:
        if not path.resolve().is_relative_to(self._real_root):
            raise DriveError(
                f"{path}: is a link that leads outside of the drive; refused (cp -rL makes a copy that has none)"
            )


def files_in(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files directly in `folder` with one of `suffixes` (lower case), without hidden ones, in no order.

    Raises:
        DriveError: the folder cannot be read.
    """
    return [p for p in _entries(folder) if p.suffix.lower() in suffixes and p.is_file()]


def children_of(folder: Path) -> list[Path]:
    """Folders directly in `folder` without hidden ones, sorted. Raises as `files_in`."""
    return sorted(p for p in _entries(folder) if p.is_dir())


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as e:
        raise DriveError(f"{folder}: cannot be read: {e.strerror or e}") from e
