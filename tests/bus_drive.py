"""A `sepilot drive` in a process of its own that steers by the fake PCA9685, for tests and scripts of bus faults."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fake_smbus2.smbus2 import Chip, Record

__all__ = ["NEUTRAL", "BusDrive", "bus_drive"]

ROOT = Path(__file__).resolve().parents[1]
STEERING, THROTTLE = 1, 0
NEUTRAL = (393, 369)
"""Steering and throttle in ticks, for the trim of 0.2 that `bus_drive` sets."""

PATIENCE_S = 60.0


class BusDrive:
    """What runs, and what its chip was told."""

    def __init__(self, process: subprocess.Popen[str], chip: Chip) -> None:
        self.process, self.chip = process, chip

    @property
    def pulses(self) -> tuple[int, int]:
        """Steering and throttle that the chip holds, in ticks."""
        return self.history()[-1][1]

    def history(self) -> list[tuple[Record, tuple[int, int]]]:
        return [(record, (held[0], held[1])) for record, held in self.chip.pulses(STEERING, THROTTLE)]

    def until(self, done: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end_s, f"{what}: not within {PATIENCE_S:g} s; {self.chip.log()[-6:]}"
            time.sleep(0.002)

    def until_driving(self) -> None:
        """A throttle that moves the car."""
        self.until(lambda: self.history() != [] and self.pulses[1] > NEUTRAL[1], "driving")

    def stop(self) -> None:
        """SIGSTOP, which takes a moment."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        self.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "stopped")

    def failures(self) -> list[Record]:
        return [record for record in self.chip.log() if record.what == "failed"]

    def watchdogs(self) -> list[int]:
        """Processes of the drive that run as its watchdog."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"sepilot_runtime.output.watchdog" in words and self._chip_of(folder) == str(self.chip.folder):
                    found.append(int(folder.name))
        return found

    def neutral_after_ms(self) -> float | None:
        """From the moment at which the bus answered to neutral; None before that."""
        if (answers_ns := self.chip.answers_since_ns()) is None:
            return None
        before, after = [], []
        for record, held in self.history():
            (before if record.at_ns < answers_ns else after).append((record.at_ns, held))
        if before and before[-1][1] == NEUTRAL:
            return 0.0
        return next(((at_ns - answers_ns) / 1e6 for at_ns, held in after if held == NEUTRAL), None)

    def until_neutral(self) -> float:
        """Neutral since the bus answers, and how long that took in ms."""
        self.until(lambda: self.neutral_after_ms() is not None, "neutral")
        return self.neutral_after_ms() or 0.0

    @staticmethod
    def _chip_of(folder: Path) -> str:
        for entry in (folder / "environ").read_bytes().split(b"\0"):
            if entry.startswith(b"FAKE_I2C="):
                return entry.removeprefix(b"FAKE_I2C=").decode()
        return ""


@contextlib.contextmanager
def bus_drive(model: Path, images: Path, folder: Path, *arguments: str) -> Iterator[BusDrive]:
    """Drive over pictures, played at 20 Hz, until the block ends; then nothing of it is left running."""
    environment = {
        **os.environ,
        "FAKE_I2C": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "fake_smbus2"), str(ROOT / "runtime")]),
    }
    words = [sys.executable, "-m", "sepilot_runtime", "drive", str(model), "--source", str(images), "--as-camera"]
    words += ["--rate-hz", "20", "--to", "pca9685:", "--set", "actuation.trim=0.2", "--set", "actuation.throttle=0.3"]
    process = subprocess.Popen(
        [*words, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    drive = BusDrive(process, Chip(folder))
    try:
        yield drive
    finally:
        for number in [process.pid, *drive.watchdogs()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
