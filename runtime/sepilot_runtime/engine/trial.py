"""Trying a model file where it can do no harm: in a process of its own, or under a clock.

An interpreter may crash, hang or eat memory over a file whose checksum somebody made fit. `try_model` lets that happen
in a process that gives way to everything else, has a limit of memory and of time, and is the first that the kernel ends
when memory runs short; so a running drive goes on. `time_limit` is for verbs that have nothing to lose yet.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.exit_codes import run_verb
from sepilot_runtime.base.processes import SAFE_FOLDER, own_environment, python_words
from sepilot_runtime.base.terminal import one_line
from sepilot_runtime.engine.engines import engine_of
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.names import EngineName, engine_named

if TYPE_CHECKING:
    import subprocess

__all__ = ["LIMIT_S", "Proof", "time_limit", "try_model"]

LIMIT_S = 60.0
"""For starting Python and the interpreter on a slow card, and the golden frames; 0.3 s on a PC."""

START_LIMIT_S = 30.0
"""For opening a file and its golden frames in a process that runs already; 0.02 s on a PC."""

MEMORY_BYTES = 1 << 30
"""Of data, four times what an exported file and its interpreter take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a trial found out about a file that passed.

    Attributes:
        checksum: of the bytes that were tried.
        opening_s: processor time for opening it once more, its interpreter being there.
    """

    checksum: str
    opening_s: float


def try_model(
    path: Path,
    *,
    shown_as: Path | None = None,
    threads: int = 1,
    engine: EngineName | None = None,
    limit_s: float = LIMIT_S,
    started: Callable[[subprocess.Popen[str]], None] = lambda _: None,
) -> Proof:
    """Load a file and run its golden frames in a process of its own.

    Args:
        shown_as: the path that messages name, where it is another.
        started: told the process, so that somebody else can end it; the file then counts as failed.

    Raises:
        ModelFileError: it fails, takes its process down, or takes longer than `limit_s`.
    """
    import subprocess

    shown = shown_as or path
    words = python_words(__name__, str(path.absolute()), str(threads), engine or "")
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        cwd=SAFE_FOLDER, env=own_environment(),
    ) as process:  # fmt: skip
        started(process)
        try:
            found, said = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as e:
            raise ModelFileError(f"{shown}: it did not answer within {limit_s:g} s") from e
        finally:
            process.kill()
    if process.returncode:
        raise ModelFileError(f"{shown}: {_failure(process.returncode, said.strip(), path)}")
    checksum, opening_s = found.split()[-2:]
    return Proof(checksum=checksum, opening_s=float(opening_s))


def _failure(code: int, said: str, path: Path) -> str:
    """Why the process failed the file, by its exit code and what it said."""
    if code == 2 and said.startswith("sepilot: "):
        return said.removeprefix("sepilot: ").removeprefix(f"{path.absolute()}: ")
    last = (said.splitlines() or [""])[-1][:200]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"it ended its process with {how}{': ' if last else ''}{last}"


@contextlib.contextmanager
def time_limit(path: Path, limit_s: float = START_LIMIT_S) -> Iterator[None]:
    """End this process with one line and exit code 2 where opening a file takes longer. Not for use while driving.

    A thread can do that while an interpreter runs; an exception cannot reach into it.
    """
    timer = threading.Timer(limit_s, _give_up, (path, limit_s))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(path: Path, limit_s: float) -> None:
    line = f"{path}: no answer to its golden frames within {limit_s:g} s; it is broken or made to hang"
    os.write(2, f"sepilot: {one_line(line)}\n".encode())
    os._exit(2)


def _give_way() -> None:
    os.nice(19)
    for what, most in ((resource.RLIMIT_DATA, MEMORY_BYTES), (resource.RLIMIT_CPU, int(LIMIT_S))):
        # Also where whoever started this is gone: the processor's time is limited by the kernel.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _prove(path: Path, threads: int, engine: EngineName | None) -> int:
    from sepilot_runtime.engine.golden import verify_golden

    file = read_model_file(path)
    verify_golden(engine_of(file, threads=threads, engine=engine))
    start = time.process_time()
    engine_of(file, threads=threads, engine=engine)
    print(file.checksum, time.process_time() - start)
    return 0


def main(argv: Sequence[str]) -> int:
    """The process's own part: PATH THREADS ENGINE, an empty ENGINE for the usual one."""
    _give_way()
    path, threads, engine = argv
    return run_verb(lambda: _prove(Path(path), int(threads), engine_named(engine) if engine else None))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
