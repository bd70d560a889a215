"""The frames that a file answers at every load."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.contract.contract import Golden, Picture, Scalar, golden_from
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import golden_copy, picture_of
from sepilot_runtime.recording.drive import Drive
from sepilot_train.fit.predict import predict
from sepilot_train.run.material import Material

__all__ = ["golden_frames"]


def golden_frames(
    material: Material, picture: Picture, net: Any, answers: NDArray[np.float32], count: int = 3
) -> tuple[Golden, ...]:
    """Small copies of held-out frames from hardest left to hardest right, with the training model's answers."""
    owners = [(d, int(j)) for d, i in _validation_frames(material) for j in i]
    order = task_of(Scalar(name="steering")).tails(answers, None)[0]
    frames = []
    for place in np.linspace(0, len(order) - 1, min(count, len(order))).astype(int):
        drive, index = owners[order[place]]
        try:
            frames.append(golden_copy(drive.read(index)))
        except FrameError:
            continue
    if not frames:
        raise DriveError(f"{material.drives[0].path}: no frame can be read any more for the golden frames")
    pictures = np.stack([picture_of(frame, picture) for frame in frames])
    expected = predict(net, pictures)
    return tuple(
        golden_from(frame, {"steering": float(answer)}, pixels)
        for frame, answer, pixels in zip(frames, expected, pictures, strict=True)
    )


def _validation_frames(material: Material) -> list[tuple[Drive, list[int]]]:
    """Each drive with the indices of its held-out frames in the drive."""
    result = []
    for drive, pictures, held in zip(material.drives, material.sets, material.split.validation, strict=True):
        place = {name: i for i, name in enumerate(drive.names)}
        result.append((drive, [place[pictures.names[j]] for j in held]))
    return result
