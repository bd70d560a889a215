"""Progress bars: seen on a terminal, nowhere else, and no more than a bar."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import sys
from pathlib import Path

import pytest

from sepilot_train.base.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "shown", "drawn"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_a_bar_is_drawn_where_somebody_sees_it(
    stream: type[io.StringIO], shown: bool, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream())
    with progress_bar("decoding [a]", 4, shown=shown) as advance:
        advance(3)
        advance(label="the last one")
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert ("decoding [a]" in said or "the last one" in said) == drawn and ("4/4" in said) == drawn
    assert bool(said) == drawn


def test_a_bar_apart_goes_on_where_the_usual_descriptors_point_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an export does while TensorFlow talks."""
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    before = os.dup(2)
    os.dup2(slave, 2)
    try:
        with progress_bar("", 2, apart=True) as advance, Path(os.devnull).open("w") as log:
            os.dup2(log.fileno(), 2)
            advance(label="int8.tflite")
            os.write(2, b"chatter")
    finally:
        os.dup2(before, 2)
        os.close(slave)
    said = b""
    with contextlib.suppress(OSError):  # Nobody is left who could write there.
        while part := os.read(master, 10_000):
            said += part
    assert b"int8.tflite" in said and b"chatter" not in said
