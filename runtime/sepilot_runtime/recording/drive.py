"""The normal form that every recording is read into."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.recording.options import DriveFilter

__all__ = ["NOMINAL_RATE_HZ", "Drive", "Frames", "frames_of", "median"]

NOMINAL_RATE_HZ = 20.0
"""For recordings whose time stamps are missing or cannot be used."""

LONGEST_STEP_S = 1.0
"""From frame to frame; a longer one is a pause."""


class Frames(Protocol):
    """The pictures of a whole recording, by row.

    Attributes:
        sequential: reading in order is far cheaper than jumping, so one reader at a time should go through it.
        size: (height, width) of each where that is known before the first is read, or (0, 0).
    """

    sequential: bool

    @property
    def size(self) -> tuple[int, int]: ...

    def __len__(self) -> int: ...

    def read(self, row: int) -> NDArray[np.uint8]:
        """BGR (H, W, 3) uint8. Raises FrameError."""
        ...

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of the file that each row comes from; 0 where it is gone."""
        ...

    def stamp(self) -> bytes:
        """Changes whenever the pixels might have."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drive:
    """One recording.

    All arrays have one entry per kept frame, in the order of recording.

    Attributes:
        id: unique among the drives that were opened together.
        kind: one of its format's: "tub-v2", "tub-v1", "udacity", "picture-csv", "filename-angle", "images", "video-csv"
            or "video"; of sets "voc", "coco", "yolo", "class-folders" or "picture-csv".
        time_s: float64, seconds from the first frame, never falling; steps of over ten minutes are closed up.
        labels: what was recorded beside the frames, float32 by the column's name, NaN where there is none. (n,):
            "steering" in [-1, 1], + = right, "throttle", and what `ReaderOptions.labels` asks for; "class", places in
            its `label_names`. (n, most, 5), "boxes": place of the class, centre x, centre y, width and height in
            fractions of the frame; a first row of class -1 where it is known that nothing is there. (n, points, 2),
            "points": x and y in fractions of the frame.
        label_names: by label, what the numbers in it stand for: classes, names of points.
        groups: of each frame what no split may part, such as a track or a person; none where the frames are a stretch
            of time.
        side: of a data set, by the name of its folder.
        camera: int8; 0 centre, -1 left, +1 right.
        names: of the frames, for messages and manifests.
        frames: the whole recording's; `rows` says which of them are the kept ones.
        full_scale_deg: wheel angle of a steering of 1.
        skipped: reason to number of rows that could not be taken.
        notes: what a user should know about this recording.
    """

    id: str
    path: Path
    kind: str
    time_s: NDArray[np.float64]
    labels: Mapping[str, NDArray[np.float32]]
    camera: NDArray[np.int8]
    names: tuple[str, ...]
    rows: NDArray[np.int64]
    frames: Frames
    full_scale_deg: float
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    side: Literal["", "train", "val", "test"] = ""

    def __len__(self) -> int:
        return len(self.rows)

    def has(self, label: str) -> bool:
        """Every frame has this label, or, of boxes and points, which not every frame shows, any has."""
        values = self.labels.get(label)
        return values is not None and bool(np.isfinite(values).all() if values.ndim == 1 else np.isfinite(values).any())

    @property
    def duration_s(self) -> float:
        """What was recorded, without the pauses."""
        return float(self.time_s[-1] - self.time_s[0] - self.pauses_s.sum()) if len(self) else 0.0

    @property
    def pauses_s(self) -> NDArray[np.float64]:
        """Lengths of the stretches of over a second without a frame: the recorder paused, or frames were deleted."""
        steps = np.diff(self.time_s)
        return np.asarray(steps[steps > LONGEST_STEP_S], np.float64)

    @property
    def rate_hz(self) -> float:
        """Frames per second by the median interval; the nominal rate for a single frame."""
        steps = np.diff(self.time_s)
        return 1.0 / median(steps[steps > 0]) if (steps > 0).any() else NOMINAL_RATE_HZ

    @property
    def before(self) -> NDArray[np.int64]:
        """Of each frame the place of the one before it, by the same camera and at most a second ago; -1: none."""
        found = np.full(len(self), -1, np.int64)
        for camera in set(self.camera.tolist()):
            places = np.flatnonzero(self.camera == camera)
            follow = np.diff(self.time_s[places]) <= LONGEST_STEP_S
            found[places[1:][follow]] = places[:-1][follow]
        return found

    def read(self, index: int) -> NDArray[np.uint8]:
        """The kept frame at `index`: BGR (H, W, 3) uint8. Raises FrameError."""
        return self.frames.read(int(self.rows[index]))

    def filtered(self, wanted: DriveFilter) -> Drive:
        """The drive with only the wanted frames.

        Raises:
            DriveError: none is left.
        """
        keep = np.ones(len(self), bool)
        if wanted.min_throttle is not None:
            keep &= np.nan_to_num(self.labels["throttle"], nan=-np.inf) > wanted.min_throttle
        if wanted.from_s is not None:
            keep &= self.time_s >= wanted.from_s
        if wanted.to_s is not None:
            keep &= self.time_s < wanted.to_s
        place = np.arange(len(self))
        if wanted.first is not None:
            keep &= place >= wanted.first
        if wanted.last is not None:
            keep &= place <= wanted.last
        if not keep.any():
            limits = ", ".join(f"{k}={v:g}" for k, v in dataclasses.asdict(wanted).items() if v is not None)
            raise DriveError(f"{self.path}: no frame is left after {limits}; the drive has {len(self)} frames")
        return self.taken(np.flatnonzero(keep))

    def taken(self, index: NDArray[np.int64]) -> Drive:
        """The frames at `index`, in that order."""
        arrays = {key: getattr(self, key)[index] for key in ("time_s", "camera", "rows")}
        labels = {name: values[index] for name, values in self.labels.items()}
        names, groups = (tuple(texts[i] for i in index) if texts else () for texts in (self.names, self.groups))
        return dataclasses.replace(self, names=names, groups=groups, labels=labels, **arrays)


def frames_of(drive: Drive) -> Iterator[tuple[str, float, NDArray[np.uint8]]]:
    """Name, time in seconds and frame of every frame that can be read, in order."""
    for index, (name, time_s) in enumerate(zip(drive.names, drive.time_s, strict=True)):
        try:
            frame = drive.read(index)
        except FrameError:
            continue
        yield name, float(time_s), frame


def median(values: NDArray[np.float64]) -> float:
    """Of one or more. NumPy's own (and `unique`) import masked arrays, a third of the time in which a tub is opened."""
    ordered, middle = np.sort(values), len(values) // 2
    return float(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)
