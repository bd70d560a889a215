"""Driving with what a slots directory says, while it may say something else.

`ModelReloader` loads the active model, goes back to the previous one where that fails, and loads a file that becomes
active later in the background, so that the drive loop can swap it in between two frames.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from sepilot_runtime.base.caps import SETTINGS_BYTES
from sepilot_runtime.base.errors import ContractError, ModelFileError, SepilotError
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.device.slots import INDEX_NAME, active_model, mark_failed

__all__ = ["ModelReloader", "SlotWatcher"]

TRIES_BEFORE_ROLLBACK = 3
"""A file that takes so many processes down while they load it, one after the other, is given up."""

_STARTING_NAME = "starting"
_TRY_LIMIT_S = 20

T = TypeVar("T")


class SlotWatcher:
    """Tells that something became of the slots, by one `stat` at most every `every_s` seconds."""

    def __init__(self, folder: Path, *, every_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._every_s, self._clock = folder, every_s, clock
        self._seen = self._mark()
        self._due_s = clock() + every_s

    def changed(self) -> bool:
        """Whether slots.json is another than at the last look; False where it is too early to look again."""
        if self._clock() < self._due_s:
            return False
        self._due_s = self._clock() + self._every_s
        before, self._seen = self._seen, self._mark()
        return self._seen != before

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = (self._folder / INDEX_NAME).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


class ModelReloader(Generic[T]):
    """The active model of a slots directory, loaded.

    Attributes:
        path: of the file that runs.
        loaded: what `load` made of it.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path], T],
        *,
        load_beside: Callable[[Path], T] | None = None,
        warn: Callable[[str], None],
        every_s: float = 1.0,
    ) -> None:
        """Load the active model, or the previous one where it fails, which is then active.

        Args:
            load: a path to a pilot that has passed its golden frames.
            load_beside: the same while another drives; runs in a background thread and keeps its hands off the time and
                the memory of the drive. `load` where it is left out.
            warn: told one line about every file that is not driven with; also from that thread.

        Raises:
            ModelFileError: nothing is installed, or no file starts.
            SepilotError: what `load` raises for other reasons than the file.
        """
        self._folder, self._load, self._warn = folder, load, warn
        self._load_beside = load_beside or load
        self._watcher = SlotWatcher(folder, every_s=every_s)
        self.path, self.loaded = self._start()
        self._thread: threading.Thread | None = None
        self._next: tuple[Path, T] | None = None

    def poll(self) -> T | None:
        """Call it between two frames: the new model once it is loaded, else None. Never waits and never raises."""
        if self._thread is None:
            self._look()
        elif not self._thread.is_alive():
            self._thread = None
            if self._next is not None:
                (self.path, self.loaded), self._next = self._next, None
                return self.loaded
        return None

    def close(self) -> None:
        """Wait for a model that is being loaded."""
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        if self._watcher.changed():
            self._thread = threading.Thread(target=self._fetch, name="sepilot-slots", daemon=True)
            self._thread.start()

    def _fetch(self) -> None:
        """Runs in the background. What drives goes on driving, whatever comes of it."""
        try:
            path = active_model(self._folder)
        except SepilotError as e:
            self._warn(str(e))
            return
        if path == self.path:
            return
        try:
            self._next = path, self._load_beside(path)
        except (ModelFileError, ContractError) as e:
            self._warn(f"{e}; driving on with {self.path.name}")
            with contextlib.suppress(SepilotError):
                mark_failed(self._folder, path, str(e))
        except SepilotError as e:
            self._warn(f"{e}; driving on with {self.path.name}")

    def _start(self) -> tuple[Path, T]:
        path = active_model(self._folder, self._warn)
        # A start that did not end says nothing of the reason: the file, somebody who stopped it, a power switch.
        if self._unfinished() == path.name and (reason := _how_it_ends(self._load, path)):
            path = self._back_from(path, reason) or path
        try:
            return path, self._load_noted(path)
        except (ModelFileError, ContractError) as e:
            previous = self._back_from(path, str(e))
            if previous is None:
                raise
            return previous, self._load_noted(previous)

    def _back_from(self, path: Path, reason: str) -> Path | None:
        back = mark_failed(self._folder, path, reason, self._warn)
        if back is None or back == path:
            return None
        self._warn(f"{path.name}: {reason}; going back to {back.name}")
        return back

    def _load_noted(self, path: Path) -> T:
        """Load a file; where this process does not live through it, its name is left behind."""
        note = self._folder / _STARTING_NAME
        with contextlib.suppress(OSError):
            note.write_text(f"{path.name}\n", encoding="utf-8")
        try:
            return self._load(path)
        finally:
            with contextlib.suppress(OSError):
                note.unlink(missing_ok=True)

    def _unfinished(self) -> str | None:
        """The name of the file that an earlier start began with and did not finish; None where there is none."""
        with contextlib.suppress(OSError, ValueError):
            # An older sepilot wrote a count behind it.
            return read_regular(self._folder / _STARTING_NAME, SETTINGS_BYTES).decode("utf-8").split(" ")[0].strip()
        return None


def _how_it_ends(load: Callable[[Path], object], path: Path) -> str:
    """Load a file in processes of their own, whose end can be seen.

    Whatever ends this process as well (a signal to the whole unit, a power cut) leaves no verdict.

    Returns:
        How it took them down; "" as soon as one lives through it, be it with an error.
    """
    import multiprocessing
    import signal

    def try_it() -> None:
        # The kernel ends it, also where an interpreter does not come back.
        signal.alarm(_TRY_LIMIT_S)
        with contextlib.suppress(SepilotError):
            load(path)

    how = ""
    for _ in range(TRIES_BEFORE_ROLLBACK):
        # A copy of this process, so that it loads with the same settings; there are no threads yet.
        child = multiprocessing.get_context("fork").Process(target=try_it)
        child.start()
        child.join()
        code = child.exitcode or 0
        # 1: an exception, which comes again here. The signals: somebody who stops it.
        if code in (0, 1, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
            return ""
        if code == -signal.SIGALRM:
            return f"did not answer within {_TRY_LIMIT_S} s while it was loaded"
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"took its process down {TRIES_BEFORE_ROLLBACK} times while it was loaded ({how})"
