"""What libjpeg says while OpenCV decodes a picture.

It tells of damaged data on C's stderr only, and OpenCV hands out the picture all the same, with pixels made up. So C's
`stderr` is a stream in memory while a picture is decoded, which costs 2 µs. Python's own stderr stays as it is, and
what others write to C's meanwhile is passed on.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["with_jpeg_warnings"]

T = TypeVar("T")

_WORDS = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression")


class _Listener:
    """C's stderr in memory while pictures are decoded, by any number of threads.

    Whose the words are cannot be told where several threads decode at once: then one decodes again, alone.
    """

    def __init__(self, libc: ctypes.PyDLL) -> None:
        self._libc = libc
        self._text, self._size = ctypes.c_char_p(), ctypes.c_size_t()
        libc.open_memstream.restype = ctypes.c_void_p
        libc.open_memstream.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        for function in (libc.ftell, libc.fflush, libc.rewind):
            function.argtypes = [ctypes.c_void_p]
        libc.ftell.restype = ctypes.c_long
        self._memory = libc.open_memstream(ctypes.byref(self._text), ctypes.byref(self._size))
        self._stderr = ctypes.c_void_p.in_dll(libc, "stderr")
        self._usual = self._stderr.value
        self._door = threading.Condition()
        self._inside = 0
        self._came_in = 0  # Since nobody was inside.
        self._closed = False

    def listen(self, decode: Callable[[], T], *, alone: bool = False) -> tuple[T, str]:
        """The result of `decode` and what its decoder said."""
        start = self._enter(alone)
        said, shared = "", False
        try:
            result = decode()
        finally:
            said, shared = self._leave(start, alone)
        return self.listen(decode, alone=True) if said and shared else (result, said)

    def _enter(self, alone: bool) -> int:
        """Where in the stream this decoder's words will begin."""
        with self._door:
            while self._closed:
                self._door.wait()
            self._closed = alone
            while alone and self._inside:
                self._door.wait()
            if not self._inside:
                self._usual, self._stderr.value = self._stderr.value, self._memory
                self._came_in = 0
            self._inside += 1
            self._came_in += 1
            return int(self._libc.ftell(self._memory))

    def _leave(self, start: int, alone: bool) -> tuple[str, bool]:
        """What was said, and whether somebody else may have said it."""
        with self._door:
            text = b""
            if end := self._libc.ftell(self._memory):
                self._libc.fflush(self._memory)
                text = ctypes.string_at(self._text, end)
            self._inside -= 1
            if not self._inside:
                self._stderr.value = self._usual
                if text:
                    self._libc.rewind(self._memory)
                    _pass_on(text)
            if alone:
                self._closed = False
            self._door.notify_all()
            return next(iter(_warnings(text[start:])), ""), self._came_in > 1


def _warnings(text: bytes) -> list[str]:
    return [line for line in text.decode(errors="replace").splitlines() if line.startswith(_WORDS)]


def _pass_on(text: bytes) -> None:
    """Give the user what is not libjpeg's."""
    others = [line for line in text.splitlines(keepends=True) if not _warnings(line)]
    if others:
        os.write(2, b"".join(others))


def _listener() -> _Listener | None:
    try:
        libc = ctypes.PyDLL(None)
        # Only glibc documents that `stderr` may be set; elsewhere it is a constant.
        _ = libc.gnu_get_libc_version
    except (AttributeError, OSError, TypeError):
        return None
    return _Listener(libc)


_LISTENER = _listener()


def with_jpeg_warnings(decode: Callable[[], T]) -> tuple[T, str]:
    """The result of `decode`, and the first warning that libjpeg wrote meanwhile, "" where it wrote none.

    Always "" where the C library is not glibc. `decode` is called again where other threads decoded at the same time.
    """
    return _LISTENER.listen(decode) if _LISTENER else (decode(), "")
