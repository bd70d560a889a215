"""A second process that puts the car into neutral when the first one dies or hangs.

Some actuators have no dead-man time-out of their own: a PCA9685 repeats the last pulse for ever. The watchdog hears a
byte on its standard input with every step. When none comes for a while, or the pipe breaks without a farewell (the
first process was killed), it opens the same output by itself and writes neutral; it goes on listening, so a process
that was only stopped for a while takes over again.

    python -m sepilot_runtime.watchdog --timeout-ms 250 SPEC
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import subprocess
import sys
import time

from sepilot_runtime.errors import OutputError, SepilotError
from sepilot_runtime.sinks import Sink, Step
from sepilot_runtime.states import State

__all__ = ["Guarded", "main", "watch"]

BEAT, FAREWELL = b".", b"!"
TIMEOUT_MS = 250
"""Five frames at 20 per second: more than the loop ever is silent, less than half a metre at walking pace."""


class Guarded:
    """A sink under a watchdog."""

    def __init__(self, sink: Sink, spec: str, *, timeout_ms: int = TIMEOUT_MS) -> None:
        """
        Args:
            spec: how the watchdog opens the same output (`outputs.open_bare`).

        Raises:
            OutputError: the watchdog cannot be started.
        """
        self._sink, self._spec = sink, spec
        words = [sys.executable, "-m", "sepilot_runtime.watchdog", "--timeout-ms", str(timeout_ms), spec]
        try:
            # A session of its own: Ctrl-C and the end of the terminal must not reach it.
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
        except OSError as e:
            raise OutputError(f"{spec}: the watchdog cannot be started: {e}") from e
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)

    def write(self, step: Step) -> None:
        self._sink.write(step)
        self._tell(BEAT)

    def close(self) -> None:
        self._sink.close()
        with contextlib.suppress(OutputError):
            self._tell(FAREWELL)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _tell(self, what: bytes) -> None:
        try:
            os.write(self._pipe, what)
        except BlockingIOError:
            # It has thousands of beats to read already.
            return
        except OSError as e:
            raise OutputError(f"{self._spec}: the watchdog has died") from e


def watch(spec: str, timeout_ms: int, source: int) -> int:
    """Listen on the file descriptor `source` until the farewell, or the end of the pipe."""
    from sepilot_runtime.outputs import open_bare

    output: Sink | None = None
    heard = False
    while True:
        # Before the first beat there is nothing to guard: opening a camera takes seconds.
        ready, _, _ = select.select([source], [], [], timeout_ms / 1000 if heard else None)
        data = os.read(source, 4096) if ready else b""
        if FAREWELL in data:
            return 0
        if data:
            heard = True
            continue
        reason = "the drive was killed" if ready else "the drive hangs"
        output = output or open_bare(spec)
        output.write(neutral(reason))
        if ready:
            output.close()
            return 1
        heard = False


def neutral(reason: str) -> Step:
    """Straight ahead, throttle 0."""
    return Step(
        frame=None, prediction=None, steering=0.0, throttle=0.0, state=State.STOPPED, reason=reason,
        decided_ns=time.monotonic_ns(),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sepilot_runtime.watchdog", description=__doc__.splitlines()[0])
    parser.add_argument("spec", help="the output, as `sepilot drive --to` takes it")
    parser.add_argument("--timeout-ms", type=int, default=TIMEOUT_MS)
    arguments = parser.parse_args()
    try:
        return watch(arguments.spec, arguments.timeout_ms, sys.stdin.fileno())
    except SepilotError as e:
        print(f"watchdog: {e}", file=sys.stderr)
        return e.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
