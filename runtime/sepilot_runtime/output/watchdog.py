"""A second process that puts the car into neutral when the first one dies or hangs.

Some actuators have no dead-man time-out of their own: a PCA9685 repeats the last pulse for ever. The watchdog hears a
byte on its standard input with every step that was written. When none comes for a while, or the pipe breaks without a
farewell (the first process was killed, or could not write its last step), it writes neutral to the same output, which
it has opened before it says that it is up. A transfer that fails is tried again every 20 ms, for ever. It goes on
listening, so a process that was only stopped for a while takes over again.

Nothing else ends it: a systemd that signals every process of its unit, or a terminal that closes, would take it away
before the drive has said its farewell. It prints nothing once it is up: a pipe that nobody reads would hold it up.

    python -m sepilot_runtime.output.watchdog --timeout-ms 250 --straight 0.03 SPEC
"""

from __future__ import annotations

import argparse
import array
import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence

from sepilot_runtime.base.errors import OutputError, SepilotError
from sepilot_runtime.base.processes import SAFE_FOLDER, own_environment, python_words
from sepilot_runtime.drive.step import Sink, Step, neutral_step

__all__ = ["Guarded", "hold_neutral", "main", "watch"]

BEAT, FAREWELL = b".", b"!"
UP = b"watchdog: up\n"
STDOUT, STDERR = 1, 2
TIMEOUT_MS = 250
"""Five frames at 20 per second: more than the loop ever is silent, less than half a metre at walking pace."""

RETRY_S = 0.02
"""A bus that answers again is to be in neutral within 60 ms; a try takes a millisecond."""

HOLD_S = 1.0
"""For so long neutral is written again and again after it was taken: a transfer of the drive that was under way in the
kernel, or the second half of a step of a drive that is only stopped, may come after it."""

CLOSE_S = HOLD_S + 1
"""How long a drive that could not write its last step waits for its watchdog to do so."""

MOST_UNREAD, BEATS_PER_LOOK = 20, 5
"""Beats that wait in the pipe: a second's worth. A watchdog that was stopped guards nobody."""

RESTART_S = 1.0
"""Between two tries to start another watchdog."""

START_S = 20.0
"""A tenth of a second is usual; a small board that is being switched on has much else to do."""

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT)
"""The last one is what systemd sends to the whole unit when the drive gives no sign of life."""


class Guarded:
    """A sink under a watchdog.

    One that dies is replaced in the background, which takes a tenth of a second. Until another one watches, a step is
    written and then raises, so that the drive is degraded, then neutral: nobody drives on unguarded.
    """

    def __init__(
        self, sink: Sink, spec: str, straight: float, *, timeout_ms: int = TIMEOUT_MS, start_s: float = START_S
    ) -> None:
        """
        Args:
            spec: how the watchdog opens the same output (`outputs.open_bare`).
            straight: the steering of neutral.
            start_s: how long it may take until it watches.

        Raises:
            OutputError: the watchdog does not come up.
        """
        self._sink, self._spec, self._start_s = sink, spec, start_s
        self._words = python_words(
            "sepilot_runtime.output.watchdog", "--timeout-ms", str(timeout_ms), f"--straight={straight!r}", spec
        )
        self._unread, self._beats = array.array("i", [0]), 0
        self._watched = False
        self._closing = False
        self._starting = threading.Thread()
        self._process: subprocess.Popen[bytes] | None = _started(self._words, spec, start_s)

    def write(self, step: Step) -> None:
        if not self._watched:
            # A drive that hangs in the middle of its first step has moved the car, and says no more. Where nobody
            # listens, that is told behind the step, which may be neutral.
            with contextlib.suppress(OutputError):
                self._tell(BEAT)
                self._watched = True
        self._sink.write(step)
        self._tell(BEAT)

    def close(self) -> None:
        """Leave the car in neutral; where the sink cannot, the watchdog goes on trying until it can, without end.

        Raises:
            OutputError: neutral is not written yet.
        """
        self._closing = True
        failure: OutputError | None = None
        try:
            self._sink.close()
        except OutputError as e:
            failure = e
        else:
            with contextlib.suppress(OutputError):
                self._tell(FAREWELL)
        if self._starting.ident is not None:
            self._starting.join(CLOSE_S)
        process = self._process
        if process is None:
            if failure is not None:
                raise OutputError(f"{failure}; the car may still move, and the watchdog has died") from failure
            return
        _hang_up(process)
        try:
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            if failure is None:
                process.kill()
                return
            raise OutputError(
                f"{failure}; the car may still move: process {process.pid} goes on trying to stop it"
            ) from failure

    def _tell(self, what: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise OutputError(f"{self._spec}: the watchdog has died; another one is being started")
        pipe = process.stdin.fileno()
        self._beats += 1
        try:
            os.write(pipe, what)
            if self._beats % BEATS_PER_LOOK == 0:
                fcntl.ioctl(pipe, termios.FIONREAD, self._unread)
        except OSError as e:
            self._process, self._watched = None, False
            self._starting = threading.Thread(target=self._replace, args=(process,), name="watchdog", daemon=True)
            self._starting.start()
            raise OutputError(f"{self._spec}: the watchdog has died") from e
        if self._unread[0] > MOST_UNREAD:
            raise OutputError(f"{self._spec}: the watchdog does not listen")

    def _replace(self, dead: subprocess.Popen[bytes]) -> None:
        _hang_up(dead)
        dead.wait()
        while not self._closing:
            try:
                self._process = _started(self._words, self._spec, self._start_s)
            except OutputError:
                time.sleep(RESTART_S)
            else:
                return


def _started(words: Sequence[str], spec: str, start_s: float) -> subprocess.Popen[bytes]:
    """A watchdog that is up. Raises OutputError."""
    try:
        # A session of its own: Ctrl-C and the end of the terminal must not reach it.
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=STDERR, stderr=subprocess.PIPE, start_new_session=True,
            env=own_environment(), cwd=SAFE_FOLDER,
        )  # fmt: skip
    except OSError as e:
        raise OutputError(f"{spec}: the watchdog cannot be started: {e}") from e
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        with process.stderr as pipe:
            _wait_until_up(pipe.fileno(), spec, start_s)
    except BaseException:
        process.kill()
        process.wait()
        process.stdin.close()
        raise
    os.set_blocking(process.stdin.fileno(), False)
    return process


def _wait_until_up(pipe: int, spec: str, start_s: float) -> None:
    """Read what it says until it closes its stderr, as it does when it is up, and when it dies."""
    end_s, said = time.monotonic() + start_s, b""
    while select.select([pipe], [], [], max(0.0, end_s - time.monotonic()))[0]:
        data = os.read(pipe, 4096)
        if not data:
            break
        said += data
    else:
        raise OutputError(f"{spec}: the watchdog does not come up within {start_s:g} s")
    if not said.endswith(UP):
        lines = said.decode(errors="replace").split("\n")
        reason = next((line.strip() for line in reversed(lines) if line.strip()), "it died without a word")
        raise OutputError(f"{spec}: the watchdog does not come up: {reason}")


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def watch(output: Sink, straight: float, timeout_ms: int, source: int) -> int:
    """Listen on the file descriptor `source` until the farewell, or until neutral was written for want of one.

    While a drive hangs, neutral is written again and again.
    """
    heard = False
    while True:
        # Before the first beat there is nothing to guard: opening a camera takes seconds.
        ready = _readable(source, timeout_ms / 1000 if heard else None)
        data = os.read(source, 4096) if ready else b""
        if FAREWELL in data:
            return 0
        if ready and not data:
            hold_neutral(output, straight, "the drive was killed", lambda: time.sleep(RETRY_S))
            return 1
        if not ready:
            hold_neutral(output, straight, "the drive hangs", lambda: _readable(source, RETRY_S))
        # Also after neutral: a drive that goes on may hang again before its next beat, half of a step written.
        heard = True


def hold_neutral(output: Sink, straight: float, reason: str, pause: Callable[[], bool | None]) -> None:
    """Write neutral until the output took it, and for `HOLD_S` after that.

    Args:
        pause: waits for `RETRY_S`; true ends it, whatever was written: the drive is there again.
    """
    end_s: float | None = None
    while end_s is None or time.monotonic() < end_s:
        # Whatever an output raises, nobody else is left to try again.
        with contextlib.suppress(Exception):
            output.write(neutral_step(straight, reason, time.monotonic_ns()))
            end_s = end_s or time.monotonic() + HOLD_S
        if pause():
            return


def _readable(source: int, timeout_s: float | None) -> bool:
    return bool(select.select([source], [], [], timeout_s)[0])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sepilot_runtime.output.watchdog", description=__doc__.splitlines()[0]
    )
    parser.add_argument("spec", help="the output, as `sepilot drive --to` takes it")
    parser.add_argument("--timeout-ms", type=int, default=TIMEOUT_MS)
    parser.add_argument("--straight", type=float, required=True, help="the steering of neutral")
    arguments = parser.parse_args()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    from sepilot_runtime.output.registry import open_bare

    try:
        output = open_bare(arguments.spec, arguments.straight, start=False)
    except SepilotError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    # The drive waits at the other end of stderr, and hears its end. It may end long before this process, and whoever
    # reads what it says is not to wait for more.
    with contextlib.suppress(OSError):
        # It may have been killed meanwhile; then there is neutral to be written.
        os.write(STDERR, UP)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (STDOUT, STDERR):
        os.dup2(nowhere, stream)
    return watch(output, arguments.straight, arguments.timeout_ms, sys.stdin.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
