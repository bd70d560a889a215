"""A reference on drives that the run has never seen, for `sepilot check --drives`.

Which ones it has seen lies in export.json: not by name, as any recording may be called `data`, but by the fingerprints
of split.json, with the options that the drives were read with.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.record.exports import EXPORT_NAME, Export, SeenDrive, SeenDrives, read_export
from sepilot_export.verify.check import inputs_of
from sepilot_export.verify.raw_frames import frame_count, resized
from sepilot_export.verify.reference import Reference
from sepilot_export.verify.set_labels import columns_beside, numbers_beside
from sepilot_runtime.base.errors import DriveError, FrameError, RunError, UsageError
from sepilot_runtime.contract.contract import FrameInput, Output, Picture
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.contract.window import window_of
from sepilot_runtime.engine.pilot import Pilot, answers_to, load_pilot
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_train.base.cache import PictureSet, load_pictures
from sepilot_train.run.material import alike, columns_of, set_labels
from sepilot_train.run.recipe import load_recipe
from sepilot_train.run.request import standing_still_left_out, wanted_frames
from sepilot_train.run.run import read_request, read_split

__all__ = ["reference_on", "seen_drives"]


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
        columns=columns_of(load_recipe(str(run / "recipe.toml"))),
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
    record, trained_on = _exported(folder)
    columns = {output.name: trained_on.columns.get(output.name, output.name) for output in known.contract.outputs}
    beside = [column for vector in known.contract.vectors for column in columns_beside(vector, folder)]
    options = dataclasses.replace(options, labels=tuple(dict.fromkeys([*columns.values(), *beside])))
    drives = [standing_still_left_out(d, record.min_throttle) for d in open_drives(paths, options, labelled=True)]
    seen = dataclasses.replace(trained_on, columns=columns)
    _require_unseen(paths, seen, known.contract.picture, record.min_throttle, progress=progress)
    _require_scale(drives, known.contract.outputs)
    pilot = load_pilot(model)
    source = f"{model.name}, which passed above"
    if known.contract.frame is not None:
        return dataclasses.replace(_on_frames(drives, pilot, known, known.contract.frame, columns), source=source)
    learned = tuple(columns.values())
    sets = [load_pictures(drive, known.contract.picture, labels=learned, progress=progress) for drive in drives]
    pictures = np.concatenate([s.pictures for s in sets])
    if not len(pictures):
        raise RunError(f"{paths[0]}: no usable frame")
    other = dataclasses.replace(
        known,
        pictures=pictures,
        vectors={vector.name: numbers_beside(sets, vector) for vector in known.contract.vectors},
        drives=tuple(s.drive.id for s in sets for _ in s.drive.names),
        names=tuple(name for s in sets for name in s.drive.names),
        labels=_labels(known, sets, columns),
        source=source,
    )
    return dataclasses.replace(other, predictions=answers_to(*inputs_of(pilot, other)))


def _labels(known: Reference, sets: Sequence[PictureSet], columns: Mapping[str, str]) -> dict[str, NDArray[np.float32]]:
    """By output, what answers are held against."""
    picture, outputs = known.contract.picture, known.contract.outputs
    return {o.name: np.concatenate(alike([set_labels(o, columns[o.name], s, picture) for s in sets])) for o in outputs}


def _exported(folder: Path) -> tuple[Export, SeenDrives]:
    """What export.json says, and about drives. Raises RunError where other drives cannot be judged by it."""
    record = read_export(folder)
    if record.drives is None:
        raise RunError(
            f"{folder / EXPORT_NAME}: drives: missing, so nobody knows what the model was trained on; export again"
        )
    return record, record.drives


def _require_scale(drives: Sequence[Drive], outputs: Sequence[Output]) -> None:
    for drive, scale in ((d, o.scale) for d in drives for o in outputs if o.unit == "deg"):
        if drive.full_scale_deg != scale:
            raise RunError(
                f"{drive.path}: full scale of {scale:g} degrees expected, as the model has it, found "
                f"{drive.full_scale_deg:g}; give the drive's own with --full-scale-deg"
            )


def _require_unseen(
    paths: Sequence[Path], known: SeenDrives, picture: Picture, min_throttle: float, *, progress: bool
) -> None:
    seen = {drive.fingerprint: drive for drive in known.seen}
    for drive in _as_the_run_reads(paths, known.reader):
        try:
            kept = wanted_frames(drive, known.filter, min_throttle)
            learned = tuple(known.columns.values())
            fingerprint = load_pictures(kept, picture, labels=learned, progress=progress).fingerprint
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


def _on_frames(
    drives: Sequence[Drive], pilot: Pilot, known: Reference, size: FrameInput, columns: Mapping[str, str]
) -> Reference:
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
        labels={
            o.name: _frame_labels(
                o, columns[o.name], [(drive, i) for drive, i, _ in found], known.contract.picture, size
            )
            for o in known.contract.outputs
        },
        predictions=answers_to(pilot.infer, frames),
    )


def _frame_labels(
    output: Output, column: str, places: Sequence[tuple[Drive, int]], picture: Picture, size: FrameInput
) -> NDArray[np.float32]:
    """What answers to frames of one size are held against, (n, ...) as the output's kind has labels."""
    task = task_of(output)
    window = np.array([window_of(size.height, size.width, picture)]) / (
        size.width,
        size.height,
        size.width,
        size.height,
    )
    found = [task.labels(d.labels[column][i : i + 1], d.label_names.get(column, ()), window) for d, i in places]
    return np.concatenate(alike(found))
