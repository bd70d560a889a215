"""CSV files as recorders write them: their columns, units and times."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.caps import RECORDING_BYTES, ROW_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.reading import open_regular, read_regular
from sepilot_runtime.recording.options import ReaderOptions, degrees_per
from sepilot_runtime.recording.rows import more_than_strays

__all__ = ["OPTIONS", "STEERING", "Table", "open_table", "read_rows", "to_number"]

STEERING = ("steering", "steering_angle", "wheel", "angle", "user/angle", "steer")
THROTTLE = ("throttle", "user/throttle")
TIME = ("ts_micro", "timestamp", "time", "time_s", "ts", "t")

OPTIONS = frozenset({"full_scale_deg", "positive", "csv_steering", "csv_time", "csv_unit", "labels"})
"""The reader's options that a `Table` goes by."""


def read_rows(path: Path, most: int | None = None) -> list[list[str]]:
    """Rows of trimmed cells, without empty rows; the first `most` of them.

    Cells are parted by semicolons, tabs, commas or blanks, whichever the first line has.

    Raises:
        DriveError: the file cannot be read, or is not a CSV file.
    """
    try:
        if most is None:
            text = read_regular(path, RECORDING_BYTES)
        else:
            with open_regular(path) as file:
                text = file.read(ROW_BYTES)
        lines = text.decode("utf-8-sig", "replace").splitlines()
        lines = [line for line in lines if line.strip()][:most]
        parted_by = next((mark for mark in ";\t, " if lines and mark in lines[0].strip()), ",")
        rows = csv.reader(lines, delimiter=parted_by, skipinitialspace=True)
        return [[cell.strip() for cell in row] for row in rows]
    except OSError as e:
        raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e
    except csv.Error as e:
        raise DriveError(f"{path}: is not a CSV file: {e}") from e


def to_number(cell: str) -> float:
    """NaN for what is no number; a decimal comma is a point."""
    try:
        return float(cell.replace(",", ".") if cell.count(",") == 1 else cell)
    except ValueError:
        return math.nan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A table by columns.

    Attributes:
        columns: name to cells, all of the same number; "" where a row broke off.
    """

    path: Path
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def named(self, known: Sequence[str]) -> str | None:
        """The first column with one of the names, in any case."""
        by_lower = {name.lower(): name for name in self.columns}
        return next((by_lower[name] for name in known if name in by_lower), None)

    def pick(self, wanted: str, known: Sequence[str], flag: str) -> str:
        """The column `wanted`, or without it the first with one of the names. Raises DriveError: there is none."""
        if wanted and wanted not in self.columns:
            raise DriveError(f"{self.path}: column {wanted!r} expected, found {', '.join(self.columns)}")
        if found := wanted or self.named(known):
            return found
        names = ", ".join(self.columns)
        raise DriveError(f"{self.path}: none of the columns {names} is known; name the right one with {flag}")

    def numbers(self, column: str | None) -> NDArray[np.float64]:
        """NaN for each cell that is no number, and for all of a column that is not there."""
        cells = self.columns.get(column or "")
        return np.full(len(self), np.nan) if cells is None else np.array([to_number(c) for c in cells], np.float64)

    def labels(
        self, options: ReaderOptions, full_scale_deg: float, further: Sequence[str]
    ) -> tuple[list[list[float]], str]:
        """For each row the steering in [-1, 1], + = right, the throttle and the columns `further`; NaN for no number.

        And a note on how the steering was read.

        Raises:
            DriveError: a column or a unit of the steering that cannot be told.
        """
        steering_deg, note = self._steering_deg(options, full_scale_deg)
        columns = [self.numbers(name) for name in (self.named(THROTTLE), *further)]
        labels = np.stack([options.sign * steering_deg / full_scale_deg, *columns], axis=1)
        return labels.tolist(), note

    def _steering_deg(self, options: ReaderOptions, full_scale_deg: float) -> tuple[NDArray[np.float64], str]:
        """The column in degrees, its sign as in the file."""
        name = self.pick(options.csv_steering, STEERING, "--csv-steering")
        values = self.numbers(name)
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        unit = options.csv_unit
        if unit == "auto":
            if largest <= math.pi and (name.lower() == "wheel" or "rad" in name.lower()):
                unit = "rad"
            elif "deg" in name.lower() or largest > math.pi:
                unit = "deg"
            elif largest <= 1.0:
                unit = "full-scale"
            else:
                raise DriveError(
                    f"{self.path}: column {name!r} reaches {largest:g}; say its unit with --csv-unit rad, deg, percent "
                    "or full-scale"
                )
        note = f"steering read from column {name!r} in {unit}, + = {options.positive}"
        return values * degrees_per(unit, full_scale_deg), note

    def seconds(self, options: ReaderOptions) -> NDArray[np.float64] | None:
        """The time column, None without one. Raises DriveError: the one that was asked for is not there."""
        if not options.csv_time and not self.named(TIME):
            return None
        values = self.numbers(self.pick(options.csv_time, TIME, "--csv-time"))
        # By their size, not their name: a `ts_micro` column was seen to hold milliseconds.
        largest = float(values[np.isfinite(values)].max(initial=0.0))
        divisor = next((d for limit, d in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)) if largest > limit), 1.0)
        return np.asarray(values / divisor, np.float64)


def open_table(path: Path) -> Table:
    """A table with a header; columns of one without are called 1, 2, …

    Raises:
        DriveError: it cannot be read, has no row, or rows of more cells than columns.
    """
    rows = read_rows(path)
    if rows and any(not math.isnan(to_number(cell)) for cell in rows[0]):
        rows = [[str(i + 1) for i in range(len(rows[0]))], *rows]
    if len(rows) < 2:
        raise DriveError(f"{path}: a header and at least one row expected, found {len(rows)} lines")
    header, *body = rows
    # A mark at the end of each row makes no column.
    longer = [number for number, row in enumerate(body, 2) if any(row[len(header) :])]
    if more_than_strays(len(longer), len(body)):
        raise DriveError(
            f"{path}: {len(header)} cells expected as in the header, found more in {len(longer):,} of {len(body):,} "
            f"rows, first in row {longer[0]}; decimal commas? write them as points, or part the columns by semicolons"
        )
    for number in longer:
        body[number - 2] = []  # Which cell is whose cannot be told.
    # A row that breaks off keeps its place: rows and frames may go in step without a column that says so.
    cells = ([row[i] if i < len(row) else "" for row in body] for i in range(len(header)))
    return Table(path=path, columns=dict(zip(header, cells, strict=True)))
