"""The cold start: a fresh process from nothing to its first answer, and the most memory that it ever held."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.base.processes import own_environment, python_words
from sepilot_runtime.bench.latency_bench import Variant
from sepilot_runtime.bench.record import ColdStart
from sepilot_runtime.drive.actuation import steers
from sepilot_runtime.engine.model_file import read_model_file

__all__ = ["cold_start", "drive_command", "start_once"]


def cold_start(variant: Variant, starts: int, *, height: int = 480, width: int = 640) -> ColdStart:
    """Start `sepilot drive`, or `run`, on one frame of this size, golden frames and all, several times; a bare file by
    itself.

    Raises:
        ModelFileError: it gives no answer.
    """
    command = _bare_command(variant) if variant.bare else None
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "frame.png"
        cv2.imwrite(str(image), np.full((height, width, 3), 90, np.uint8))
        found = [start_once(command or drive_command(variant, str(image))) for _ in range(starts)]
    seconds = [s for s, _, _ in found]
    if any((not line.strip() if variant.bare else b'"infer_us"' not in line) for _, _, line in found):
        raise ModelFileError(f"{variant.path}: gave no answer in a process of its own")
    return ColdStart(
        starts=starts,
        seconds=statistics.median(seconds),
        best_s=min(seconds),
        peak_rss_bytes=round(statistics.median(rss for _, rss, _ in found)),
    )


def drive_command(variant: Variant, source: str) -> list[str]:
    """The words that start `sepilot drive`, or `sepilot run` where the file does not steer."""
    verb = "drive" if steers(read_model_file(variant.path).contract) else "run"
    words = python_words("sepilot_runtime", verb, str(variant.path), "--source", source, "--quiet")
    words += ["--threads", str(variant.threads)]
    return words + (["--engine", variant.engine] if variant.engine else [])


def _bare_command(variant: Variant) -> list[str]:
    words = (str(variant.path), str(variant.threads), variant.engine or "", "0")
    return python_words("sepilot_runtime.engine.bare", *words)


def start_once(command: Sequence[str]) -> tuple[float, int, bytes]:
    """Seconds to the first line on stdout, peak memory in bytes, and that line; the process runs to its end."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        env=own_environment(),
    )
    seconds, rss, line = done.stdout.split(b" ", 2)
    return float(seconds), int(rss) * 1024, line


_LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
line = process.stdout.readline()
seconds = time.perf_counter() - start
process.stdout.read()
rss = os.wait4(process.pid, 0)[2].ru_maxrss
sys.stdout.buffer.write(b"%f %d %s" % (seconds, rss, line))
sys.stdout.flush()
os._exit(0)
"""
"""A small process in between: the kernel counts what a parent held when it started a child as the child's own peak."""
