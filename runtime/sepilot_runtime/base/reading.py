"""Reading files that somebody else may have put there.

A FIFO waits for ever, a device never ends, a sparse file is larger than the memory: what is opened here is a regular
file of a size that its reader expects, or nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

__all__ = ["open_regular", "read_regular", "require_regular"]

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def require_regular(path: Path, limit: int | None = None) -> int:
    """The size of a regular file.

    Raises:
        OSError: missing, no regular file, or of more than `limit` bytes; `strerror` says it in words.
    """
    return _require_regular(path.stat(), path, limit)


def open_regular(path: Path, limit: int | None = None) -> BufferedReader:
    """Open a regular file for reading; waits for nothing.

    Raises:
        OSError: as `require_regular` does, or it cannot be opened.
    """
    # Opening a device can act on it; whoever puts one there between these lines is found out by the second look.
    require_regular(path, limit)
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    try:
        _require_regular(os.fstat(file.fileno()), path, limit)
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: as `open_regular` does; also where it grows beyond `limit` bytes while it is read.
    """
    with open_regular(path, limit) as file:
        # Files of /proc have no size.
        content = file.read(os.fstat(file.fileno()).st_size + 1)
        while more := file.read(1 << 16):
            content += more
            _require_size(len(content), path, limit)
    return content


def _require_regular(found: os.stat_result, path: Path, limit: int | None) -> int:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a file expected, found a folder", str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise OSError(errno.EINVAL, f"a file expected, found {kind}", str(path))
    _require_size(found.st_size, path, limit)
    return found.st_size


def _require_size(size: int, path: Path, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise OSError(errno.EFBIG, f"at most {limit} bytes expected, found {size}", str(path))
