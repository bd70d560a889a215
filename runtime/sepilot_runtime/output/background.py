"""A sink in a thread of its own."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.drive.step import Sink, Step

__all__ = ["HUNG_S", "REOPEN_S", "Background"]

REOPEN_S = 2.0
"""Between two tries to open what could not be opened, or broke."""


HUNG_S = 30.0
"""A step that takes a sink longer than this will never end: even a card that is worn out answers before."""


class Background:
    """Runs another sink in a thread of its own, so that a slow disk or a reader that stopped reading holds nothing up.

    Attributes:
        dropped: steps that did not reach the sink, as newer ones had come or the queue was full.
        failure: what went wrong in the sink; it gets no further steps then, and the drive goes on.
        newest: whether only the newest step counts.
        name: of the sink, for messages.
    """

    def __init__(
        self,
        sink: Sink | None,
        *,
        keep: Literal["newest", "all"],
        depth: int = 64,
        close_s: float = 2.0,
        hung_s: float = HUNG_S,
        name: str = "",
        reopen: Callable[[], Sink] | None = None,
        reopen_s: float = REOPEN_S,
    ) -> None:
        """
        Args:
            sink: None is opened by `reopen` in the background.
            name: for messages; without, that of the sink's class.
            reopen: opens the sink again where it broke, every `reopen_s` until it can; steps wait or are dropped in
                the meantime, and the first failure is told on stderr at once. Without, a sink that breaks is done with.
            keep: with `newest` an old step gives way to a new one and the queue holds one; with `all` every step is
                kept until `depth` of them wait, and later ones are dropped.
            close_s: how long `close` waits for what is queued.
            hung_s: how long it then waits for the step that the sink is at.
        """
        self.dropped = 0
        self.failure: str | None = None
        self.newest, self.name = keep == "newest", name or type(sink).__name__
        self._reopen, self._reopen_s = reopen, reopen_s
        self._told = False
        self._sink, self._close_s, self._hung_s = sink, close_s, hung_s
        self._queue: deque[Step] = deque()
        self._depth = 1 if self.newest else depth
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._thread.start()

    def write(self, step: Step) -> None:
        if self.failure is not None and self._reopen is None:
            return
        with self._changed:
            if self._closing:
                return
            if len(self._queue) >= self._depth:
                self.dropped += 1
                if not self.newest:
                    return
                self._queue.popleft()
            self._queue.append(step)
            self._changed.notify()

    def close(self) -> None:
        """Let the sink finish what is queued, if it can within `close_s`, and close it.

        After that the sink is not written to any more, so that what it writes into can be released: the rest of the
        queue is dropped, and the step that the sink is at is waited for. One that takes longer than `hung_s` (a pipe
        that nobody reads, a disk that does not answer) never ends; it is told as a failure and left behind.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(self._close_s)
        with self._changed:
            self.dropped += len(self._queue)
            self._queue.clear()
        self._thread.join(self._hung_s)
        if self._thread.is_alive():
            self.failure = f"{self.name}: its last step did not end within {self._hung_s:g} s"

    def _run(self) -> None:
        # Whatever a sink raises ends that sink alone, and is told: nobody reads the traceback of a thread.
        while self._drained():
            pass
        if self._sink is not None:
            self._close(self._sink)

    def _drained(self) -> bool:
        """Pass steps on until it is closed or the sink breaks; whether another try is to be made."""
        step: Step | None = None
        try:
            if self._sink is None and self._reopen is not None:
                self._sink = self._reopen()
                self.failure = None
            while self._sink is not None and (step := self._next()) is not None:
                self._sink.write(step)
        except Exception as e:  # noqa: BLE001
            self.dropped += step is not None and self._reopen is not None
            self.failure = self._words(e)
        else:
            return False
        return self._reopen is not None and self._waited()

    def _waited(self) -> bool:
        """Tell, let go of what broke, and wait; false when it is closed in the meantime."""
        if not self._told:
            self._told = True
            print(f"warning: {self.failure}; trying again", file=sys.stderr)
        broken, self._sink = self._sink, None
        if broken is not None:
            self._close(broken)
        with self._changed:
            return not self._changed.wait_for(lambda: self._closing, self._reopen_s)

    def _close(self, sink: Sink) -> None:
        try:
            sink.close()
        except Exception as e:  # noqa: BLE001
            self.failure = self.failure or self._words(e)

    def _words(self, error: Exception) -> str:
        """One line about what a sink raised."""
        if isinstance(error, BrokenPipeError):
            return "the reader has gone"
        # OpenCV's messages are of several lines.
        words = " ".join(str(error).split())
        return words if isinstance(error, SepilotError | OSError) else f"{self.name}: {type(error).__name__}: {words}"

    def _next(self) -> Step | None:
        """The next step, None when closing and all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            return self._queue.popleft() if self._queue else None
