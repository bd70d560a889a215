"""What check.json, which `sepilot check` leaves beside a model file, says about it. It counts for these bytes only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sepilot_runtime.base.caps import MODEL_BYTES
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.files import read_json, sha256_of

__all__ = ["CHECK_NAME", "failure_of", "rows_of"]

CHECK_NAME = "check.json"

MOST_BYTES = 16 << 20
"""A larger file is none of `sepilot check`."""


def failure_of(file: Path, engine: str | None = None) -> str | None:
    """Why `sepilot check` failed a file, in one line; None where it passed, or was not checked, as it is now.

    Never fails: a check.json that cannot be read, or is about other bytes, says nothing.

    Args:
        engine: what it says about this interpreter goes before what it says about the usual one.
    """
    path = file.parent / CHECK_NAME
    try:
        if not path.is_file():
            return None
        record, sha256 = read_json(path, limit=MOST_BYTES), sha256_of(file, limit=MODEL_BYTES)
    except (SepilotError, OSError):
        return None
    rows = [row for row in rows_of(record, engine) if row.get("sha256") == sha256]
    rows.sort(key=lambda row: row.get("engine") != engine)
    if not rows or rows[0].get("passed") is not False:
        return None
    reasons = rows[0].get("reasons")
    words = "; ".join(map(str, reasons)) if isinstance(reasons, list) else ""
    return f"{path} says that it failed: {words or 'no reason given'}"


def rows_of(record: Any, engine: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of check.json: one for each file on its usual interpreter, then those of `check --engine`.

    Args:
        engine: the only one whose rows of `check --engine` are given.
    """
    if not isinstance(record, dict):
        return
    engines = record.get("engines")
    others = engines.get(engine) if isinstance(engines, dict) else None
    for section in (record, others):
        rows = section.get("files") if isinstance(section, dict) else None
        yield from (row for row in (rows if isinstance(rows, list) else ()) if isinstance(row, dict))
