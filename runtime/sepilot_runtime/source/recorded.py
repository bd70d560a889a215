"""Recorded frames: every one of a drive in order, with its time and what was recorded."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.base.images import IMAGE_SUFFIXES, read_image
from sepilot_runtime.source.protocol import DEFAULT_RATE_HZ, Frame, SourceInfo

if TYPE_CHECKING:
    from sepilot_runtime.recording.drive import Drive
    from sepilot_runtime.recording.options import ReaderOptions

__all__ = ["PictureSource", "RecordedSource", "open_recorded"]

INNER = ("", "images", "IMG")
"""Folders in which the recording of a folder may lie, the first that has one."""


class _FileSource:
    """What sources of files have in common."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to give back: files are open while they are read, and a video as long as its drive is there."""


class PictureSource(_FileSource):
    """One image file: by itself it is no recording, and a cold start need not wait for what reads those."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lost: Counter[str] = Counter()
        self.info = SourceInfo(
            where=str(path), kind="images", live=False, width=0, height=0, rate_hz=DEFAULT_RATE_HZ, frames=1
        )

    def __iter__(self) -> Iterator[Frame]:
        """Raises DriveError: it cannot be read."""
        try:
            image = read_image(self._path)
        except FrameError as e:
            raise DriveError(f"{self._path}: not one frame can be read (1 {e.reason})") from e
        yield Frame(id=0, time_s=0.0, image=image, arrived_ns=time.monotonic_ns())


class RecordedSource(_FileSource):
    """Plays drives, one after the other. Frames that cannot be read are skipped and counted in `lost`."""

    def __init__(self, where: str, drives: Sequence[Drive]) -> None:
        """`drives`: one or more, of the same kind."""
        self._drives = drives
        self.lost: Counter[str] = Counter()
        for drive in drives:
            self.lost.update(drive.skipped)
        first = drives[0]
        self.info = SourceInfo(
            where=where,
            kind=first.kind if first.kind in ("images", "video") else "pictures" if first.groups else "drive",
            live=False,
            height=first.frames.size[0],
            width=first.frames.size[1],
            rate_hz=round(first.rate_hz, 2),
            frames=sum(map(len, drives)),
        )

    def __iter__(self) -> Iterator[Frame]:
        """
        Raises:
            DriveError: not one of the frames can be read.
        """
        begin_s, id_, given = 0.0, -1, 0
        unread: Counter[str] = Counter()
        for drive in self._drives:
            columns = {name: v.tolist() if v.ndim == 1 else v for name, v in drive.labels.items()}
            for index, time_s in enumerate(drive.time_s.tolist()):
                id_ += 1
                try:
                    image = drive.read(index)
                except FrameError as e:
                    unread[e.reason] += 1
                    self.lost[e.reason] += 1
                    continue
                given += 1
                labels = {name: v[index] for name, v in columns.items() if _known(v[index])}
                now_ns = time.monotonic_ns()
                yield Frame(
                    id=id_, time_s=begin_s + time_s, image=image, arrived_ns=now_ns, labels=labels,
                    label_names=drive.label_names,
                )  # fmt: skip
            begin_s += float(drive.time_s[-1]) + 1 / drive.rate_hz
        if not given:
            reasons = ", ".join(f"{count} {reason}" for reason, count in unread.items())
            raise DriveError(f"{self.info.where}: not one frame can be read ({reasons})")


def _known(label: Any) -> bool:
    return not math.isnan(label) if isinstance(label, float) else bool(np.isfinite(label).any())


def open_recorded(path: Path, options: ReaderOptions | None) -> RecordedSource | PictureSource:
    """Open a recording: one that lies at `path`, or the only one below it.

    Raises:
        DriveError: as `open_drives`; or several recordings lie below, and which is meant has to be said.
    """
    plain = options is None or options == type(options)()
    if plain and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return PictureSource(path)
    from sepilot_runtime.recording.opening import open_drives
    from sepilot_runtime.recording.options import ReaderOptions

    drives = open_drives([path], options or ReaderOptions())
    for inner in INNER:
        if here := [drive for drive in drives if drive.path == path / inner]:
            return RecordedSource(str(path), here)
    if len({drive.path for drive in drives}) > 1:
        found = ", ".join(str(drive.path) for drive in drives[:3])
        more = f" and {len(drives) - 3} more" if len(drives) > 3 else ""
        raise DriveError(f"{path}: one recording expected, found {len(drives)}: {found}{more}; name one of them")
    return RecordedSource(str(path), drives)
