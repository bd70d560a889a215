"""What every reader collects row by row, and what is then a drive: the rules that hold for all formats."""

from __future__ import annotations

import math
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.recording.drive import NOMINAL_RATE_HZ, Drive, Frames
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.time_stamps import usable_time

__all__ = ["LABEL_TOLERANCE", "Rows", "more_than_strays"]

LABEL_TOLERANCE = 1e-6
"""How far beyond [-1, 1] a label may lie for rounding alone; it is clipped then."""

STRAY_ROWS, STRAY_SHARE = 5, 0.01

UNLABELLED = "row without a label"


def more_than_strays(count: int, of: int) -> bool:
    """So many rows are wrong that it is no accident of some, but a format that was misunderstood."""
    return count > max(STRAY_ROWS, STRAY_SHARE * of)


class Rows:
    """Collects rows while a reader goes through a recording; what cannot be taken is counted with its reason."""

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        self.path = path
        self.skipped: Counter[str] = Counter()
        self._labels = tuple(dict.fromkeys(("steering", "throttle", *options.labels, *options.wished)))
        self._names: list[str] = []
        self._sources: dict[Any, int] = {}  # What the frame is, and the place of the row that holds it.
        self._unlabelled: dict[int, str] = {}  # Place and reason.
        self._values = array("d")  # Time, camera and labels of each row.
        self._beside: dict[int, tuple[Mapping[str, NDArray[np.float32]], str]] = {}  # Wide labels and group by place.
        self._out_of_range: list[float] = []

    def __len__(self) -> int:
        return len(self._sources)

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
        time_s: float = math.nan,
        steering: float | None = None,
        throttle: float = math.nan,
        camera: int = 0,
        further: Sequence[float] = (),
        wide: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
        group: str = "",
        unlabelled: str = UNLABELLED,
    ) -> None:
        """Take a row, unless its label is no number in [-1, 1].

        Of two rows with one frame the later counts: whoever recorded on in an old folder wrote over its pictures.

        Args:
            source: what the frame is, a file or a number; the same for two rows of one frame.
            steering: None for a row without a label.
            further: values of the labels in `self.further`; none of them where the recording has no such columns.
            wide: labels of several numbers, the same ones in every row; arrays of one shape but for its first length.
            group: what no split may part.
            unlabelled: why it has no label, where it has none.
        """
        if steering is not None and self._refuses(steering):
            return
        place = len(self._names)
        if self._sources.pop(source, None) is not None:
            self.skip("frame named a second time")
        self._sources[source] = place
        self._names.append(name)
        if steering is None:
            self._unlabelled[place] = unlabelled
        label = math.nan if steering is None else min(1.0, max(-1.0, steering))
        if wide or group:
            self._beside[place] = wide, group
        others = further or [math.nan] * len(self.further)
        self._values.extend((time_s, camera, label, throttle, *others))

    def _refuses(self, steering: float) -> bool:
        """No number, or one out of range; counted."""
        if not math.isfinite(steering):
            self.skip("label is not a number")
        elif abs(steering) > 1.0 + LABEL_TOLERANCE:
            self._out_of_range.append(steering)
        else:
            return False
        return True

    def drive(
        self, kind: str, frames: Callable[[list[Any]], Frames], *, full_scale_deg: float, name: str = "",
        notes: Sequence[str] = (), timed: bool = True, unit_flags: str = "--csv-unit and --full-scale-deg",
    ) -> Drive:  # fmt: skip
        """The finished drive. Where some rows have a label, those without are left out.

        Args:
            frames: makes the frames of the sources that were given to `add`.
            timed: they follow each other in time.
            unit_flags: the options that say in what the steering was recorded.

        Raises:
            DriveError: no row was taken, or so many lie out of range that the labels must be of another unit.
        """
        self._judge_range(full_scale_deg, unit_flags)
        kept = self._kept(kind)
        table = np.array(self._values).reshape(len(self._names), -1)[list(kept.values())]
        time_s, time_notes = _time(table, timed=timed)
        notes = (*notes, *self._label_notes(table), *time_notes)
        labels, groups = self._labels_of(table, kept.values())
        return Drive(
            id=name or self.path.name,
            path=self.path,
            kind=kind,
            time_s=time_s,
            labels=labels,
            camera=table[:, 1].astype(np.int8),
            names=self._distinct([self._names[i] for i in kept.values()], kept),
            rows=np.arange(len(table)),
            frames=frames(list(kept)),
            full_scale_deg=full_scale_deg,
            skipped=dict(self.skipped),
            notes=notes,
            groups=groups,
        )

    def _labels_of(
        self, table: NDArray[np.float64], kept: Iterable[int]
    ) -> tuple[dict[str, NDArray[np.float32]], tuple[str, ...]]:
        """Labels and groups of the rows at the places `kept`, of which `table` has the numbers."""
        labels = {name: table[:, i].astype(np.float32) for i, name in enumerate(self._labels, 2)}
        beside = [self._beside.get(place, ({}, "")) for place in kept if self._beside]
        groups = tuple(group for _, group in beside)
        return labels | _stacked([wide for wide, _ in beside]), groups if any(groups) else ()

    def _label_notes(self, table: NDArray[np.float64]) -> list[str]:
        """Why labels are not there; a throttle that cannot be one is made unknown in `table`."""
        why = Counter(self._unlabelled.values()) if np.isnan(table[:, 2]).all() else Counter[str]()
        wide = next(iter(self._beside.values()), ({}, ""))[0]
        further = [(i, name) for i, name in enumerate(self.further, 4) if name not in wide]
        missing = [name for i, name in further if np.isnan(table[:, i]).all()]
        return [
            *(f"{count:,} frames: {reason}" for reason, count in why.items() if reason != UNLABELLED),
            *(f"no numbers in a column {name!r}" for name in missing),
            *_without_impossible(table[:, 3]),
        ]

    def _judge_range(self, full_scale_deg: float, unit_flags: str) -> None:
        out, total = len(self._out_of_range), len(self._out_of_range) + len(self._sources)
        if more_than_strays(out, total):
            low, high = min(self._out_of_range), max(self._out_of_range)
            raise DriveError(
                f"{self.path}: steering from -1 to 1 of full scale ({full_scale_deg:g} degrees) expected, found "
                f"{low:g} to {high:g} in {out:,} of {total:,} rows; say in what it was recorded with {unit_flags}"
            )
        if out:
            self.skip("label out of range", out)

    def _kept(self, kind: str) -> dict[Any, int]:
        """Sources and places of the rows that stay: without those that have no label where others have one."""
        if not self._sources:
            why = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common()) or "it is empty"
            raise DriveError(f"{self.path}: no usable frame in this {kind} drive ({why})")
        if len(self._unlabelled) >= len(self._names):
            return self._sources
        kept = {source: place for source, place in self._sources.items() if place not in self._unlabelled}
        if not kept:
            return self._sources
        for place in self._sources.values():
            if place in self._unlabelled:
                self.skip(self._unlabelled[place])
        return kept

    def _distinct(self, names: list[str], sources: dict[Any, int]) -> tuple[str, ...]:
        """A name stands for one frame ever after, in splits and messages: files of one name get their folders'."""
        if len(set(names)) == len(names):
            return tuple(names)
        count = Counter(names)
        return tuple(
            name if count[name] == 1 else os.path.relpath(source, self.path)
            for name, source in zip(names, sources, strict=True)
        )


def _time(table: NDArray[np.float64], *, timed: bool) -> tuple[NDArray[np.float64], list[str]]:
    if not timed:
        return np.arange(len(table)) / NOMINAL_RATE_HZ, []
    return usable_time(table[:, 0], several_cameras=bool(table[:, 1].any()))


def _stacked(rows: Sequence[Mapping[str, NDArray[np.float32]]]) -> dict[str, NDArray[np.float32]]:
    """(n, longest, …) by label: shorter ones are filled up with NaN."""
    stacked = {}
    for name in rows[0] if rows else ():
        longest = max(len(row[name]) for row in rows)
        values = np.full((len(rows), longest, *rows[0][name].shape[1:]), np.nan, np.float32)
        for place, row in enumerate(rows):
            values[place, : len(row[name])] = row[name]
        stacked[name] = values
    return stacked


def _without_impossible(throttle: NDArray[np.float64]) -> list[str]:
    """Makes a throttle that cannot be one unknown, in place; with a note."""
    out = np.abs(throttle) > 1.0 + LABEL_TOLERANCE
    if not out.any():
        return []
    low, high = throttle[out].min(), throttle[out].max()
    throttle[out] = np.nan
    return [f"throttle from {low:g} to {high:g} in {out.sum():,} rows, -1 to 1 expected: taken as unknown"]
