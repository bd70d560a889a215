"""Held-out frames with what the driver and the model did drawn in.

They come from the drives themselves. Where those have moved away, the small golden frames inside the contract stand in.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.contract import Output, golden_frame
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import shrink_frame
from sepilot_train.base.frame_set import Answers
from sepilot_train.run.run import Run

__all__ = ["Sample", "golden_samples", "held_out_samples", "turning", "turns"]

SPREAD, WORST = 6, 2
"""Frames from hardest left to hardest right, and frames with the largest errors."""

MAX_WIDTH = 320


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One frame as a JPEG data URL.

    Attributes:
        label_deg, prediction_deg: of what turns, for arrows, + = right; None where nobody steered.
        label, prediction: of the output that the frames are chosen by, in words; "" without a label.
        further: what is said with the other outputs, a line each.
    """

    url: str
    width: int
    height: int
    drive: str
    name: str
    label_deg: float | None
    prediction_deg: float | None
    label: str
    prediction: str
    worst: bool
    further: tuple[str, ...] = ()

    @property
    def label_tip(self) -> tuple[float, float] | None:
        return None if self.label_deg is None else self._tip(self.label_deg)

    @property
    def prediction_tip(self) -> tuple[float, float] | None:
        return None if self.prediction_deg is None else self._tip(self.prediction_deg)

    @property
    def foot(self) -> tuple[float, float]:
        """Where both arrows begin, in pixels."""
        return self.width / 2, self.height * 0.96

    def _tip(self, angle_deg: float) -> tuple[float, float]:
        angle, length = math.radians(angle_deg), self.height * 0.5
        x, y = self.foot
        return round(x + length * math.sin(angle), 2), round(y - length * math.cos(angle), 2)


def turning(outputs: Sequence[Output]) -> Output:
    """The output that an arrow shows: the first one that turns to a side, or the first."""
    return next((output for output in outputs if turns(output)), outputs[0])


def turns(output: Output) -> bool:
    return output.unit == "deg" and task_of(output).ends == ("left", "right")


def held_out_samples(run: Run, predictions: Answers, moved_to: Sequence[Path] = ()) -> list[Sample]:
    """A few held-out frames: spread over the driver's steering, and where the model is furthest off.

    Raises:
        DriveError: the drives are not where the run says, nor at `moved_to`.
    """
    from sepilot_runtime.recording.opening import open_drives

    paths = list(moved_to) or [Path(p) for p in (*run.request.drives, *run.request.validation_drives)]
    if gone := [p for p in paths if not p.exists()]:
        raise DriveError(f"{gone[0]}: the drive is no longer there")
    drives = {drive.id: drive for drive in open_drives(paths, run.request.reader, labelled=True)}
    frames, outputs = predictions.frames, run.contract.outputs
    turn = turning(outputs)
    said, labels = _pair(predictions, turn)
    # Of what is no number, what the model says stands in its place.
    chosen = _choose(labels if labels.ndim == 1 else task_of(turn).reading(said), task_of(turn).error(said, labels))
    samples = []
    for index, worst in chosen:
        drive, name = drives.get(frames.drives[index]), frames.names[index]
        if drive is None or name not in drive.names:
            continue
        try:
            frame = drive.read(drive.names.index(name))
        except FrameError:
            continue
        samples.append(
            _sample(
                frame,
                drive=drive.id,
                name=name,
                said={o.name: predictions.values[o.name][index] for o in outputs},
                labels={o.name: frames.labels[o.name][index] for o in outputs},
                outputs=outputs,
                worst=worst,
            )
        )
    if not samples:
        raise DriveError(f"{paths[0]}: none of the held-out frames is there any more")
    return samples


def golden_samples(run: Run) -> list[Sample]:
    """The contract's golden frames with the training model's answers."""
    outputs = run.contract.outputs
    return [
        _sample(
            golden_frame(golden),
            drive="golden frame",
            name=f"{number}",
            said={o.name: np.array(golden.expected[o.name]) for o in outputs},
            labels={},
            outputs=outputs,
            worst=False,
        )
        for number, golden in enumerate(run.contract.golden, start=1)
    ]


def _pair(predictions: Answers, output: Output) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return predictions.values[output.name], predictions.frames.labels[output.name]


def _choose(labels: NDArray[np.floating], error: NDArray[np.float64]) -> list[tuple[int, bool]]:
    """Indices, and whether each is there for its error."""
    order = np.argsort(labels, kind="stable")
    # Most frames go straight; evenly spaced angles show more of the road than evenly spaced ranks.
    wanted = np.linspace(labels.min(), labels.max(), SPREAD)
    places = np.searchsorted(labels[order], wanted).clip(0, len(order) - 1)
    spread = list(dict.fromkeys(int(order[p]) for p in places))
    worst = [int(i) for i in np.argsort(error)[::-1] if int(i) not in spread]
    apart: list[int] = []
    for index in worst:
        # Neighbours of the worst frame are nearly the same picture.
        if all(abs(index - other) > 20 for other in apart):
            apart.append(index)
        if len(apart) == WORST:
            break
    return [(i, False) for i in spread] + [(i, True) for i in apart]


def _sample(
    frame: NDArray[np.uint8],
    *,
    drive: str,
    name: str,
    said: Mapping[str, NDArray[np.floating]],
    labels: Mapping[str, Any],
    outputs: Sequence[Output],
    worst: bool,
) -> Sample:
    small, turn = shrink_frame(frame, MAX_WIDTH), turning(outputs)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    words = {o.name: task_of(o).words(task_of(o).decode(np.asarray(said[o.name], np.float32))) for o in outputs}
    driver = {o.name: task_of(o).words(labels[o.name]) for o in outputs if o.name in labels}
    reading = float(task_of(turn).reading(np.asarray(said[turn.name]).reshape(1, *turn.shape))[0])
    return Sample(
        url="data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii"),
        width=small.shape[1],
        height=small.shape[0],
        drive=drive,
        name=name,
        label_deg=float(labels[turn.name]) * turn.scale if turns(turn) and labels else None,
        prediction_deg=reading if turns(turn) else None,
        label=driver.get(turn.name, ""),
        prediction=words[turn.name],
        worst=worst,
        further=tuple(
            f"{o.name} {words[o.name]}" + (f", driver {driver[o.name]}" if o.name in driver else "")
            for o in outputs
            if o is not turn
        ),
    )
