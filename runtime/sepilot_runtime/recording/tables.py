"""CSV files as recorders write them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from sepilot_runtime.base.caps import RECORDING_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.reading import read_regular

__all__ = ["read_table", "to_number"]


def read_table(path: Path) -> list[list[str]]:
    """Rows of trimmed cells, without empty rows.

    Raises:
        DriveError: the file cannot be read, or is not a CSV file.
    """
    try:
        lines = read_regular(path, RECORDING_BYTES).decode("utf-8-sig", "replace").splitlines()
        return [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    except OSError as e:
        raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e
    except csv.Error as e:
        raise DriveError(f"{path}: is not a CSV file: {e}") from e


def to_number(cell: str) -> float:
    """NaN for what is no number."""
    try:
        return float(cell)
    except ValueError:
        return math.nan
