"""sepilot as a car has it: installed by pip on the aarch64 classes, and driving over a recording there."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm_tree import install_sepilot
from processors import Processor, clean_environment

from sepilot_export.verify.file_check import Candidate
from sepilot_runtime.base.errors import UsageError

__all__ = ["ArmDrive", "drive_all", "print_drives"]

LIMIT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmDrive:
    """One file's drive on one processor.

    Attributes:
        frames: that were steered.
        max_deg: largest difference from this machine's drive over the same frames.
        reason: why it failed; None where it did not.
    """

    file: str
    processor: str
    frames: int
    max_deg: float
    reason: str | None

    @property
    def passed(self) -> bool:
        return self.reason is None

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return dataclasses.asdict(self)


def drive_all(
    candidates: Sequence[Candidate],
    recording: Path,
    processors: Sequence[Processor],
    pythons: Mapping[str, Path],
    max_frames: int,
) -> list[ArmDrive]:
    """Install sepilot in the tree and drive every file over the recording on every aarch64 class.

    Raises:
        UsageError: no such class was asked for, or there is no recording.
        SepilotError: sepilot cannot be installed.
    """
    arms = [p for p in processors if p.machine == "aarch64"]
    if not arms:
        raise UsageError("--drive: runs on the aarch64 classes, and --processors names none")
    if not recording.exists():
        raise UsageError(f"--drive {recording}: a recording expected, found nothing")
    install_sepilot(pythons[arms[0].name])
    tasks = [(candidate, arm) for candidate in candidates for arm in arms]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda task: _compared(*task, pythons[task[1].name], recording, max_frames), tasks))


def _compared(candidate: Candidate, arm: Processor, python: Path, recording: Path, max_frames: int) -> ArmDrive:
    sepilot = [sys.executable, "-P", "-m", "sepilot_runtime"]
    here, _ = _drive(sepilot, clean_environment(), candidate, recording, max_frames)
    installed = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "PYTHON"))}
    command = [str(python), str(python.with_name("sepilot"))]
    there, reason = _drive(command, installed, candidate, recording, max_frames)
    if reason is None and len(there) != len(here):
        reason = f"{len(there)} frames steered, {len(here)} on this machine"
    worst = max((abs(a - b) for a, b in zip(here, there, strict=False)), default=0.0)
    return ArmDrive(
        file=candidate.form.name, processor=arm.name, frames=len(there), max_deg=round(worst, 6), reason=reason
    )


def _drive(
    sepilot: Sequence[str], environment: Mapping[str, str], candidate: Candidate, recording: Path, max_frames: int
) -> tuple[list[float], str | None]:
    """Steering in degrees of each frame, and why the drive failed."""
    with tempfile.TemporaryDirectory(prefix="sepilot-drive-") as folder:
        output = Path(folder) / "steering.jsonl"
        options = ["--source", str(recording.resolve()), "--output", str(output), "--max-frames", str(max_frames)]
        try:
            done = subprocess.run(
                [*sepilot, "drive", str(candidate.path.resolve()), *options, "--quiet"],
                capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=LIMIT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return [], f"not done within {LIMIT_S} s"
        lines = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    steered = [line["steering_deg"] for line in lines if line.get("steering_deg") is not None]
    if done.returncode == 0:
        return steered, None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return steered, said[-1] if said else f"exit code {done.returncode}"


def print_drives(drives: Sequence[ArmDrive], recording: Path) -> None:
    """The table, 80 columns."""
    print(f"sepilot drive FILE --source {recording}, emulated; largest difference from this machine's drive in°")
    print(f"{'file':22}{'processor':>12}{'frames':>8}{'max°':>10}")
    for drive in drives:
        verdict = "" if drive.passed else f"  FAIL {drive.reason}"
        print(f"{drive.file:22}{drive.processor:>12}{drive.frames:8}{drive.max_deg:10.4f}{verdict}")
