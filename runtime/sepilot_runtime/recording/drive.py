"""The normal form that every recording is read into."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions

__all__ = ["LABEL_TOLERANCE", "NOMINAL_RATE_HZ", "Drive", "Frames", "Rows", "frames_of"]

NOMINAL_RATE_HZ = 20.0
"""For recordings whose time stamps are missing or cannot be used."""

LONGEST_PAUSE_S = 600.0
"""A longer step between two time stamps is another session or a clock that was set, and no time of this recording."""


class Frames(Protocol):
    """The pictures of a whole recording, by row.

    Attributes:
        sequential: reading in order is far cheaper than jumping, so one reader at a time should go through it.
    """

    sequential: bool

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
        kind: "tub-v2", "tub-v1", "udacity", "filename-angle", "video-csv", "images" or "video".
        time_s: float64, seconds from the first frame, never falling; steps of over ten minutes are closed up.
        labels: what was recorded beside the frames, float32 by the column's name, NaN where there is none: "steering"
            in [-1, 1], + = right, "throttle", and what `ReaderOptions.labels` asks for.
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

    def __len__(self) -> int:
        return len(self.rows)

    def has(self, label: str) -> bool:
        """Every frame has this label."""
        return bool(np.isfinite(self.labels[label]).all())

    @property
    def duration_s(self) -> float:
        """What was recorded, without the pauses."""
        return float(self.time_s[-1] - self.time_s[0] - self.pauses_s.sum()) if len(self) else 0.0

    @property
    def pauses_s(self) -> NDArray[np.float64]:
        """Lengths of the stretches of over a second without a frame: the recorder paused, or frames were deleted."""
        steps = np.diff(self.time_s)
        return np.asarray(steps[steps > 1.0], np.float64)

    @property
    def rate_hz(self) -> float:
        """Frames per second by the median interval; the nominal rate for a single frame."""
        steps = np.diff(np.unique(self.time_s))
        return float(1.0 / np.median(steps)) if steps.size else NOMINAL_RATE_HZ

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
        return dataclasses.replace(self, names=tuple(self.names[i] for i in index), labels=labels, **arrays)


LABEL_TOLERANCE = 1e-6
"""How far beyond [-1, 1] a label may lie for rounding alone; it is clipped then."""


class Rows:
    """Collects rows while a reader goes through a recording; what cannot be taken is counted with its reason."""

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        self.path = path
        self._labels = ("steering", "throttle", *(n for n in options.labels if n not in ("steering", "throttle")))
        self.skipped: Counter[str] = Counter()
        self._sources: list[Any] = []
        # A name stands for one frame ever after: in splits, manifests and messages.
        self._names: dict[str, None] = {}
        self._values = array("d")  # Time, camera and labels of each row.

    @property
    def further(self) -> tuple[str, ...]:
        """The labels that were asked for besides steering and throttle."""
        return self._labels[2:]

    def skip(self, reason: str, count: int = 1) -> None:
        self.skipped[reason] += count

    def add(
        self,
        name: str,
        source: Any,
        *,
        time_s: float = float("nan"),
        steering: float | None = None,
        throttle: float = float("nan"),
        camera: int = 0,
        further: Sequence[float] = (),
    ) -> None:
        """Take a row, unless its label is no number in [-1, 1] or its frame was taken before.

        Args:
            steering: None for a row without a label.
            further: values of the labels in `self.further`; none of them where the recording has no such columns.
        """
        if steering is not None and not math.isfinite(steering):
            self.skip("label is not a number")
            return
        if steering is not None and abs(steering) > 1.0 + LABEL_TOLERANCE:
            self.skip("label out of range")
            return
        if name in self._names:
            self.skip("frame named a second time")
            return
        label = float("nan") if steering is None else min(1.0, max(-1.0, steering))
        self._sources.append(source)
        self._names[name] = None
        others = further or [math.nan] * len(self.further)
        self._values.extend((time_s, camera, label, throttle, *others))

    @property
    def sources(self) -> list[Any]:
        """What was given to `add`, one per kept row, for building the `Frames`."""
        return self._sources

    def drive(
        self, kind: str, frames: Frames, *, full_scale_deg: float, name: str = "", notes: Sequence[str] = ()
    ) -> Drive:
        """The finished drive; rows and frames correspond one to one.

        Raises:
            DriveError: no row was taken.
        """
        if not self._names:
            why = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common()) or "it is empty"
            raise DriveError(f"{self.path}: no usable frame in this {kind} drive ({why})")
        table = np.array(self._values).reshape(len(self._names), -1)
        time_s, time_notes = _usable_time(table[:, 0], several_cameras=bool(table[:, 1].any()))
        return Drive(
            id=name or self.path.name,
            path=self.path,
            kind=kind,
            time_s=time_s,
            labels={name: table[:, i].astype(np.float32) for i, name in enumerate(self._labels, 2)},
            camera=table[:, 1].astype(np.int8),
            names=tuple(self._names),
            rows=np.arange(len(table)),
            frames=frames,
            full_scale_deg=full_scale_deg,
            skipped=dict(self.skipped),
            notes=(*notes, *time_notes),
        )


def _usable_time(stamps: NDArray[np.float64], *, several_cameras: bool) -> tuple[NDArray[np.float64], list[str]]:
    """Seconds from the first frame; replaced by a nominal rate where the stamps cannot be true."""
    nominal = np.arange(len(stamps)) / NOMINAL_RATE_HZ
    if len(stamps) == 1:
        return np.zeros(1), []
    known = np.isfinite(stamps)
    if known.mean() < 0.99:
        return nominal, [f"no time stamps: {NOMINAL_RATE_HZ:g} Hz assumed"]
    stamps = _between_neighbours(stamps, known)
    wild = _wild(stamps)
    stamps = _between_neighbours(stamps, ~wild)
    steps = np.diff(stamps)
    advancing, backwards, ahead = steps[steps > 0], steps < 0, steps > LONGEST_PAUSE_S
    usual_s = float(np.median(advancing)) if advancing.size else 0.0
    # Several cameras share a stamp, a paused recording leaves gaps; a median outside of 2 to 200 Hz is no camera's.
    if not 0.005 <= usual_s <= 0.5 or backwards.sum() > max(1, 0.01 * len(steps)):
        return nominal, [f"time stamps cannot be used: {NOMINAL_RATE_HZ:g} Hz assumed"]
    notes = [] if known.all() else [f"{(~known).sum()} frames have no time stamp: put between their neighbours"]
    if wild.any():
        notes.append(f"{wild.sum():,} frames have a time stamp far from all others: put between their neighbours")
    if (repeated := int((steps == 0).sum())) and not several_cameras:
        notes.append(f"{repeated:,} frames have the time stamp of the one before")
    if ahead.any():
        step = f"over {LONGEST_PAUSE_S / 60:g} minutes"
        notes.append(f"{step} between two frames (a new session, or the clock was set), {ahead.sum():,}x: joined there")
    if backwards.any():
        notes.append(f"the clock was set back, {backwards.sum()}x: joined there")
    if not (backwards | ahead).any():
        return stamps - stamps[0], notes
    # What follows is right but for a constant.
    return np.concatenate(([0.0], np.cumsum(np.where(backwards | ahead, usual_s, steps)))), notes


def _wild(stamps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which stamps are far from both their neighbours'; one at an end might as well be on the right side of a jump."""
    far = np.abs(np.diff(stamps)) > LONGEST_PAUSE_S
    return np.concatenate(([False], far[:-1] & far[1:], [False]))


def _between_neighbours(stamps: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.interp(np.arange(len(stamps)), np.flatnonzero(known), stamps[known])


def frames_of(drive: Drive) -> Iterator[tuple[str, float, NDArray[np.uint8]]]:
    """Name, time in seconds and frame of every frame that can be read, in order."""
    for index, (name, time_s) in enumerate(zip(drive.names, drive.time_s, strict=True)):
        try:
            frame = drive.read(index)
        except FrameError:
            continue
        yield name, float(time_s), frame
