"""Raw held-out frames of a run, as the camera took them: what files with the preprocessing inside are checked on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.inputs import ExportInputs
from sepilot_runtime.base.errors import ContractError, DriveError, RunError, UsageError
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.contract import FrameInput
from sepilot_runtime.recording.drive import Drive, frames_of
from sepilot_train.run.run import Run

__all__ = ["RawFrames", "frame_count", "frame_input", "read_raw_frames", "resized", "spread"]

MOST_FRAMES = 300
MOST_BYTES = 64 << 20
FEWEST_FRAMES = 16


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RawFrames:
    """Some of a source's held-out frames.

    Attributes:
        input: their size, and the input of the files that take them.
        frames: (n, height, width, 3) uint8 BGR, in the order of the drives.
        index: (n,) their places among the held-out frames.
    """

    input: FrameInput
    frames: NDArray[np.uint8]
    index: NDArray[np.int64]


def read_raw_frames(
    run: Run, source: ExportInputs, wanted: FrameInput | None = None, *, moved_to: Sequence[Path] = ()
) -> RawFrames:
    """Frames evenly from the lowest to the highest prediction: at most 300, and 64 MiB.

    Args:
        wanted: the size; frames of another are scaled to it. None for the one that all drives of the run have.
        moved_to: where the drives are now, when not where they were at training.

    Raises:
        UsageError: the drives' frames are of several sizes, and none is named.
        RunError: a frame that the run was judged on cannot be read any more.
    """
    drives = {drive.id: drive for drive in run.material(moved_to=moved_to, progress=False).drives}
    held = source.held_out
    used = {*held.drives, *source.training.drives}
    size = wanted or _common_size({name: drive for name, drive in drives.items() if name in used})
    answers = source.saved[source.contract.outputs[0].name]
    index = spread(answers, frame_count(size, len(answers)))
    places = {name: {frame: i for i, frame in enumerate(drives[name].names)} for name in set(held.drives)}
    frames = np.empty((len(index), *size.shape), np.uint8)
    for target, i in zip(frames, index, strict=True):
        drive, name = held.drives[i], held.names[i]
        try:
            target[:] = resized(drives[drive].read(places[drive][name]), size)
        except (KeyError, DriveError) as e:
            raise RunError(f"{run.path}: frame {name} of drive {drive} cannot be read any more: {e}") from e
    return RawFrames(input=size, frames=frames, index=index)


def frame_input(word: str) -> FrameInput:
    """A frame's size from "HxW".

    Raises:
        UsageError: not two whole numbers from 1 to 8192.
    """
    try:
        height, width = map(int, word.lower().split("x"))
        return FrameInput(height=height, width=width)
    except (ValueError, ContractError) as e:
        raise UsageError(
            f"--with-preprocessing: HEIGHTxWIDTH of the camera's frames such as 120x160 expected, found {word!r}"
        ) from e


def resized(frame: NDArray[np.uint8], size: FrameInput) -> NDArray[np.uint8]:
    """A frame (h, w, 3) in another size, as a camera of that size might have taken it."""
    if frame.shape == size.shape:
        return frame
    method = cv2.INTER_AREA if frame.shape[0] > size.height else cv2.INTER_LINEAR
    return cv2.resize(frame, (size.width, size.height), interpolation=method).astype(np.uint8, copy=False)


def spread(predictions: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Places of `count` frames, evenly among the ranks of their predictions, in ascending order.

    Evenly among ranks, the distribution of predictions stays as it is, and figures such as R² keep their meaning.
    """
    order = np.argsort(predictions, kind="stable")
    return np.sort(order[np.linspace(0, len(order) - 1, count).astype(np.int64)])


def frame_count(size: FrameInput, available: int) -> int:
    """Of `available` frames, how many an export keeps."""
    by_memory = max(FEWEST_FRAMES, MOST_BYTES // (size.height * size.width * 3))
    return min(MOST_FRAMES, by_memory, available)


def _common_size(drives: Mapping[str, Drive]) -> FrameInput:
    sizes: dict[tuple[int, int], str] = {}
    for name, drive in drives.items():
        # Frames that cannot be read were skipped by the training, too.
        frame = next((frame for _, _, frame in frames_of(drive)), None)
        if frame is None:
            raise RunError(f"{drive.path}: not one frame of this drive can be read any more")
        sizes.setdefault((frame.shape[0], frame.shape[1]), name)
    if len(sizes) > 1:
        found = ", ".join(f"{height}x{width} ({name})" for (height, width), name in sizes.items())
        raise UsageError(f"--with-preprocessing: the drives' frames are of several sizes: {found}; name one")
    ((height, width),) = sizes
    return FrameInput(height=height, width=width)
