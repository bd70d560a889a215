"""Sinks: where the steering goes, or what is said. Each takes one step at a time; several may stand side by side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.drive.actuation import STEERING
from sepilot_runtime.drive.step import Step

# For its types alone: the watchdog's process imports this module, and shall neither wait for numpy nor hold it.
if TYPE_CHECKING:
    from sepilot_runtime.engine.pilot import Prediction

__all__ = ["JsonLinesSink"]


class JsonLinesSink:
    """One JSON object per step and line, flushed at once, so that a program behind a pipe steers without delay.

    Keys: state, reason (unless empty), and with a frame: frame (id), time_s, total_us, age_ms; with a prediction:
    preprocess_us, infer_us, post_us; and outputs, each by its name with value, raw (of few numbers), and recorded where
    the source has it. Where a car is driven, also steering in [-1, 1] with + = right and throttle as the car gets them,
    recorded (steering) where the source has it, and with a prediction steering_deg and raw (before clipping); steering
    is then none of the outputs.
    """

    def __init__(self, file: TextIO, shown_as: str = "standard output", *, frames_only: bool = False) -> None:
        """
        Args:
            frames_only: leave out steps without a frame, so that a recording gives one line per frame.
        """
        self._file, self._shown_as, self._frames_only = file, shown_as, frames_only

    def write(self, step: Step) -> None:
        if self._frames_only and step.frame is None:
            return
        try:
            self._file.write(json.dumps(line_of(step)) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise OutputError(f"{self._shown_as}: cannot be written: {e.strerror or e}") from e

    def close(self) -> None:
        """The file belongs to whoever opened it."""


MOST_RAW = 256
"""Numbers of a raw answer that a line holds: those of a grid of cells, thousands a frame, say nothing to anybody."""


def line_of(step: Step) -> dict[str, Any]:
    """A step as plain values; the keys are those of `JsonLinesSink`."""
    line: dict[str, Any] = {}
    frame, prediction = step.frame, step.prediction
    if frame is not None:
        line |= {"frame": frame.id, "time_s": round(frame.time_s, 4)}
    line["state"] = step.state.value
    if step.obeyed:
        line |= {"steering": round(step.steering, 6), "throttle": round(step.throttle, 6)}
    if step.reason:
        line["reason"] = step.reason
    if prediction is not None:
        if step.obeyed:
            line["steering_deg"] = round(prediction.in_unit(STEERING), 4)
            line["raw"] = round(prediction.raw[STEERING], 6)
        line |= {
            "preprocess_us": round(prediction.preprocess_us, 1),
            "infer_us": round(prediction.infer_us, 1),
            "post_us": round(prediction.post_us, 1),
            **_others(step, prediction),
        }
    if frame is not None and step.age_ms is not None:
        line |= {"total_us": round(step.total_us, 1), "age_ms": round(step.age_ms, 3)}
        if step.obeyed and (label := frame.labels.get(STEERING)) is not None:
            line["recorded"] = round(label, 6)
    return line


def _rounded(value: Any) -> Any:
    """The numbers in a decoded answer, a raw one or a label; what is none as it is."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return _rounded(value.ravel().tolist()) if hasattr(value, "ravel") else value


def _others(step: Step, prediction: Prediction) -> dict[str, Any]:
    frame = step.frame
    others: dict[str, Any] = {}
    for name, value in prediction.values.items():
        if name != STEERING or not step.obeyed:
            others[name] = {"value": _rounded(value)}
            if getattr(raw := prediction.raw[name], "size", 1) <= MOST_RAW:
                others[name]["raw"] = _rounded(raw)
            if frame is not None and name in frame.labels:
                # Here, as the watchdog's process imports this module.
                from sepilot_runtime.source.labels import recorded_value

                if (recorded := recorded_value(frame, prediction.outputs[name])) is not None:
                    others[name]["recorded"] = _rounded(recorded)
    return {"outputs": others} if others else {}
