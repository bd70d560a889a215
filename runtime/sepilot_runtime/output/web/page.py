"""The page of one drive, in the drive's process: its port, its other process, and the thread that answers that one.

The thread waits for words that come when somebody looks, and for the stop. Nothing of the page runs in the loop but
`WebSink.write`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

from sepilot_runtime.base.processes import SAFE_FOLDER, own_environment, python_words
from sepilot_runtime.output.web.address import WebAddress, bind
from sepilot_runtime.output.web.drive import Answers, Watched
from sepilot_runtime.output.web.feed import WebSink

__all__ = ["WebPage"]

START_S = 10.0
END_S = 1.0
AGAIN_AFTER_S, AGAIN_AT_MOST_S = 0.5, 30.0
STDERR = 2


class WebPage:
    """It holds its port from the beginning, so that a taken one shows before the car moves.

    Attributes:
        sink: takes the steps.
        url: where people find it.
        controls: it has a token, so that it can stop the drive.
    """

    def __init__(self, address: WebAddress) -> None:
        """
        Raises:
            UsageError: it cannot listen there.
            ModuleNotFoundError: the extra `web` is not installed.
        """
        # What is missing is to show now, not in the other process.
        import h11  # noqa: F401

        self.sink = WebSink()
        self._address = address
        self.controls = address.token is not None
        self._listener = bind(address)
        host, port = self._listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if address.family == socket.AF_INET6 else f"http://{host}:{port}/"

    def close(self) -> None:
        """Give the port back."""
        self._listener.close()
        self.sink.close()

    @contextlib.contextmanager
    def serving(self, watched: Watched) -> Iterator[None]:
        """Serve until the end of the block; after it the other process is gone within a second or so."""
        serving = _Serving(self._address, self._listener, self.sink, Answers(self.sink, watched))
        serving.start()
        try:
            yield
        finally:
            serving.end()
            self.close()


class _Serving:
    """The other process, started again when it dies, and the thread that answers it.

    Attributes:
        process: the newest; None before the first.
    """

    def __init__(self, address: WebAddress, listener: socket.socket, sink: WebSink, answers: Answers) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._listener, self._sink, self._answers = listener, sink, answers
        self._told = {
            "drive": secrets.token_hex(4),
            "host": address.host,
            "port": address.port,
            "loopback": address.loopback,
            "token": address.token,
        }
        self._channel: socket.socket | None = None
        self._up, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        """Come back when the page is served, or does not come up; the drive begins either way."""
        self._thread.start()
        self._up.wait(START_S)

    def end(self) -> None:
        """Say that the drive is over, and wait until that was passed on."""
        self._ending.set()
        channel, process = self._channel, self.process
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.sendall(_line(0, self._answers.answer("facts")))
                channel.shutdown(socket.SHUT_WR)
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            process.kill()
            process.wait()
        self._thread.join(END_S)

    def _run(self) -> None:
        again_s = AGAIN_AFTER_S
        while not self._ending.is_set():
            self._up_to_its_end()
            self._up.set()
            if self._ending.wait(again_s):
                return
            if again_s == AGAIN_AFTER_S:
                print("warning: the web page's process ended; it is started again", file=sys.stderr)
            again_s = min(2 * again_s, AGAIN_AT_MOST_S)

    def _up_to_its_end(self) -> None:
        """One life of the other process."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                numbers = self._listener.fileno(), theirs.fileno(), self._sink.memory
                words = python_words("sepilot_runtime.output.web.server", *map(str, numbers))
                try:
                    # A session of its own: Ctrl-C and the end of the terminal must not reach it.
                    self.process = process = subprocess.Popen(
                        words, stdin=subprocess.DEVNULL, stdout=STDERR, pass_fds=numbers, start_new_session=True,
                        env=own_environment(), cwd=SAFE_FOLDER,
                    )  # fmt: skip
                except OSError as e:
                    print(f"warning: the web page's process cannot be started: {e}", file=sys.stderr)
                    return
            self._channel = ours
            with contextlib.suppress(OSError):
                ours.sendall(_line(0, self._told))
                self._answer(ours)
            self._channel = None
        if not self._ending.is_set():
            process.kill()
            process.wait()

    def _answer(self, channel: socket.socket) -> None:
        """Answer word after word until the other end is closed."""
        with channel.makefile("r", encoding="ascii") as lines:
            for line in lines:
                number, _, word = line.rstrip().partition(" ")
                answer = self._answers.answer(word)
                channel.sendall(_line(int(number), answer))
                if word == "up":
                    self._up.set()


def _line(number: int, answer: object) -> bytes:
    return json.dumps([number, answer]).encode() + b"\n"
