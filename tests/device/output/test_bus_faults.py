"""A drive by its command line over a bus that fails: whoever is killed or stopped, the car stands when it answers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_drive import NEUTRAL, BusDrive, bus_drive
from model_factory import write_frames

HELD_S = 0.3
"""How long a bus that fails until it heals does so."""

LATE_MS = 3_000
"""Fifty times what is promised, and measured by scripts/bench_watchdog.py: this machine may be busy."""


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute and a half at 20 Hz."""
    return write_frames(tmp_path_factory.mktemp("road") / "frames", 1800)


@pytest.fixture
def drive(files: dict[str, Path], road: Path, tmp_path: Path) -> Iterator[BusDrive]:
    with bus_drive(files["float32.tflite"], road, tmp_path, "--output", str(tmp_path / "steps.jsonl")) as started:
        started.until_driving()
        yield started


@pytest.mark.parametrize("fault", [1, 4, "down", "gone"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("writer", ["drive", "watchdog"])
def test_a_drive_that_is_gone_leaves_the_car_in_neutral_once_the_bus_answers(
    writer: str, number: signal.Signals, fault: int | str, drive: BusDrive
) -> None:
    if writer == "watchdog":
        # Stopped first, so that every transfer that fails is one of the watchdog's.
        drive.stop()
        fail(drive, fault)
    else:
        fail(drive, fault)
        drive.until(lambda: drive.failures() != [], "a transfer that fails")
        drive.stop()
    if number is signal.SIGKILL:
        drive.process.kill()
    if fault in ("down", "gone"):
        time.sleep(HELD_S)
        assert drive.pulses[1] > NEUTRAL[1], "nothing gets through"
        drive.chip.heal()
    assert drive.until_neutral() < LATE_MS
    assert drive.pulses == NEUTRAL
    assert (drive.failures()[0].process == drive.process.pid) == (writer == "drive")
    assert drive.history()[-1][0].process != drive.process.pid
    if number is signal.SIGSTOP:
        drive.process.send_signal(signal.SIGCONT)
        drive.until_driving()


def fail(drive: BusDrive, fault: int | str) -> None:
    """So many transfers, or all until it heals, or the bus device is gone as well."""
    drive.chip.fail(fault if isinstance(fault, int) else None, gone=fault == "gone")


def test_the_watchdog_opens_the_chip_and_touches_nothing(drive: BusDrive) -> None:
    assert len(drive.watchdogs()) == 1
    assert {record.process for record in drive.chip.log()} == {drive.process.pid}
    assert sum(record.register == 0xFE for record in drive.chip.log()) == 1, "it is set up once"


def steps(drive: BusDrive) -> list[dict[str, object]]:
    # The last line may be half written.
    lines = (drive.chip.folder / "steps.jsonl").read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def until_said(drive: BusDrive, **expected: object) -> None:
    drive.until(lambda: any(expected.items() <= step.items() for step in steps(drive)), f"a step with {expected}")


FAILED = "pca9685 at 0x40 on i2c-1: cannot be written: Input/output error"


def test_one_transfer_that_fails_ends_nothing_and_is_counted(drive: BusDrive) -> None:
    drive.chip.fail(1)
    drive.until(lambda: drive.chip.answers_since_ns() is not None, "a transfer that fails")
    drive.until_driving()
    drive.process.terminate()
    words = drive.process.communicate()[1].splitlines()
    assert drive.process.returncode == 0 and words[-1] == f"steps not taken: {FAILED} (1x)"


@pytest.mark.parametrize("fault", [4, "down", "gone"])
def test_a_drive_rides_out_a_bus_that_fails_and_goes_on_when_it_answers(fault: int | str, drive: BusDrive) -> None:
    fail(drive, fault)
    until_said(drive, state="neutral")
    if fault in ("down", "gone"):
        time.sleep(HELD_S)
        drive.chip.heal()
    assert drive.until_neutral() < LATE_MS
    drive.until_driving()
    drive.process.terminate()
    words = drive.process.communicate()[1]
    assert drive.process.returncode == 0 and "steps not taken: " in words
    assert drive.pulses == NEUTRAL


def test_a_bus_that_never_answers_is_neutral_for_ever_and_ends_by_sigterm_with_a_word(drive: BusDrive) -> None:
    drive.chip.fail()
    until_said(drive, state="neutral", reason=FAILED)
    before = len(steps(drive))
    drive.until(lambda: len(steps(drive)) > before + 20, "a second more of steps")
    assert {step["state"] for step in steps(drive)[before:]} == {"neutral"}
    drive.process.terminate()
    words = drive.process.communicate()[1].splitlines()
    (watchdog,) = drive.watchdogs()
    assert drive.process.returncode == 2
    assert words[-1] == f"sepilot: {FAILED}; the car may still move: process {watchdog} goes on trying to stop it"
    assert drive.pulses[1] > NEUTRAL[1], "nothing got through"
    drive.chip.heal()
    assert drive.until_neutral() < LATE_MS
    assert drive.history()[-1][0].process == watchdog


def test_a_chip_that_lost_its_power_is_set_up_again(drive: BusDrive) -> None:
    drive.chip.fail(gone=True)
    until_said(drive, state="neutral")
    drive.chip.power_cycle()
    drive.chip.heal()
    drive.until(lambda: drive.pulses != (0, 0), "pulses")
    first = next(held for record, held in reversed(drive.history()) if held == (0, 0) or record.what == "power")
    assert first == (0, 0)
    assert drive.until_neutral() < LATE_MS
    drive.until_driving()
    assert drive.chip.register(0xFE) == 101


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nobody_drives_without_a_watchdog(number: signal.Signals, drive: BusDrive) -> None:
    (first,) = drive.watchdogs()
    os.kill(first, number)
    if number is signal.SIGSTOP:
        until_said(drive, state="neutral", reason="pca9685:: the watchdog does not listen")
        drive.until(lambda: drive.pulses == NEUTRAL, "neutral")
        os.kill(first, signal.SIGCONT)
    expected = {first} if number is signal.SIGSTOP else set()
    drive.until(lambda: len(set(drive.watchdogs()) - {first} | expected) == 1, "a watchdog")
    drive.until_driving()
    # The other one may be at its start still.
    drive.process.kill()
    drive.until(lambda: drive.pulses == NEUTRAL, "neutral")
