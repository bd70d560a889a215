"""`sepilot drives`: what is in a recording or a set of labelled pictures, and what is wrong with it."""

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
  sepilot drives signs/ --label class --sheet signs.jpg
  sepilot drives blood-cells/ --anchors 6

Reads Donkeycar tubs (v1, v2), Udacity logs, pictures with a table or with the angle in their names,
video + CSV, plain pictures and videos; sets of labelled pictures as Pascal VOC, COCO, YOLO, tables of
points or classes, and with --label class a folder of pictures for each class. What it met besides them
is listed with the reason why it is left out. Nothing is written into a recording.
"""

BARS = " ▁▂▃▄▅▆▇█"
BINS = 21
LISTED = 20
"""Classes with their counts, at most."""

PURPOSE = {"train": "train on", "val": "choose by (val)", "test": "judge by (test)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivesRequest:
    paths: tuple[Path, ...] = flag("a recording, or a folder of recordings", "PATH", positional=True, nargs="+")
    sheet: Path | None = flag("write a contact sheet, .jpg or .png", "FILE")
    anchors: int | None = flag("find N usual sizes of boxes, for a recipe's `anchors`", "N")
    verify: bool = switch("decode every frame, to find the corrupt ones")
    json: bool = switch("print the list as JSON")
    reader: ReaderOptions
    filter: DriveFilter


def main(argv: Sequence[str]) -> int:
    from sepilot_runtime.base.errors import DriveError

    request = request_from(
        argv, DrivesRequest, "drives",
        "List recordings and sets: frames kept and skipped and why, how the steering lies, what pictures show.", EPILOG,
        reader=READER, filter=(add_filter_arguments, drive_filter),
    )  # fmt: skip
    if request.sheet is not None:
        from sepilot_runtime.view.contact_sheet import require_picture_path

        require_picture_path(request.sheet)
    drives, left_out = _found(request.paths, request.reader, request.filter)
    if not drives:
        raise DriveError(str(left_out[0]))
    rows = [_row(d, _corrupt(d) if request.verify else {}) for d in drives]
    anchors = _anchors(drives, request.anchors) if request.anchors else {}
    if request.sheet is not None:
        from sepilot_train.base.contact_sheet import draw_sheet

        draw_sheet(drives, request.sheet)
    if request.json:
        others = [{"path": str(other.path), "reason": other.reason} for other in left_out]
        more = {"anchors": anchors} if anchors else {}
        print(json.dumps({"drives": rows, "left_out": others, **more}, indent=2, allow_nan=False))
        return 0
    _print(rows, [str(other) for other in left_out])
    for fit, found in anchors.items():
        sizes = ",".join(f"[{width},{height}]" for width, height in found["sizes"])
        print(f"\n{fit}, mean IoU {found['mean_iou']:.2f} of {found['boxes']:,} boxes")
        print(f"  --set 'outputs.boxes.anchors=[{sizes}]'")
    if request.sheet is not None:
        print(f"contact sheet: {request.sheet}")
    return 0


def _anchors(drives: Sequence[Drive], count: int) -> dict[str, Any]:
    """By how frames are made pictures, `count` usual sizes of the boxes in them."""
    from sepilot_runtime.base.errors import DriveError
    from sepilot_runtime.contract.picture import Picture
    from sepilot_train.fit.outputs.boxes.anchors import anchors_of, box_sizes, mean_iou

    square = {
        "anchors of pictures that are stretched": Picture(height=1000, width=1000),
        "anchors of pictures in a square letterbox": Picture(height=1000, width=1000, fit="letterbox"),
    }
    found = {}
    for fit, picture in square.items():
        sizes = box_sizes(drives, "boxes", picture)
        if len(sizes) < count:
            raise DriveError(f"{drives[0].path}: --anchors: {count} boxes or more expected, found {len(sizes)}")
        anchors = anchors_of(sizes, count)
        found[fit] = {"sizes": anchors, "mean_iou": round(mean_iou(sizes, anchors), 4), "boxes": len(sizes)}
    return found


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
        "set": _set(drive),
        "notes": list(drive.notes),
    }


def _set(drive: Drive) -> dict[str, Any] | None:
    """What a set of labelled pictures shows; None for a stretch of time."""
    import numpy as np

    if not drive.label_names:
        return None
    shown: dict[str, Any] = {"side": drive.side, "groups": len(set(drive.groups))}
    for label, key in (("class", "classes"), ("boxes", "boxes")):
        if names := drive.label_names.get(label):
            places = drive.labels[label] if label == "class" else drive.labels[label][..., 0]
            counts = np.bincount(places[places >= 0].astype(np.int64), minlength=len(names))
            shown[key] = dict(zip(names, counts.tolist(), strict=True))
    if "boxes" in shown:
        shown["without_boxes"] = int((drive.labels["boxes"][:, 0, 0] < 0).sum())
    if names := drive.label_names.get("points"):
        shown["points"] = len(names)
        shown["points_known"] = round(float(np.isfinite(drive.labels["points"]).all(axis=2).mean()), 4)
    return shown


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
    sets = [row["set"] for row in rows]
    table.add_column("labels" if all(sets) else "left   steering  right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(legible(row["id"])),
            row["kind"],
            f"{row['frames']:,}",
            f"{sum(row['skipped'].values()):,}" if row["skipped"] else "",
            "" if row["set"] else f"{row['duration_s']:.0f}",
            "" if row["set"] else f"{row['rate_hz']:.0f}",
            _bars(row["histogram"]) if row["labelled"] else _contents(row["set"]) if row["set"] else "no labels",
        )
    console.print(table)
    for row in rows:
        if remarks := _remarks(row):
            console.print(f"\n{legible(row['id'])}")
        for line in remarks:
            console.print(f"  {legible(line)}", style="dim")
    folders = [Path(row["path"]).parent for row in rows if row["kind"] == "images"]
    if len(folders) > len(set(folders)):
        console.print("\nfolders of pictures side by side: classes of a set? --label class reads them so", style="dim")
    if left_out:
        console.print("\nleft out")
    for line in left_out:
        console.print(f"  {legible(line)}", style="dim")


def _contents(shown: Mapping[str, Any]) -> str:
    parts = [f"{len(shown['classes'])} classes"] if "classes" in shown else []
    parts += [f"{sum(shown['boxes'].values()):,} boxes"] if "boxes" in shown else []
    parts += [f"{shown['points']:,} points"] if "points" in shown else []
    return ", ".join(parts)


def _bars(counts: Sequence[int]) -> str:
    top = max(counts) or 1
    # Square root: a tub's straight frames would otherwise flatten all the others.
    return "".join(BARS[0 if not c else max(1, round((c / top) ** 0.5 * (len(BARS) - 1)))] for c in counts)


def _remarks(row: Mapping[str, Any]) -> list[str]:
    lines = [f"{count:,} skipped: {reason}" for reason, count in sorted(row["skipped"].items(), key=lambda i: -i[1])]
    lines += row["notes"]
    if shown := row["set"]:
        for key in ("classes", "boxes"):
            if counts := sorted(shown.get(key, {}).items(), key=lambda item: -item[1]):
                more = f" and {len(counts) - LISTED:,} more" if len(counts) > LISTED else ""
                lines.append(f"{key}: " + ", ".join(f"{name} {n:,}" for name, n in counts[:LISTED]) + more)
        if shown.get("without_boxes"):
            lines.append(f"{shown['without_boxes']:,} pictures show none of them")
        if "points" in shown:
            lines.append(f"{shown['points_known']:.1%} of the points are known")
        if shown["side"]:
            lines.append(f"by its name to {PURPOSE[shown['side']]}")
    if row["pauses"]:
        lines.append(f"{row['pauses']:,} gaps of over a second, {row['pauses_s']:,.0f} s in all, not counted as driven")
    if row["labelled"]:
        lines.append(f"{row['zero_share']:.0%} of the labels are exactly 0")
        if abs(row["mean_steering"]) > 0.1:
            side = "right" if row["mean_steering"] > 0 else "left"
            lines.append(f"steers {side} on average ({row['mean_steering']:+.2f}); mirrored frames even it out")
    return lines
