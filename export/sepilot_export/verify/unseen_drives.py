"""A reference on drives that the run has never seen, for `sepilot check --drives`.

Which ones it has seen lies in export.json: not by name, as any recording may be called `data`, but by the fingerprints
of split.json, with the options that the drives were read with.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.verify.raw_frames import frame_count, resized
from sepilot_export.verify.reference import EXPORT_NAME, Reference
from sepilot_runtime.base.documents import parse
from sepilot_runtime.base.errors import DriveError, FrameError, RunError, UsageError
from sepilot_runtime.base.files import read_json
from sepilot_runtime.contract.contract import FrameInput, Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.engine.pilot import Pilot, answers_to, load_pilot
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base.cache import load_pictures
from sepilot_train.run.request import standing_still_left_out, wanted_frames
from sepilot_train.run.run import read_request, read_split

__all__ = ["SeenDrive", "SeenDrives", "reference_on", "seen_drives"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDrive:
    """A drive of a run. `train` and `validation` are numbers of frames."""

    id: str
    fingerprint: str
    train: int
    validation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDrives:
    """`drives` of export.json: what a run has seen, and how its recordings were read."""

    reader: ReaderOptions
    filter: DriveFilter
    seen: tuple[SeenDrive, ...]


def seen_drives(run: Path) -> SeenDrives:
    """What a run directory says about its drives. Raises RunError."""
    request = read_request(run)
    return SeenDrives(
        reader=request.reader,
        filter=request.filter,
        seen=tuple(
            SeenDrive(id=d.id, fingerprint=d.fingerprint, train=len(d.train), validation=len(d.validation))
            for d in read_split(run)
        ),
    )


def reference_on(
    paths: Sequence[Path], options: ReaderOptions, model: Path, known: Reference, folder: Path, *, progress: bool
) -> Reference:
    """Pictures and labels of other drives, with the answers of the float32 file `model`.

    Args:
        known: the export's own reference.
        folder: the export, whose export.json says what the run has seen and which frames count as standing still.

    Raises:
        DriveError: a drive cannot be read, or has no frames.
        RunError: it is one that the model was trained on or already judged on.
    """
    where = folder / EXPORT_NAME
    record = read_json(where, RunError)
    min_throttle = float(record["min_throttle"])
    drives = [standing_still_left_out(d, min_throttle) for d in open_drives(paths, options, labelled=True)]
    _require_unseen(paths, record, where, known.contract.picture, min_throttle, progress=progress)
    for drive in drives:
        if drive.full_scale_deg != known.contract.outputs[0].scale:
            raise RunError(
                f"{drive.path}: full scale of {known.contract.outputs[0].scale:g} degrees expected, as the model has "
                f"it, found {drive.full_scale_deg:g}; give the drive's own with --full-scale-deg"
            )
    pilot = load_pilot(model)
    source = f"{model.name}, which passed above"
    if known.contract.frame is not None:
        return dataclasses.replace(_on_frames(drives, pilot, known, known.contract.frame), source=source)
    sets = [load_pictures(drive, known.contract.picture, progress=progress) for drive in drives]
    pictures = np.concatenate([s.pictures for s in sets])
    if not len(pictures):
        raise RunError(f"{paths[0]}: no usable frame")
    return dataclasses.replace(
        known,
        pictures=pictures,
        drives=tuple(s.drive_id for s in sets for _ in s.names),
        names=tuple(name for s in sets for name in s.names),
        labels=np.concatenate([s.labels["steering"] for s in sets]).astype(np.float32),
        predictions=answers_to(pilot.infer_picture, pictures)[known.contract.outputs[0].name],
        source=source,
    )


def _require_unseen(
    paths: Sequence[Path], record: dict[str, Any], where: Path, picture: Picture, min_throttle: float, *, progress: bool
) -> None:
    if record.get("drives") is None:
        raise RunError(f"{where}: drives: missing, so nobody knows what the model was trained on; export again")
    known = parse(SeenDrives, record["drives"], f"{where}: drives", RunError, complete=True)
    seen = {drive.fingerprint: drive for drive in known.seen}
    for drive in _as_the_run_reads(paths, known.reader):
        try:
            kept = wanted_frames(drive, known.filter, min_throttle)
            fingerprint = load_pictures(kept, picture, progress=progress).fingerprint
        except DriveError:
            # The run takes none of its frames, so it is none of the run's.
            continue
        if found := seen.get(fingerprint):
            how = "trained" if found.train else "judged"
            raise RunError(f"{drive.path}: the model was {how} on this drive ({found.id}); name others with --drives")


def _as_the_run_reads(paths: Sequence[Path], reader: ReaderOptions) -> list[Drive]:
    """The drives at `paths` with the options of the training, none where those do not fit."""
    try:
        return open_drives(paths, reader)
    except (DriveError, UsageError):
        return []


def _on_frames(drives: Sequence[Drive], pilot: Pilot, known: Reference, size: FrameInput) -> Reference:
    """As many raw frames as an export keeps, evenly over the drives; frames that cannot be read are left out."""
    everything = [(drive, i) for drive in drives for i in range(len(drive))]
    chosen = np.linspace(0, len(everything) - 1, frame_count(size, len(everything))).astype(np.int64)
    found: list[tuple[Drive, int, NDArray[np.uint8]]] = []
    for drive, i in (everything[place] for place in chosen):
        with contextlib.suppress(FrameError):
            found.append((drive, i, resized(drive.read(i), size)))
    if not found:
        raise RunError(f"{drives[0].path}: no usable frame")
    frames = np.stack([frame for _, _, frame in found])
    return dataclasses.replace(
        known,
        pictures=np.stack([picture_of(frame, known.contract.picture) for frame in frames]),
        frames=frames,
        plain={},
        drives=tuple(drive.id for drive, _, _ in found),
        names=tuple(drive.names[i] for drive, i, _ in found),
        labels=np.array([drive.labels["steering"][i] for drive, i, _ in found], np.float32),
        predictions=answers_to(pilot.infer, frames)[known.contract.outputs[0].name],
    )
