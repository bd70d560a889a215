"""A second process that puts the car into neutral when the first one dies or hangs.

Some actuators have no dead-man time-out of their own: a PCA9685 repeats the last pulse for ever. The watchdog hears a
byte on its standard input with every step. When none comes for a while, or the pipe breaks without a farewell (the
first process was killed), it opens the same output by itself and writes neutral; it goes on listening, so a process
that was only stopped for a while takes over again.

Nothing else ends it: a systemd that signals every process of its unit, or a terminal that closes, would take it away
before the drive has said its farewell.

    python -m sepilot_runtime.watchdog --timeout-ms 250 SPEC
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import time

from sepilot_runtime.errors import OutputError, SepilotError
from sepilot_runtime.processes import SAFE_FOLDER, own_environment, python_words
from sepilot_runtime.sinks import Sink, Step
from sepilot_runtime.states import State

__all__ = ["Guarded", "main", "watch"]

BEAT, FAREWELL = b".", b"!"
UP = b"watchdog: up\n"
STDOUT, STDERR = 1, 2
TIMEOUT_MS = 250
"""Five frames at 20 per second: more than the loop ever is silent, less than half a metre at walking pace."""

START_S = 20.0
"""A tenth of a second is usual; a small board that is being switched on has much else to do."""

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT)
"""The last one is what systemd sends to the whole unit when the drive gives no sign of life."""


class Guarded:
    """A sink under a watchdog."""

    def __init__(self, sink: Sink, spec: str, *, timeout_ms: int = TIMEOUT_MS, start_s: float = START_S) -> None:
        """
        Args:
            spec: how the watchdog opens the same output (`outputs.open_bare`).
            start_s: how long it may take until it watches.

        Raises:
            OutputError: the watchdog does not come up.
        """
        self._sink, self._spec = sink, spec
        words = python_words("sepilot_runtime.watchdog", "--timeout-ms", str(timeout_ms), spec)
        try:
            # A session of its own: Ctrl-C and the end of the terminal must not reach it.
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=STDERR, stderr=subprocess.PIPE, start_new_session=True,
                env=own_environment(), cwd=SAFE_FOLDER,
            )  # fmt: skip
        except OSError as e:
            raise OutputError(f"{spec}: the watchdog cannot be started: {e}") from e
        assert self._process.stdin is not None
        try:
            self._wait_until_up(start_s)
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            raise
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

    def _wait_until_up(self, start_s: float) -> None:
        """Read what it says until it closes its stderr, as it does when it is up, and when it dies."""
        assert self._process.stderr is not None
        end_s, said = time.monotonic() + start_s, b""
        with self._process.stderr as pipe:
            while select.select([pipe], [], [], max(0.0, end_s - time.monotonic()))[0]:
                data = os.read(pipe.fileno(), 4096)
                if not data:
                    break
                said += data
            else:
                raise OutputError(f"{self._spec}: the watchdog does not come up within {start_s:g} s")
        if not said.endswith(UP):
            lines = said.decode(errors="replace").split("\n")
            reason = next((line.strip() for line in reversed(lines) if line.strip()), "it died without a word")
            raise OutputError(f"{self._spec}: the watchdog does not come up: {reason}")

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
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # The drive waits at the other end of stderr, and hears its end; what is said later goes where the drive's own goes.
    os.write(STDERR, UP)
    os.dup2(STDOUT, STDERR)
    try:
        return watch(arguments.spec, arguments.timeout_ms, sys.stdin.fileno())
    except SepilotError as e:
        print(f"watchdog: {e}", file=sys.stderr)
        return e.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
