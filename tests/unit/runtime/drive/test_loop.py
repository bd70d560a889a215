"""The drive loop: every frame once, in order, with its time and age; an end that loses nothing."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from fakes import ConstantEngine, ListSink
from model_factory import PICTURE, contract_of, frames, steering_of, write_tflite
from sepilot_runtime.base.errors import DriveError, ModelFileError, OutputError
from sepilot_runtime.base.latency import RollingLatency, latency_of
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.drive.actuation import Actuation
from sepilot_runtime.drive.recorded import drive_frames
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.source.pace import paced, paced_at
from sepilot_runtime.source.protocol import Frame, SourceInfo


class ScriptedSource:
    """Frames, and exceptions to be raised in their place."""

    def __init__(self, *script: Frame | BaseException) -> None:
        self.info = SourceInfo(where="script", kind="images", live=False, width=0, height=0, rate_hz=20, frames=None)
        self.lost = {"skipped": 1}
        self._script = script

    def __iter__(self) -> Iterator[Frame]:
        for entry in self._script:
            if isinstance(entry, BaseException):
                raise entry
            yield entry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def numbered(count: int, *, arrived_ns: int = 0) -> list[Frame]:
    return [Frame(id=i, time_s=i / 10, image=image, arrived_ns=arrived_ns) for i, image in enumerate(frames(count))]


def test_every_frame_is_steered_by_once(tmp_path: Path) -> None:
    pilot = load_pilot(write_tflite(tmp_path / "m.tflite"))
    sink = ListSink()
    given = numbered(7, arrived_ns=1_000_000)
    summary = drive_frames(pilot, ScriptedSource(*given), [sink], clock_ns=lambda: 6_000_000)
    assert [step.frame.id for step in sink.steps[:-1]] == list(range(7))
    for step in sink.steps[:-1]:
        assert step.prediction.raw["steering"] == pytest.approx(
            steering_of(picture_of(step.frame.image, PICTURE)), abs=1e-6
        )
        assert step.age_ms == 5.0
    assert (summary.frames, summary.ended, summary.lost) == (7, "end of source", {"skipped": 1})
    assert summary.total is not None and summary.total.count == 7
    assert summary.age is not None and summary.age.p50_us == pytest.approx(5000, rel=0.01)


def constant() -> Pilot:
    return Pilot(ConstantEngine(contract_of(), 0.1))


def test_max_frames_stops_after_that_many() -> None:
    sink = ListSink()
    summary = drive_frames(constant(), ScriptedSource(*numbered(9)), [sink], max_frames=4)
    assert (len(sink.steps), summary.frames, summary.ended) == (4 + 1, 4, "max-frames")


def test_ctrl_c_and_a_failing_source_keep_what_was_driven() -> None:
    for error, ended in ((KeyboardInterrupt(), "interrupted"), (DriveError("camera 0: gone"), "camera 0: gone")):
        sink = ListSink()
        summary = drive_frames(constant(), ScriptedSource(*numbered(3), error), [sink])
        assert (len(sink.steps), summary.frames, summary.ended) == (3 + 1, 3, ended)


def test_a_source_that_never_starts_is_an_error() -> None:
    with pytest.raises(DriveError, match="gone"):
        drive_frames(constant(), ScriptedSource(DriveError("gone")), [])
    summary = drive_frames(constant(), ScriptedSource(), [])
    assert (summary.frames, summary.total, summary.age) == (0, None, None)


def test_a_frame_of_an_impossible_shape_is_counted_and_passed_over() -> None:
    good = numbered(3)
    bad = dataclasses.replace(good[1], image=np.zeros((4, 4, 7), np.uint8))
    sink = ListSink()
    summary = drive_frames(constant(), ScriptedSource(good[0], bad, good[2]), [sink])
    assert [step.frame.id for step in sink.steps[:-1]] == [0, 2]
    assert summary.lost == {"skipped": 1, "wrong shape": 1}


@pytest.mark.parametrize("broken", ["source", "sink", "model", None])
def test_the_last_word_is_stopped(broken: str | None) -> None:
    """Otherwise a receiver that keeps the last word keeps the throttle of the last frame."""

    class Breaks(ListSink):
        def write(self, step: Step) -> None:
            super().write(step)
            if broken == "sink" and len(self.steps) == 3:
                raise OutputError("disk full")

    class Forgets(ConstantEngine):
        def output(self, name: str) -> float:
            return float("nan") if broken == "model" and len(sink.steps) == 3 else 0.1

    sink, first = ListSink(), Breaks()
    script = [*numbered(4), *([DriveError("gone")] if broken == "source" else [])]
    with contextlib.suppress(OutputError, ModelFileError):
        drive_frames(
            Pilot(Forgets(contract_of(), 0.1)), ScriptedSource(*script), [first, sink],
            actuation=Actuation(throttle=0.3, trim=0.1),
        )  # fmt: skip
    assert {step.throttle for step in sink.steps[:-1]} == {0.3}
    last = sink.steps[-1]
    assert (last.state, last.steering, last.throttle, last.frame) == (State.STOPPED, 0.1, 0.0, None)


def test_a_model_that_breaks_on_the_way_stops_the_drive() -> None:
    with pytest.raises(ModelFileError):
        drive_frames(Pilot(ConstantEngine(contract_of(), float("nan"))), ScriptedSource(*numbered(1)), [])


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now_ns += round(seconds * 1e9)


def test_pacing_by_time_stamps() -> None:
    clock = Clock()
    times = []
    for frame in paced(numbered(4), clock_ns=clock, sleep=clock.sleep):
        assert frame.arrived_ns == clock.now_ns, "it arrives when it is due, not when the file was read"
        times.append((clock.now_ns - 10_000_000_000) / 1e9)
        clock.sleep(0.03)
    assert times == pytest.approx([0, 0.1, 0.2, 0.3])


def test_pacing_skips_long_gaps() -> None:
    clock = Clock()
    first, second, third = numbered(3)
    jump = [first, dataclasses.replace(second, time_s=500.0), dataclasses.replace(third, time_s=500.1)]
    assert len(list(paced(jump, clock_ns=clock, sleep=clock.sleep))) == 3
    assert clock.now_ns - 10_000_000_000 < 1e9


def test_pacing_at_a_rate_does_not_hurry_after_a_late_turn() -> None:
    clock = Clock()
    times = []
    for index, _ in enumerate(paced_at(10, clock_ns=clock, sleep=clock.sleep)(numbered(5))):
        times.append((clock.now_ns - 10_000_000_000) / 1e9)
        clock.sleep(0.25 if index == 1 else 0.01)
    assert times == pytest.approx([0, 0.1, 0.35, 0.45, 0.55])


def test_percentiles_are_samples_that_occurred() -> None:
    latency = latency_of(range(1, 101))
    assert (latency.count, latency.min_us, latency.max_us) == (100, 1, 100)
    assert (latency.p50_us, latency.p90_us, latency.p99_us) == (51, 91, 100)
    assert latency_of([7.0]).p99_us == 7.0


def test_the_rolling_median_forgets() -> None:
    rolling = RollingLatency(4)
    assert rolling.median_us() == 0.0
    for value in (100.0, 1.0, 2.0, 3.0, 4.0):
        rolling.add(value)
    assert rolling.median_us() == 2.5
