"""Finding the files of a recording, and refusing those that lie outside of it.

A recording comes from somewhere else: what its text and its links name is not trusted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.base.errors import DriveError

__all__ = ["FileFinder", "Folder"]


class FileFinder:
    """Looks names up below one folder. Each folder is listed once: a look-up is no system call."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)  # As text: a `Path` for each frame takes half of the time in which a tub is read.
        self._real_root = root.resolve()
        self._listed: dict[str, dict[str, bool]] = {}

    def find(self, name: str, *, below: str = "") -> Path | None:
        """As `locate`, as a path."""
        found = self.locate(name, below=below)
        return None if found is None else Path(found)

    def locate(self, name: str, *, below: str = "") -> str | None:
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
        path = f"{self._root}/{folder}/{leaf}" if folder else f"{self._root}/{leaf}"
        if is_link:
            self._require_inside(Path(path))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What lies directly in a folder, without what is hidden.

    Attributes:
        files: names of its files.
        folders: names of the folders in it, sorted.
    """

    path: Path
    files: frozenset[str]
    folders: tuple[str, ...]

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Raises DriveError: it cannot be read."""
        try:
            with os.scandir(path) as entries:
                seen = [entry for entry in entries if not entry.name.startswith(".")]
            files = frozenset(entry.name for entry in seen if entry.is_file())
            return cls(path=path, files=files, folders=tuple(sorted(e.name for e in seen if e.is_dir())))
        except OSError as e:
            raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e

    def with_suffix(self, suffixes: Collection[str]) -> list[str]:
        """Names of the files with one of `suffixes` (lower case), sorted."""
        return sorted(name for name in self.files if f".{name.lower().rpartition('.')[2]}" in suffixes)
