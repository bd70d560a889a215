"""The frames that a file answers at every load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.contract.contract import Golden, Output, Picture, golden_from
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import golden_copy, picture_of
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.frame_set import Answers
from sepilot_train.fit.predict import predict

__all__ = ["golden_frames"]


def golden_frames(
    drives: Sequence[Drive], picture: Picture, net: Any, outputs: Sequence[Output], answers: Answers
) -> tuple[Golden, ...]:
    """Small copies of held-out frames with the training model's answers: from end to end of each output's."""
    owners = {drive.id: drive for drive in drives}
    frames, kept = [], list[int]()
    for place in _places(outputs, answers):
        drive, name = owners[answers.frames.drives[place]], answers.frames.names[place]
        try:
            frames.append(golden_copy(drive.read(drive.names.index(name))))
        except FrameError:
            continue
        kept.append(place)
    if not frames:
        raise DriveError(f"{drives[0].path}: no frame can be read any more for the golden frames")
    pictures = np.stack([picture_of(frame, picture) for frame in frames])
    vectors = {name: values[kept] for name, values in answers.frames.vectors.items()}
    expected = predict(net, pictures, vectors)
    return tuple(
        golden_from(
            frame,
            {name: values[i] for name, values in expected.items()},
            pictures[i],
            {name: values[i] for name, values in vectors.items()},
        )
        for i, frame in enumerate(frames)
    )


def _places(outputs: Sequence[Output], answers: Answers) -> dict[int, None]:
    """Held-out frames at both ends and in the middle of what the first output says, and at both ends of the others."""
    found: dict[int, None] = {}
    for number, output in enumerate(outputs):
        order = task_of(output).ordered(answers.values[output.name])
        count = min(2 if number else 3, len(order))
        found |= dict.fromkeys(order[np.linspace(0, len(order) - 1, count).astype(int)].tolist())
    return found
