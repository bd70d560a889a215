"""What a format of recordings is to whoever looks for recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import Folder

__all__ = ["Format", "Part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something in a folder that looks like a recording; `files` are the names of those of the folder that it needs."""

    path: Path
    files: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format; all that is known of it stands in the file that makes this.

    Attributes:
        what: for people, as part of a list.
        kinds: `Drive.kind` to the names of the `ReaderOptions` that its reader goes by.
        label: it is looked for only where somebody asks for this label; "" for all that is one whoever asks.
        fills_folder: such a recording is the whole folder: nothing else is looked for in it.
        find: what of it lies directly in a folder; cheap, and believing what it finds. Raises DriveError.
        read: the drives of a part's path, in the order of their names. Raises DriveError, UsageError.
    """

    what: str
    kinds: Mapping[str, frozenset[str]]
    label: str = ""
    fills_folder: bool = False
    find: Callable[[Folder], Iterable[Part]]
    read: Callable[[Path, ReaderOptions], list[Drive]]
