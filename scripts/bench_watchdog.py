"""How soon the car stands when the drive is gone and the bus fails: {SIGKILL, SIGSTOP} x failing bus x who writes.

    python scripts/bench_watchdog.py [--rounds 20]

Times are from the moment at which the bus answers, or, with a healthy one, from the signal. A drive that was stopped is
first waited for (watchdog.TIMEOUT_MS). The bus is the fake one of tests/fake_smbus2, so no transfer takes time.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "runtime")]

from bus_drive import bus_drive  # noqa: E402
from model_factory import write_frames, write_tflite  # noqa: E402

HELD_S = 0.4
FAILS = {"healthy": 0, "1 transfer": 1, "4 transfers": 4, "until it heals": None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of each case (default 20)")
    rounds = parser.parse_args().rounds
    print(f"| the drive | the bus fails | first failing writer | median | worst of {rounds} |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, images = write_tflite(folder / "model.tflite"), write_frames(folder / "frames", 400)
        for number, name in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped"), (None, "goes on")):
            for fails, count in FAILS.items():
                for writer in ("drive", "watchdog"):
                    # A drive that goes on is only degraded by one failure, and a bus that works fails nobody.
                    goes_on = number is None and (writer == "watchdog" or count in (0, 1))
                    if goes_on or (count == 0 and writer == "drive"):
                        continue
                    taken = sorted(_taken_ms(model, images, number, count, writer) for _ in range(rounds))
                    middle = taken[rounds // 2]
                    print(f"| {name} | {fails} | {writer} | {middle:.0f} ms | {taken[-1]:.0f} ms |", flush=True)
    return 0


def _taken_ms(model: Path, images: Path, number: signal.Signals | None, count: int | None, writer: str) -> float:
    with tempfile.TemporaryDirectory() as folder, bus_drive(model, images, Path(folder)) as drive:
        drive.until_driving()
        time.sleep(0.2)
        if writer == "watchdog":
            drive.stop()
            drive.chip.fail(count)
        else:
            drive.chip.fail(count)
            drive.until(lambda: drive.failures() != [], "a failing transfer")
            if number is not None:
                drive.stop()
        if number is signal.SIGKILL:
            drive.process.kill()
        if count is None:
            time.sleep(HELD_S)
            drive.chip.heal()
        return drive.until_neutral()


if __name__ == "__main__":
    raise SystemExit(main())
