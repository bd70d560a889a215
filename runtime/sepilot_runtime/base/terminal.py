"""Text on its way to a terminal.

Names of files, folders and recipes come from whoever made them. A terminal obeys what stands in them: escape codes
write into its title, its clipboard or its answer back, marks of writing direction make one name look like another, and
bytes that are no UTF-8 end a program that prints them. Here all of that becomes `\\x1b`, `\\u202e` and `\\udcff`.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["legible", "legible_streams", "one_line"]

# Compiled when it is first needed: most texts are printable, and a drive is to begin soon.
_OBEYED = (
    # Controls but tab and line end; what hides, joins or turns round; halves of characters.
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ud800-\udfff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def legible(text: str) -> str:
    """The same text with everything escaped that a terminal would obey, or cannot be written; lines stay lines."""
    return text if text.isprintable() else re.sub(_OBEYED, _escaped, text)


def one_line(text: str) -> str:
    """`legible`, in one line."""
    return text if text.isprintable() else legible(text.replace("\t", "\\t").replace("\n", "\\n"))


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


@contextlib.contextmanager
def legible_streams() -> Iterator[None]:
    """Whatever is printed meanwhile is legible, and fits the terminal's encoding."""
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        for stream in before:
            # Not every replacement of a standard stream can.
            if (reconfigure := getattr(stream, "reconfigure", None)) and (errors := getattr(stream, "errors", None)):
                # A terminal of another locale shows "?" for what it has no letter for; tables stay in their columns.
                reconfigure(errors="replace")
                stack.callback(reconfigure, errors=errors)
        sys.stdout, sys.stderr = (_Legible(stream) for stream in before)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


class _Legible:
    """A text stream before another one.

    Attributes:
        rich_proxied_file: what rich writes to: it moves the cursor by escape codes of its own. Names that it shows come
            from `naming.names_of` or through `legible`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(legible(text))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)
