"""export.json of the files that a test has put into a folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sepilot_export.convert.formats import format_named
from sepilot_export.record.exports import EXPORT_NAME, Export, ExportedFile
from sepilot_runtime.base.files import sha256_of

__all__ = ["write_record"]


def write_record(folder: Path, rows: Iterable[str | Mapping[str, Any]], **more: Any) -> None:
    """Write export.json about `ramp-<format>` for each of `rows`, with the bytes that lie there now.

    Args:
        rows: names of formats, or what is to stand in a file's row, "format" among it.
        more: to stand in the document.
    """
    files = [_row(folder, {"format": row} if isinstance(row, str) else row) for row in rows]
    record = Export(
        created="2026-01-01T00:00:00Z", model_sha256="ab" * 32, tools={}, min_throttle=0.05,
        deploy_graph_difference=0.0, warnings=(), files=(),
    )  # fmt: skip
    (folder / EXPORT_NAME).write_text(json.dumps(dataclasses.asdict(record) | {"files": files} | more))


def _row(folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    form = format_named(row["format"])
    path = folder / f"ramp-{form.name}"
    file = ExportedFile(
        file=path.name, format=form.name, precision=form.precision, engine=form.engine,
        bytes=path.stat().st_size if path.exists() else 0, gzip_bytes=700,
        sha256=sha256_of(path) if path.exists() else "", sparsity=0.0, limits=form.limits,
    )  # fmt: skip
    return dataclasses.asdict(file) | dict(row)
