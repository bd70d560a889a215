"""Driving with what a slots directory says, while it may say something else.

`SlotFollower` loads the active model, goes back to the previous one where that fails, and loads a file that becomes
active later in the background, so that the drive loop can swap it in between two frames.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from sepilot_runtime.caps import SETTINGS_BYTES
from sepilot_runtime.errors import ContractError, ModelFileError, SepilotError
from sepilot_runtime.reading import read_regular
from sepilot_runtime.slots import INDEX_NAME, active_model, mark_failed

__all__ = ["SlotFollower", "SlotWatcher"]

STARTS_BEFORE_ROLLBACK = 3
"""A file that three times in a row took the process down while it was loaded is given up."""

_STARTING_NAME = "starting"

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


class SlotFollower(Generic[T]):
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
        if self._count_start(path) > STARTS_BEFORE_ROLLBACK:
            reason = f"took its process down {STARTS_BEFORE_ROLLBACK} times while it was loaded"
            path = self._back_from(path, reason) or path
        try:
            return path, self._load(path)
        except (ModelFileError, ContractError) as e:
            previous = self._back_from(path, str(e))
            if previous is None:
                raise
            return previous, self._load(previous)
        finally:
            self._forget_starts()

    def _back_from(self, path: Path, reason: str) -> Path | None:
        back = mark_failed(self._folder, path, reason)
        if back is None or back == path:
            return None
        self._warn(f"{path.name}: {reason}; going back to {back.name}")
        return back

    def _count_start(self, path: Path) -> int:
        """How often, with this one, this file was begun with and not finished. 1 where nothing can be written."""
        note = self._folder / _STARTING_NAME
        count = 1
        with contextlib.suppress(OSError, ValueError):
            name, before = read_regular(note, SETTINGS_BYTES).decode("utf-8").split()
            count += int(before) if name == path.name else 0
        with contextlib.suppress(OSError):
            note.write_text(f"{path.name} {count}\n", encoding="utf-8")
        return count

    def _forget_starts(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / _STARTING_NAME).unlink(missing_ok=True)
