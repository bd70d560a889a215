"""Sinks: where the steering goes. Each takes one step of the loop at a time; several may stand side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol, TextIO

from sepilot_runtime.errors import OutputError
from sepilot_runtime.pilot import Prediction
from sepilot_runtime.sources import Frame

__all__ = ["JsonLinesSink", "ListSink", "Sink", "Step"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One turn of the loop.

    Attributes:
        total_us: from the frame in memory to the steering.
        age_ms: from the arrival of the frame to the steering.
    """

    frame: Frame
    prediction: Prediction
    total_us: float
    age_ms: float


class Sink(Protocol):
    """Takes what the loop decided."""

    def write(self, step: Step) -> None:
        """Pass one step on. Raises OutputError where it cannot."""


class JsonLinesSink:
    """One JSON object per frame and line, flushed at once, so that a program behind a pipe steers without delay.

    Keys: frame (id), time_s, steering in [-1, 1] with + = right, steering_deg, raw (before clipping), preprocess_us,
    infer_us, total_us, age_ms, and recorded (steering) where the source has it.
    """

    def __init__(self, file: TextIO, shown_as: str = "standard output") -> None:
        self._file, self._shown_as = file, shown_as

    def write(self, step: Step) -> None:
        prediction = step.prediction
        line: dict[str, float] = {
            "frame": step.frame.id,
            "time_s": round(step.frame.time_s, 4),
            "steering": round(prediction.steering, 6),
            "steering_deg": round(prediction.steering_deg, 4),
            "raw": round(prediction.raw, 6),
            "preprocess_us": round(prediction.preprocess_us, 1),
            "infer_us": round(prediction.infer_us, 1),
            "total_us": round(step.total_us, 1),
            "age_ms": round(step.age_ms, 3),
        }
        if step.frame.label is not None:
            line["recorded"] = round(step.frame.label, 6)
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise OutputError(f"{self._shown_as}: cannot be written: {e.strerror or e}") from e


class ListSink:
    """Keeps every step, for tests and for looking at a drive from Python."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def write(self, step: Step) -> None:
        self.steps.append(step)
