"""Exports of the runs that have none, in processes of their own: no benchmark beside TensorFlow."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from sepilot_export.tradeoff.discovery import LeftOut, Place
from sepilot_runtime.base.processes import own_environment, python_words

__all__ = ["FORMATS", "export_runs"]

FORMATS = ("float32.tflite", "int8.tflite")


def export_runs(
    runs: Sequence[tuple[Path, str]],
    folder: Path,
    shown: Path,
    moved_to: Sequence[Path] = (),
    tick: Callable[[], object] = lambda: None,
) -> tuple[list[Place], list[LeftOut]]:
    """Export each (run, name) to `folder`/name, which will lie at `shown`/name.

    Args:
        moved_to: where the runs' drives are now, when not where they were at training.

    Returns:
        The exports, and the runs that could not be exported.
    """
    made, left_out = [], []
    for run, name in runs:
        leaf = name.replace("/", "-")
        words = ["export", str(run), "--formats", ",".join(FORMATS)]
        if moved_to:
            words += ["--drives", *map(str, moved_to)]
        reason = _run([*words, "--out", str(folder / leaf)])
        # An export without one of its formats is told of where its files are judged.
        if reason and not (folder / leaf).is_dir():
            left_out.append(LeftOut(what=str(run), reason=f"cannot be exported: {reason.removeprefix(f'{run}: ')}"))
        else:
            command = shlex.join(["sepilot", *words, "--out", str(shown / leaf)])
            (folder / leaf / "command.txt").write_text(command + "\n", encoding="utf-8")
            made.append(Place(path=folder / leaf, shown=shown / leaf, name=name, run=run))
        tick()
    return made, left_out


def _run(words: Sequence[str]) -> str:
    """Run `sepilot` with `words`; what went wrong, in one line, or ""."""
    done = subprocess.run(
        python_words("sepilot_runtime", *words),
        env={**own_environment(), "KERAS_BACKEND": "tensorflow"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else "no message"
    return last.removeprefix("sepilot: ") if done.returncode == 2 else f"exit code {done.returncode}: {last}"
