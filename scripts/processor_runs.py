"""Runs scripts/processor_answers.py as other processors, and loses no answer to a crash of another file."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from processors import Processor, clean_environment, python_under

__all__ = ["Answer", "Answers", "ask", "ask_all"]

SCRIPT = Path(__file__).with_name("processor_answers.py")
JOBS_PER_PROCESS = 7  # Starting Python and its imports takes 3 to 8 s under emulation.

Answer = dict[str, Any]
"""What `processor_answers` wrote about a job; {"error": …, "crashed": True} where the process died of it."""

Answers = dict[str, Answer]
"""By job."""


def ask_all(
    processors: Sequence[Processor],
    arm_pythons: Mapping[str, Path],
    frames: Path,
    jobs: Sequence[str],
    silence_s: float,
) -> dict[str, Answers]:
    """Answers by the processors' names; as many processes at a time as there are cores."""
    found: dict[str, Answers] = {p.name: {} for p in processors}
    parts = [jobs[i : i + JOBS_PER_PROCESS] for i in range(0, len(jobs), JOBS_PER_PROCESS)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {
            pool.submit(ask, python_under(p, arm_pythons), frames, part, silence_s): p
            for part in parts
            for p in processors
        }
        for done in concurrent.futures.as_completed(running):
            found[running[done].name] |= done.result()
    return found


def ask(python: Sequence[str], frames: Path, jobs: Sequence[str], silence_s: float) -> Answers:
    """Answers to all jobs. A process that dies, or says nothing for `silence_s`, loses one job and is started again."""
    found: Answers = {}
    while todo := [job for job in jobs if job not in found]:
        answered, how = _process([*python, str(SCRIPT), str(frames), *todo], silence_s)
        found |= answered
        left = [job for job in todo if job not in answered]
        if left:
            # Where nothing was answered and nothing crashed, Python or an import failed: so it would for all.
            lost = left if not answered and how.startswith("failed") else left[:1]
            found |= {job: {"error": how, "crashed": True} for job in lost}
    return found


def _process(command: Sequence[str], silence_s: float) -> tuple[Answers, str]:
    """What one process answered, and how it ended."""
    answered: Answers = {}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, env=clean_environment()
        ) as process,
    ):
        assert process.stdout is not None
        silent = threading.Event()
        while True:
            timer = threading.Timer(silence_s, lambda: (silent.set(), process.kill()))
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            if not line.startswith("{"):
                if not line:
                    break
                continue  # Some engines chat on stdout.
            answer = json.loads(line)
            answered[answer.pop("job")] = answer
        code = process.wait()
        if silent.is_set():
            return answered, f"no answer within {silence_s:.0f} s"
        if code < 0:
            return answered, f"the process died of signal {-code}"
        return answered, f"failed: {_last_line(errors) or f'exit code {code}'}"


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip() and "TCG doesn't support" not in line]
    return lines[-1][:200] if lines else ""
