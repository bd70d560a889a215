"""A candidate that sees what the active model sees and steers nothing: how far apart are the two on this road, today?

The candidate runs in a thread of its own at low priority, on the newest frame that comes while it is idle; frames that
come while it is busy are skipped and counted. What the active model pays is one copy of the frame at most.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.latency import Latency, LatencyHistogram
from sepilot_runtime.contract.outputs.kinds import Output, task_of
from sepilot_runtime.contract.outputs.units import amount, mark_of
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Pilot, Prediction

__all__ = ["OutputReport", "Shadow", "ShadowReport", "ShadowSink"]

_BEYOND = 300
"""In an output's finest differences: frames on which the two differ by more are counted. 3 degrees, an eighth of the
way on a car of 25 degrees at full lock."""

_BINS = 20_000
_NICE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReport:
    """How far a candidate was from the active model in one output, in its unit.

    Attributes:
        mean, p99, max: of the absolute difference; 0 without frames. p99 is exact to the output's finest difference.
        beyond: frames that differed by more than `limit`.
    """

    output: Output
    mean: float
    p99: float
    max: float
    beyond: int
    limit: float

    def __str__(self) -> str:
        mean, p99, most = (amount(number, self.output) for number in (self.mean, self.p99, self.max))
        beyond = f"{self.beyond} beyond {self.limit:g}{mark_of(self.output)}"
        return f"mean {mean}, p99 {p99}; max {most}; {beyond}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """How far a candidate was from the active model.

    Attributes:
        frames: that both answered to.
        skipped: that came while the candidate was busy.
        failed: that the candidate gave no answer to; `failure` is what it said about the last of them.
        outputs: of each output that both have, by name.
        total, active_total: frame to answers of candidate and active model on these frames; None without.
    """

    frames: int
    skipped: int
    failed: int
    failure: str
    outputs: Mapping[str, OutputReport]
    total: Latency | None
    active_total: Latency | None

    def __str__(self) -> str:
        if not self.frames:
            return f"no frames; {self.failed} failed{': ' if self.failure else ''}{self.failure}"
        named = [f"{name} {found}" if len(self.outputs) > 1 else f"{found}" for name, found in self.outputs.items()]
        parts = [f"{self.frames} frames: {'; '.join(named)}"]
        if self.total and self.active_total:
            parts.append(f"p50 {self.total.p50_us:.0f} µs (active {self.active_total.p50_us:.0f} µs)")
        parts += [f"{self.skipped} skipped"] * (self.skipped > 0)
        parts += [f"{self.failed} failed: {self.failure}"] * (self.failed > 0)
        return "; ".join(parts)


class _Differences:
    """Of one output, in memory that does not grow."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._counts = np.zeros(_BINS, np.int64)
        self._sum = self._max = 0.0
        self._beyond = 0

    def add(self, difference: float) -> None:
        self._counts[min(int(difference / self._output.fine), _BINS - 1)] += 1
        self._sum += difference
        self._max = max(self._max, difference)
        self._beyond += difference > _BEYOND * self._output.fine

    def report(self) -> OutputReport:
        count = int(self._counts.sum())
        place = int(np.searchsorted(np.cumsum(self._counts), np.ceil(0.99 * count))) if count else 0
        return OutputReport(
            output=self._output,
            mean=self._sum / count if count else 0.0,
            p99=min((place + 1) * self._output.fine, self._max),
            max=self._max,
            beyond=self._beyond,
            limit=_BEYOND * self._output.fine,
        )


class Shadow:
    """Runs a candidate beside the active model. Its memory does not grow. Close it at the end of the drive.

    Attributes:
        name: of the candidate's file.
    """

    def __init__(self, pilot: Pilot) -> None:
        """
        Args:
            pilot: the candidate; from here on only for the thread of the shadow.
        """
        self._pilot = pilot
        self.name = pilot.engine.path.name
        self._frame: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)
        self._active: Prediction | None = None
        self._idle, self._given = threading.Event(), threading.Event()
        self._closing = False
        self._lock = threading.Lock()
        self._differences = {output.name: _Differences(output) for output in pilot.contract.outputs}
        self._frames = self._skipped = self._failed = 0
        self._failure = ""
        self._total, self._active_total = LatencyHistogram(), LatencyHistogram()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name="sepilot-shadow", daemon=True)
        self._thread.start()

    def observe(self, frame: NDArray[np.uint8], active: Prediction) -> None:
        """Offer a frame (H, W, 3) uint8 BGR with the active model's answer. Never waits and never raises.

        The frame is copied, so that its memory may be used again at once.
        """
        if self._closing or not self._idle.is_set():
            self._skipped += 1
            return
        if self._frame.shape != frame.shape or self._frame.dtype != frame.dtype:
            self._frame = np.empty_like(frame)
        np.copyto(self._frame, frame)
        self._active = active
        self._idle.clear()
        self._given.set()

    def report(self) -> ShadowReport:
        """What was seen so far. From any thread."""
        with self._lock:
            return ShadowReport(
                frames=self._frames,
                skipped=self._skipped,
                failed=self._failed,
                failure=self._failure,
                outputs={name: differences.report() for name, differences in self._differences.items()},
                total=self._total.result(),
                active_total=self._active_total.result(),
            )

    def close(self) -> ShadowReport:
        """Finish the frame at hand and end the thread; the last report."""
        self._closing = True
        self._given.set()
        self._thread.join()
        return self.report()

    def _run(self) -> None:
        # Linux gives each thread its own priority.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            self._given.wait()
            self._given.clear()
            if (active := self._active) is not None:
                self._compare(active)
                self._active = None
                self._idle.set()
            if self._closing:
                return

    def _compare(self, active: Prediction) -> None:
        try:
            start = time.perf_counter_ns()
            found = self._pilot.predict(self._frame)
            total_us = (time.perf_counter_ns() - start) / 1000
        except SepilotError as e:
            with self._lock:
                self._failed, self._failure = self._failed + 1, str(e)
            return
        with self._lock:
            self._total.add(total_us)
            self._active_total.add(active.total_us)
            self._frames += 1
            for name, differences in self._differences.items():
                if name in active.values:
                    differences.add(abs(_reading(found, active, name) - _reading(active, active, name)))


def _reading(prediction: Prediction, about: Prediction, name: str) -> float:
    """What one of two models says of what the other says, within its limits."""
    task = task_of(prediction.outputs[name])
    return float(np.clip(task.reading(prediction.said(name), about.said(name))[0], *task.span))


class ShadowSink:
    """Shows a candidate every frame that the drive steered by."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow

    def write(self, step: Step) -> None:
        if step.frame is not None and step.prediction is not None:
            self._shadow.observe(step.frame.image, step.prediction)

    def close(self) -> None:
        """The shadow belongs to whoever started it."""
