"""A recording played as a camera, a car's own settings, and the histogram that a long drive counts in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.latency import LatencyHistogram, latency_of
from sepilot_runtime.drive.car_config import load_car
from sepilot_runtime.source.protocol import EndOfSource, Frame, SourceInfo
from sepilot_runtime.source.replay import ReplaySource


class Recording:
    """Frames at 20 Hz; after `pause_after` of them, an hour without."""

    def __init__(self, count: int, pause_after: int = 10**9) -> None:
        self.info = SourceInfo(where="tub", kind="drive", live=False, width=8, height=8, rate_hz=20, frames=count)
        self.lost = {"missing image": 1}
        self._count, self._pause_after = count, pause_after

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self._count):
            time_s = 5 + i / 20 + 3600 * (i >= self._pause_after)
            yield Frame(id=i, time_s=time_s, image=np.full((8, 8, 3), i, np.uint8), arrived_ns=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now_ns = 3_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_ns += round(seconds * 1e9)


def played(count: int, rate_hz: float | None = None, pause_after: int = 10**9) -> tuple[ReplaySource, Clock]:
    clock = Clock()
    source = ReplaySource(Recording(count, pause_after), rate_hz=rate_hz, clock_ns=clock, sleep=clock.sleep)
    return source, clock


@pytest.mark.parametrize(("rate_hz", "period_s"), [(None, 0.05), (100.0, 0.01)])
def test_frames_come_when_they_are_due(rate_hz: float | None, period_s: float) -> None:
    source, clock = played(5, rate_hz)
    assert source.info.live and source.info.rate_hz == (rate_hz or 20)
    begin_ns = clock.now_ns
    for i in range(5):
        frame = source.newest(1.0)
        assert frame is not None and frame.id == i
        assert frame.arrived_ns == clock.now_ns == begin_ns + round(i * period_s * 1e9)
    with pytest.raises(EndOfSource):
        source.newest(1.0)


@pytest.mark.parametrize(("rate_hz", "period_s"), [(None, 0.05), (0.5, 2.0)])
def test_a_pause_of_the_recording_is_left_out(rate_hz: float | None, period_s: float) -> None:
    source, clock = played(5, rate_hz, pause_after=3)
    begin_ns = clock.now_ns
    for i in range(5):
        frame = source.newest(10.0)
        assert frame is not None and frame.id == i
        assert frame.arrived_ns == clock.now_ns == begin_ns + round(i * period_s * 1e9)


def test_nothing_comes_before_it_is_due() -> None:
    source, clock = played(5)
    source.newest(1.0)
    begin_ns = clock.now_ns
    assert source.newest(0.02) is None
    assert clock.now_ns == begin_ns + 20_000_000
    frame = source.newest(0.04)
    assert frame is not None and frame.id == 1


def test_whoever_is_late_gets_the_newest_and_the_others_are_counted() -> None:
    source, clock = played(9)
    source.newest(1.0)
    clock.sleep(0.23)
    frame = source.newest(1.0)
    assert frame is not None and frame.id == 4
    assert (clock.now_ns - frame.arrived_ns) / 1e6 == pytest.approx(30)
    assert source.lost == {"missing image": 1, "dropped": 3}


def test_a_cars_file_and_its_overrides(tmp_path: Path) -> None:
    file = tmp_path / "car.toml"
    file.write_text(
        'outputs = ["serial:/dev/ttyACM0"]\n[actuation]\ntrim = 0.03\ngain = -1\n[limits]\nmax_age_ms = 80\n'
    )
    car = load_car(file, ["actuation.trim=0.05", "limits.max_repeats=3"])
    assert (car.actuation.trim, car.actuation.gain, car.outputs) == (0.05, -1.0, ("serial:/dev/ttyACM0",))
    assert (car.limits.max_age_ms, car.limits.max_repeats) == (80.0, 3)
    for override, message in (
        ("actuation.trimm=0", "actuation.trimm: unknown key; known: gain"),
        ("actuation.gain=0", "gain: a number other than 0 expected"),
        ("actuation.high=-1", "low < high"),
        ("limits.max_gap_periods=0.5", "max_gap_periods: at least 1"),
        ("trim", "expected section.key=value"),
    ):
        with pytest.raises(UsageError) as error:
            load_car(file, [override])
        assert message in str(error.value) and "\n" not in str(error.value)
    file.write_text("trim = \n")
    with pytest.raises(UsageError, match="not TOML"):
        load_car(file)


def test_the_histogram_agrees_with_the_samples_to_a_percent() -> None:
    samples = np.random.default_rng(0).lognormal(4, 1, 20_000)
    histogram = LatencyHistogram()
    assert histogram.result() is None
    for sample in samples:
        histogram.add(sample)
    found, exact = histogram.result(), latency_of(samples)
    assert found is not None
    assert (found.count, found.min_us, found.max_us) == (exact.count, exact.min_us, exact.max_us)
    for name in ("p50_us", "p90_us", "p99_us"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=0.011)
    for sample in (0.0, 1e12):
        histogram.add(sample)
    widest = histogram.result()
    assert widest is not None and (widest.min_us, widest.max_us) == (0.0, 1e12)
