"""The frames that a foreign file is tried on: pictures, what goes beside them, what was to be said to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.stated import Plan
from sepilot_export.pipeline.foreign import Asked
from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.contract.contract import Golden, golden_from
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import golden_copy, picture_of
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.cache import PictureSet
from sepilot_train.base.frame_set import FrameSet

__all__ = ["AdoptionFrames", "adoption_frames", "golden_of", "raw_frames"]

MOST_BYTES = 96 << 20
"""Of frames as the camera took them, in memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdoptionFrames(FrameSet):
    """Frames of recordings.

    Attributes:
        vectors: by vector input, float32 (n, size).
        places: (n,) the number of each frame's recording.
        notes: what the recordings do not have, a line each.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    places: tuple[int, ...]
    notes: tuple[str, ...] = ()


def adoption_frames(sets: Sequence[PictureSet], plan: Plan, most: int) -> AdoptionFrames:
    """At most `most`, evenly. What a recording does not have of a vector is made up: numbers in [0, 1)."""
    everything = [(s, i) for s, found in enumerate(sets) for i in range(len(found.drive))]
    chosen = [everything[i] for i in np.linspace(0, len(everything) - 1, min(most, len(everything))).astype(int)]
    notes, vectors = [], {}
    for vector in plan.vectors:
        vectors[vector.name] = np.random.default_rng(0).random((len(chosen), vector.size), np.float32)
        if vector.columns and all(set(vector.columns) <= set(s.drive.labels) for s in sets):
            columns = [[sets[s].drive.labels[name][i] for s, i in chosen] for name in vector.columns]
            vectors[vector.name] = np.nan_to_num(np.array(columns, np.float32).T)
        else:
            notes.append(f"{vector.name}: made-up numbers in [0, 1), as the recordings have no columns for it")
    labels = {o.name: np.full(len(chosen), np.nan, np.float32) for o in plan.outputs}
    for name, values in labels.items():
        for place, (s, i) in enumerate(chosen):
            values[place] = sets[s].drive.labels[name][i] if name in sets[s].drive.labels else np.nan
        if not np.isfinite(values).any():
            notes.append(f"{name}: no labels, so nobody can tell whether the picture is as stated")
    return AdoptionFrames(
        pictures=np.stack([sets[s].pictures[i] for s, i in chosen]),
        vectors=vectors,
        labels=labels,
        drives=tuple(sets[s].drive.id for s, _ in chosen),
        names=tuple(sets[s].drive.names[i] for s, i in chosen),
        places=tuple(s for s, _ in chosen),
        notes=tuple(notes),
    )


def raw_frames(drives: Sequence[Drive], frames: AdoptionFrames, wanted: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """The wanted frames as the camera took them, by number; fewer, evenly, where they are large."""
    found: dict[int, NDArray[np.uint8]] = {}
    for i in wanted:
        drive = drives[frames.places[i]]
        try:
            found[i] = drive.read(drive.names.index(frames.names[i]))
        except (FrameError, ValueError):  # Gone, since its picture was made.
            continue
        most = max(16, MOST_BYTES // found[i].nbytes)
        if len(found) == 1 and len(wanted) > most:
            return raw_frames(drives, frames, [wanted[j] for j in np.linspace(0, len(wanted) - 1, most).astype(int)])
    return found


def golden_of(
    asked: Asked,
    plan: Plan,
    drives: Sequence[Drive],
    frames: AdoptionFrames,
    answers: NDArray[np.float32],
    count: int = 3,
) -> tuple[Golden, ...]:
    """Small copies of frames from one end of the answers to the other, with what the reference says to them.

    Raises:
        DriveError: no frame can be read any more.
    """
    order = task_of(plan.outputs[0]).tails(answers, None)[0]
    chosen = [int(order[i]) for i in np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)]
    raw = {i: golden_copy(frame) for i, frame in raw_frames(drives, frames, chosen).items()}
    if not raw:
        raise DriveError(f"{drives[0].path}: no frame can be read any more for the golden frames")
    pictures = [picture_of(frame, plan.picture) for frame in raw.values()]
    vectors = {name: values[list(raw)] for name, values in frames.vectors.items()}
    said = asked.answers(pictures, vectors)
    return tuple(
        golden_from(
            frame,
            {name: values[i] for name, values in said.items()},
            picture,
            {name: values[i] for name, values in vectors.items()},
        )
        for i, (frame, picture) in enumerate(zip(raw.values(), pictures, strict=True))
    )
