"""The newest frame as JPEG: made when somebody asks, once for all who ask, and not too often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.contract.window import window_of
from sepilot_runtime.drive.actuation import STEERING
from sepilot_runtime.drive.said import said_of
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Prediction
from sepilot_runtime.output.web.feed import small_enough
from sepilot_runtime.source.labels import label_of
from sepilot_runtime.source.pixel_formats import color_of

__all__ = ["MOST_PER_S", "Shot", "jpeg_of", "put_frame"]

MOST_PER_S = 12.0
WIDEST = 640
JPEG_QUALITY = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A frame as the page shows it.

    Attributes:
        number: counts the frames.
        about: what the page says of it.
        arrived_ns: when the frame did.
        jpeg: None where it is no picture.
    """

    number: int
    about: dict[str, Any]
    arrived_ns: int
    jpeg: bytes | None


def put_frame(seen: tuple[int, Step] | None, memory: NDArray[np.uint8], picture: Picture) -> dict[str, Any]:
    """Copy the newest frame into the shared memory, and give what belongs to it; {} before the first.

    The copy is made without Python's lock: it costs the loop nothing but memory bandwidth. Boxes and points are drawn
    into it.

    Args:
        picture: of the model.
    """
    if seen is None:
        return {}
    number, step = seen
    assert step.frame is not None
    image = small_enough(step.frame.image)
    if image is not None:
        shown = memory[: image.size].reshape(image.shape)
        np.copyto(shown, image)
        _draw_places(shown, step, picture)
    return {
        "number": number,
        "arrived_ns": step.frame.arrived_ns,
        "shape": None if image is None else image.shape,
        "about": {
            "number": number,
            "id": step.frame.id,
            "time_s": round(step.frame.time_s, 2),
            "steers": step.state.answers,
            **(_steered(step) if step.obeyed else _shown(step, picture)),
        },
    }


def _steered(step: Step) -> dict[str, Any]:
    assert step.frame is not None
    return {
        "deg": round(step.prediction.in_unit(STEERING), 2) if step.prediction else None,
        "recorded": step.frame.labels.get(STEERING),
        "further": _further(step.prediction) if step.prediction else "",
    }


def _shown(step: Step, picture: Picture) -> dict[str, Any]:
    assert step.frame is not None
    found = said_of(step.frame, step.prediction, picture) if step.prediction else []
    said = [[said.task.output.name, said.words, said.recorded, said.wrong] for said in found]
    return {"deg": None, "recorded": None, "said": said}


def _draw_places(shown: NDArray[np.uint8], step: Step, picture: Picture) -> None:
    """Into a frame of which every second or third pixel may have been taken."""
    frame, prediction = step.frame, step.prediction
    if frame is None or prediction is None or shown.ndim != 3:
        return
    left, top, width, height = window_of(frame.image.shape[0], frame.image.shape[1], picture)
    along, down = (shown.shape[1] / frame.image.shape[1]), (shown.shape[0] / frame.image.shape[0])
    for name, output in prediction.outputs.items():
        if (task := task_of(output)).has_places:
            value = task.decode(prediction.said(name)[0])
            placed = task.in_frame(value, (left * along, top * down, width * along, height * down))
            task.draw_on(shown, placed, label_of(frame, output))


def _further(prediction: Prediction) -> str:
    """What the model says beside the steering."""
    said = {name: (output, prediction.values[name]) for name, output in prediction.outputs.items() if name != STEERING}
    return ", ".join(f"{name} {task_of(output).words(value)}" for name, (output, value) in said.items())


def jpeg_of(image: NDArray[np.uint8]) -> bytes | None:
    """At most `WIDEST` columns of it; None where it cannot be encoded."""
    image = color_of(image)
    height, width = image.shape[:2]
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes() if done else None
