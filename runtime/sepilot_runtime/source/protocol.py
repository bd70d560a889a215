"""Sources: where frames come from, and what each of them promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEFAULT_RATE_HZ", "EndOfSource", "Frame", "LiveSource", "S", "Source", "SourceAround", "SourceInfo"]

DEFAULT_RATE_HZ = 20.0
"""Of a camera that does not say its own: Donkeycar's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture of the world.

    Attributes:
        id: counts up; a live source leaves out the numbers of the frames that it dropped.
        time_s: since the start of the recording, or since the source was opened.
        image: (H, W, 3) uint8 BGR; or (H, W) uint8, gray or `LimitedLuma`, where a model sees gray and the
            camera gives it so; such an image may be a view with steps between its pixels.
        arrived_ns: `time.monotonic_ns()` when it was received or decoded.
        labels: what was recorded beside it, by the column's name; without those that are not known. A number, or
            float32 as `Drive.labels` has them for boxes and points.
        label_names: by label, what its numbers stand for, where they stand for something (`Drive.label_names`).
    """

    id: int
    time_s: float
    image: NDArray[np.uint8]
    arrived_ns: int
    labels: Mapping[str, Any] = field(default_factory=dict)
    label_names: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What a source turned out to be, read back after opening.

    Attributes:
        kind: "camera", "stream", "video", "images", "pictures" (a set) or "drive".
        live: frames come whether or not anyone is ready; only the newest counts.
        width, height: of its frames as announced, 0 where that is not known before the first.
        rate_hz: frames per second as announced or estimated.
        frames: how many there should be, None where nobody knows.
        format: what a camera sends and what is taken of it, for people: "NV12, luma only".
        note: what was asked for and not given; "" where all was.
    """

    where: str
    kind: str
    live: bool
    width: int
    height: int
    rate_hz: float
    frames: int | None
    format: str = ""
    note: str = ""

    def __str__(self) -> str:
        # "camera 0" is a name by itself, "road.mp4" is none.
        name = self.where if self.where.startswith(f"{self.kind} ") else f"{self.kind} {self.where}"
        size = f", {self.width}x{self.height}" if self.width else ""
        count = f", {self.frames} frames" if self.frames is not None else ""
        sent = f", {self.format}" if self.format else ""
        note = f" ({self.note})" if self.note else ""
        return f"{name}{size} at {self.rate_hz:g} Hz{count}{sent}{note}"


class Source(Protocol):
    """Gives frames; a context manager, as it may hold a device.

    Attributes:
        info: what it is.
        lost: how many frames did not come through, by reason: skipped as unreadable, or dropped as no longer new.
    """

    @property
    def info(self) -> SourceInfo: ...
    @property
    def lost(self) -> Mapping[str, int]: ...

    def __iter__(self) -> Iterator[Frame]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


class EndOfSource(Exception):
    """A live source is through: what it plays has ended."""


class LiveSource(Source, Protocol):
    """A source that gives what is there now, and comes back by itself, in the background.

    Iterating gives newest frames too, and ends with DriveError where none comes for some seconds.

    Attributes:
        connected: False while it tries to come back.
    """

    @property
    def connected(self) -> bool: ...

    def newest(self, timeout_s: float) -> Frame | None:
        """A frame that was not taken before, waiting for it at most `timeout_s`; None when none came.

        Raises:
            EndOfSource: there will be no more, and nothing went wrong.
            DriveError: the device cannot come back.
        """


S = TypeVar("S", bound=Source)


class SourceAround(Generic[S]):
    """What sources that are made of another one have in common: they are opened and closed with it."""

    def __init__(self, source: S) -> None:
        self._source = source

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._source.__exit__(*error)
