"""JSON lines into a file that starts anew when it has grown enough."""

from __future__ import annotations

import os
from pathlib import Path

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.files import writing
from sepilot_runtime.base.reading import require_regular
from sepilot_runtime.drive.step import Sink, Step
from sepilot_runtime.output.background import Background
from sepilot_runtime.output.json_lines import JsonLinesSink
from sepilot_runtime.output.registry import Address

__all__ = ["RotatingLinesSink", "open_address"]


class RotatingLinesSink(JsonLinesSink):
    """Appends to `path`; at `most_bytes` it becomes `path.1`, `path.1` becomes `path.2`, and so on.

    Lines are flushed one by one, so a kill loses none that was written.
    """

    def __init__(self, path: str, *, most_bytes: int = 0, keep: int = 3) -> None:
        """
        Args:
            most_bytes: 0 never rotates.
            keep: how many old files stay.

        Raises:
            OutputError: the file cannot be opened.
        """
        self._path, self._most_bytes, self._keep = Path(path), most_bytes, keep
        with writing(self._path):
            if self._path.exists():
                # A pipe would wait for a reader.
                require_regular(self._path)
            super().__init__(self._path.open("a", encoding="utf-8"), path)
            self._end_torn_line()

    def write(self, step: Step) -> None:
        super().write(step)
        if self._most_bytes and self._file.tell() >= self._most_bytes:
            with writing(self._path):
                self._rotate()

    def close(self) -> None:
        self._file.close()

    def _end_torn_line(self) -> None:
        """A full disk or a kill may have left half a line, which must not take the next one with it."""
        if self._file.tell():
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                torn = file.read() != b"\n"
            if torn:
                self._file.write("\n")

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._keep, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._file = self._path.open("a", encoding="utf-8")

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def open_address(address: Address) -> Sink:
    """`jsonl:FILE`; a file that cannot be opened, or breaks, is tried again in the background."""
    address.require("max_mb", "keep")
    if not address.path:
        raise UsageError(f"--to {address.spec}: jsonl:FILE expected")
    most_bytes = round(address.number("max_mb", 0, 0, 1e6) * 1e6)
    keep = round(address.number("keep", 3, 1, 1000))

    def opened() -> Sink:
        return RotatingLinesSink(address.path, most_bytes=most_bytes, keep=keep)

    return opened() if address.bare else Background(None, keep="all", depth=512, name=address.spec, reopen=opened)
