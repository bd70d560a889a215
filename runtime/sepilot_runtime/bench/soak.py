"""Driving by a camera in memory, to see how long each turn of the live loop takes and what it costs over hours.

A frame is due at a fixed rate, as a camera's are, and its turn ends when the loop asks for the next one. A turn that
ends later than a period after its frame was due missed the deadline. The processor time tells whose doing that is: a
miss is ours where the turn would have taken longer than a period even on a machine of its own; any other is the
system's, which woke us late or let somebody else run in the middle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.latency import Latency, LatencyHistogram
from sepilot_runtime.drive.loop import drive_live
from sepilot_runtime.drive.step import Step
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.source.pace import Ratekeeper
from sepilot_runtime.source.protocol import Frame, SourceInfo

__all__ = ["MemoryCamera", "Resources", "SoakTest", "resources_now", "soak_test"]

LOOKS = 128
"""At memory and handles in a rehearsal, at most; when so many are kept, every second one goes."""

FLAT_OUT_HZ = 60.0
"""Announced where frames come as fast as they are asked for: what a gap or a missed deadline is measured by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the process holds; 0 where the system does not say.

    Attributes:
        frames: turns that were done when this was seen.
        seconds: since the start.
    """

    frames: int
    seconds: float
    rss_bytes: int
    files: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakTest:
    """What came of it.

    Attributes:
        rate_hz: of the camera; None where frames came as fast as they were asked for.
        turn: from the frame in the loop's hands to its asking for the next one.
        own: of that, all but the pilot's preprocessing and inference.
        wake: from when a frame was due to when the loop had it; nothing without a rate.
        missed: turns that ended later than a period after their frame was due; `missed_by_us`, those of them that
            are not the system's doing.
        dropped: frames that were due while the loop was still busy with an older one.
        resources: the first one after a tenth of the time, when all is warm.
        seconds_in: states of the drive.
        rss_slope_kb_per_min: growth of memory by a straight line through all looks at it.
    """

    rate_hz: float | None
    seconds: float
    frames: int
    turn: Latency
    own: Latency
    wake: Latency | None
    missed: int
    missed_by_us: int
    dropped: int
    resources: tuple[Resources, ...]
    seconds_in: dict[str, float]
    rss_slope_kb_per_min: float


def soak_test(
    pilot: Pilot,
    frames: Sequence[NDArray[np.uint8]],
    *,
    rate_hz: float | None = None,
    seconds: float | None = None,
    count: int | None = None,
    tick: Callable[[int], object] = lambda done: None,
) -> SoakTest:
    """Drive live by `frames`, again and again, for so many seconds or so many frames, and meter each turn.

    Args:
        rate_hz: of the camera; None gives frames as fast as they are asked for.
        tick: told now and then how many frames are done.

    Raises:
        ModelFileError: the model fails on many frames in a row.
    """
    control = Control()
    camera = MemoryCamera(frames, control, rate_hz=rate_hz, seconds=seconds, count=count, tick=tick)
    summary = drive_live(pilot, camera, [camera], control=control)
    turn, own = camera.turn.result(), camera.own.result()
    assert turn is not None and own is not None
    looks = camera.looks()
    return SoakTest(
        rate_hz=rate_hz,
        seconds=summary.seconds,
        frames=camera.count,
        turn=turn,
        own=own,
        wake=camera.wake.result() if rate_hz else None,
        missed=camera.missed,
        missed_by_us=camera.missed_by_us,
        dropped=camera.lost["dropped"],
        resources=looks,
        seconds_in=summary.seconds_in,
        rss_slope_kb_per_min=_rss_slope(looks),
    )


def _rss_slope(looks: Sequence[Resources]) -> float:
    """kB per minute."""
    if len(looks) < 2:
        return 0.0
    minutes = [look.seconds / 60 for look in looks]
    kilobytes = [look.rss_bytes / 1024 for look in looks]
    return round(float(np.polyfit(minutes, kilobytes, 1)[0]), 3) + 0.0


class MemoryCamera:
    """A live source that gives frames out of memory, and the sink that learns what became of them.

    Being both, it sees the whole turn. The clocks are read once per turn, which is part of what is measured.
    """

    connected = True

    def __init__(
        self,
        frames: Sequence[NDArray[np.uint8]],
        control: Control,
        *,
        rate_hz: float | None = None,
        seconds: float | None = None,
        count: int | None = None,
        tick: Callable[[int], object] = lambda done: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        cpu_ns: Callable[[], int] = time.process_time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        height, width = frames[0].shape[:2]
        self.info = SourceInfo(
            where="memory", kind="camera", live=True, width=width, height=height,
            rate_hz=rate_hz or FLAT_OUT_HZ, frames=None,
        )  # fmt: skip
        self.lost = {"dropped": 0}
        self.count = self.missed = self.missed_by_us = 0
        self.turn, self.own, self.wake = LatencyHistogram(), LatencyHistogram(), LatencyHistogram()
        self._frames, self._control, self._tick = frames, control, tick
        self._keeper = Ratekeeper(rate_hz, clock_ns=clock_ns, sleep=sleep) if rate_hz else None
        self._deadline_ns = round(1e9 / self.info.rate_hz)
        self._most = count
        # Memory that is looked at must not grow by looking, so all of it is there, and touched, from the start.
        self._looks = np.ones((LOOKS, 5))
        self._look_count, self._look_every_ns, self._look_ns = 0, 1_000_000_000, 0
        self._clock_ns, self._cpu_ns = clock_ns, cpu_ns
        self._start_ns = 0
        self._lasts_ns = round(seconds * 1e9) if seconds else None
        self._given_ns = self._given_cpu_ns = 0
        self._pilot_us = 0.0

    def newest(self, timeout_s: float) -> Frame | None:
        if self._given_ns:
            self._end_turn()
        now_ns = self._clock_ns()
        if not self._start_ns:
            self._start_ns = now_ns
            if self._keeper:
                self._keeper.due_ns = now_ns
        if self.count == self._most or (self._lasts_ns is not None and now_ns - self._start_ns >= self._lasts_ns):
            self._look(now_ns)
            self._control.end("end of source")
            return None
        if self._keeper:
            if not self._keeper.wait(timeout_s):
                return None
            self.lost["dropped"] += self._keeper.overtaken()
            now_ns = self._clock_ns()
        frame = Frame(
            id=self.count,
            time_s=(now_ns - self._start_ns) / 1e9,
            image=self._frames[self.count % len(self._frames)],
            arrived_ns=self._keeper.due_ns if self._keeper else now_ns,
        )
        self._given_cpu_ns = self._cpu_ns()
        self._given_ns = self._clock_ns()
        return frame

    def write(self, step: Step) -> None:
        if step.prediction is not None:
            self._pilot_us = step.prediction.total_us

    def close(self) -> None:
        """Nothing to give back."""

    def __iter__(self) -> Iterator[Frame]:
        while self._control.ending is None:
            if (frame := self.newest(1.0)) is not None:
                yield frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to give back."""

    def _end_turn(self) -> None:
        now_ns, cpu_ns = self._clock_ns(), self._cpu_ns()
        turn_ns = now_ns - self._given_ns
        self.turn.add(turn_ns / 1000)
        self.own.add(turn_ns / 1000 - self._pilot_us)
        if keeper := self._keeper:
            self.wake.add((self._given_ns - keeper.due_ns) / 1000)
            if now_ns - keeper.due_ns > self._deadline_ns:
                self.missed += 1
                self.missed_by_us += cpu_ns - self._given_cpu_ns > self._deadline_ns
            keeper.due_ns += self._deadline_ns
        self.count += 1
        self._given_ns = 0
        if now_ns >= self._look_ns:
            self._look(now_ns)

    def looks(self) -> tuple[Resources, ...]:
        """At what the process held, from a tenth of the time on: then all is warm."""
        looks = self._looks[: self._look_count]
        return tuple(
            Resources(frames=int(frames), seconds=seconds, rss_bytes=int(rss), files=int(files), threads=int(threads))
            for frames, seconds, rss, files, threads in looks.tolist()
            if seconds >= looks[-1, 1] / 10
        )

    def _look(self, now_ns: int) -> None:
        if self._look_count == LOOKS:
            self._look_count //= 2
            self._look_every_ns *= 2
            self._looks[: self._look_count] = self._looks[1::2]
        seen = resources_now(self.count, (now_ns - self._start_ns) / 1e9)
        row = (seen.frames, seen.seconds, seen.rss_bytes, seen.files, seen.threads)
        self._looks[self._look_count] = row
        self._look_count += 1
        self._look_ns = now_ns + self._look_every_ns
        self._tick(self.count)


def resources_now(frames: int = 0, seconds: float = 0.0, root: Path = Path("/proc/self")) -> Resources:
    """What this process holds now."""
    try:
        pages = int((root / "statm").read_bytes().split()[1])
        files, threads = len(os.listdir(root / "fd")), len(os.listdir(root / "task"))  # noqa: PTH208
    except (OSError, ValueError, IndexError):
        pages = files = threads = 0
    return Resources(
        frames=frames, seconds=seconds, rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"), files=files, threads=threads
    )
