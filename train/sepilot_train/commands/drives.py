"""`sepilot drives`: what is in a recording, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.commands.arguments import flag, request_from, switch
from sepilot_runtime.commands.reader_arguments import READER, add_filter_arguments, drive_filter
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions

if TYPE_CHECKING:
    from sepilot_runtime.recording.drive import Drive
    from sepilot_runtime.recording.opening import LeftOut

__all__ = ["main"]

EPILOG = """examples:
  sepilot drives ~/mycar/data
  sepilot drives tubs/ --min-throttle 0.05 --sheet tubs.jpg
  sepilot drives driving_log.csv --cameras all
  sepilot drives clips/ --csv-unit deg --positive left

Reads Donkeycar tubs (v1, v2), Udacity logs, pictures with a table or with the angle in their names,
video + CSV, plain pictures and videos. What it met besides them is listed with the reason why it is
left out. Nothing is written into a recording.
"""

BARS = " ▁▂▃▄▅▆▇█"
BINS = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivesRequest:
    paths: tuple[Path, ...] = flag("a recording, or a folder of recordings", "PATH", positional=True, nargs="+")
    sheet: Path | None = flag("write a contact sheet, .jpg or .png", "FILE")
    verify: bool = switch("decode every frame, to find the corrupt ones")
    json: bool = switch("print the list as JSON")
    reader: ReaderOptions
    filter: DriveFilter


def main(argv: Sequence[str]) -> int:
    from sepilot_runtime.base.errors import DriveError

    request = request_from(
        argv, DrivesRequest, "drives",
        "List recorded drives: frames kept and skipped and why, duration, rate, and how the steering lies.", EPILOG,
        reader=READER, filter=(add_filter_arguments, drive_filter),
    )  # fmt: skip
    if request.sheet is not None:
        from sepilot_runtime.view.contact_sheet import require_picture_path

        require_picture_path(request.sheet)
    drives, left_out = _found(request.paths, request.reader, request.filter)
    if not drives:
        raise DriveError(str(left_out[0]))
    rows = [_row(d, _corrupt(d) if request.verify else {}) for d in drives]
    if request.sheet is not None:
        from sepilot_train.base.contact_sheet import draw_sheet

        draw_sheet(drives, request.sheet)
    if request.json:
        others = [{"path": str(other.path), "reason": other.reason} for other in left_out]
        print(json.dumps({"drives": rows, "left_out": others}, indent=2, allow_nan=False))
        return 0
    _print(rows, [str(other) for other in left_out])
    if request.sheet is not None:
        print(f"contact sheet: {request.sheet}")
    return 0


def _found(paths: Sequence[Path], options: ReaderOptions, wanted: DriveFilter) -> tuple[list[Drive], list[LeftOut]]:
    """The drives with the wanted frames, and what was met besides and is none."""
    from sepilot_runtime.base.errors import DriveError
    from sepilot_runtime.recording.opening import LeftOut, meet

    drives, others = meet(paths, options)
    kept, left_out = [], []
    for drive in drives:
        try:
            kept.append(drive.filtered(wanted))
        except DriveError as e:
            left_out.append(LeftOut(path=drive.path, reason=str(e)))
    return kept, left_out + others


def _corrupt(drive: Drive) -> dict[str, int]:
    """Frames that do not decode, by reason."""
    import os
    from collections import Counter
    from concurrent.futures import ThreadPoolExecutor

    from sepilot_runtime.base.errors import FrameError
    from sepilot_train.base.progress import progress_bar

    def reason(index: int) -> str:
        try:
            drive.read(index)
        except FrameError as e:
            return e.reason
        return ""

    found: Counter[str] = Counter()
    threads = 1 if drive.frames.sequential else os.cpu_count()
    with progress_bar(f"verifying {drive.id}", len(drive)) as advance, ThreadPoolExecutor(threads) as pool:
        # Ctrl-C does not wait for the rest of the drive: who leaves the loop cancels what has not begun.
        for answer in pool.map(reason, range(len(drive))):
            found[answer] += 1
            advance()
    del found[""]
    return dict(found)


def _row(drive: Drive, corrupt: Mapping[str, int]) -> dict[str, Any]:
    import numpy as np

    labels, throttle = (drive.labels[name][np.isfinite(drive.labels[name])] for name in ("steering", "throttle"))
    skipped = dict(drive.skipped)
    for reason, count in corrupt.items():
        skipped[reason] = skipped.get(reason, 0) + count
    return {
        "id": drive.id,
        "path": str(drive.path),
        "kind": drive.kind,
        "frames": len(drive) - sum(corrupt.values()),
        "skipped": skipped,
        "duration_s": round(drive.duration_s, 3),
        "pauses": len(drive.pauses_s),
        "pauses_s": round(float(drive.pauses_s.sum()), 3),
        "rate_hz": round(drive.rate_hz, 3),
        "full_scale_deg": drive.full_scale_deg,
        "labelled": drive.has("steering"),
        "zero_share": float((labels == 0).mean()) if labels.size else None,
        "mean_steering": float(labels.mean()) if labels.size else None,
        "throttle": [float(throttle.min()), float(throttle.max())] if throttle.size else None,
        "histogram": np.histogram(labels, bins=BINS, range=(-1, 1))[0].tolist(),
        "notes": list(drive.notes),
    }


def _print(rows: Sequence[Mapping[str, Any]], left_out: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sepilot_runtime.base.terminal import legible

    # Names of folders are not markup.
    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("drive", overflow="fold", min_width=12)
    table.add_column("kind", no_wrap=True)
    for name in ("frames", "skipped", "s", "Hz"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("left   steering  right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(legible(row["id"])),
            row["kind"],
            f"{row['frames']:,}",
            f"{sum(row['skipped'].values()):,}" if row["skipped"] else "",
            f"{row['duration_s']:.0f}",
            f"{row['rate_hz']:.0f}",
            _bars(row["histogram"]) if row["labelled"] else "no labels",
        )
    console.print(table)
    for row in rows:
        if remarks := _remarks(row):
            console.print(f"\n{legible(row['id'])}")
        for line in remarks:
            console.print(f"  {legible(line)}", style="dim")
    if left_out:
        console.print("\nleft out")
    for line in left_out:
        console.print(f"  {legible(line)}", style="dim")


def _bars(counts: Sequence[int]) -> str:
    top = max(counts) or 1
    # Square root: a tub's straight frames would otherwise flatten all the others.
    return "".join(BARS[0 if not c else max(1, round((c / top) ** 0.5 * (len(BARS) - 1)))] for c in counts)


def _remarks(row: Mapping[str, Any]) -> list[str]:
    lines = [f"{count:,} skipped: {reason}" for reason, count in sorted(row["skipped"].items(), key=lambda i: -i[1])]
    lines += row["notes"]
    if row["pauses"]:
        lines.append(f"{row['pauses']:,} gaps of over a second, {row['pauses_s']:,.0f} s in all, not counted as driven")
    if row["labelled"]:
        lines.append(f"{row['zero_share']:.0%} of the labels are exactly 0")
        if abs(row["mean_steering"]) > 0.1:
            side = "right" if row["mean_steering"] > 0 else "left"
            lines.append(f"steers {side} on average ({row['mean_steering']:+.2f}); mirrored frames even it out")
    return lines
