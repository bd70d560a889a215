"""The part of YAML in which `data.yaml` files of YOLO sets are written, so that no device needs a library for it.

At the left edge stand keys with a text, a list or a table, in brackets or in lines of their own below. Keys that nobody
asks for, a script to download the set for one, are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from sepilot_runtime.base.caps import SETTINGS_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.reading import read_regular

__all__ = ["Value", "read_data_yaml"]

Value = str | list[str] | dict[str, str]

_KEY = re.compile(r"([A-Za-z_][\w-]*)\s*:(?:\s+(.*)|\s*)$")
_TOKEN = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|([^,:\[\]{}"'][^,:\[\]{}]*))\s*""")


def read_data_yaml(path: Path, wanted: Collection[str]) -> dict[str, Value]:
    """The `wanted` keys of a file that are there; every scalar is a text.

    Raises:
        DriveError: it cannot be read, or one of the keys is written in a way that is not known here; one line with its
            number.
    """
    try:
        lines = read_regular(path, SETTINGS_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DriveError(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from e
    found: dict[str, Value] = {}
    for key, number, block in _blocks(lines):
        if key in wanted:
            value = _value(block)
            if value is None:
                raise DriveError(
                    f"{path}: line {number}: {key}: a text, a list or a table expected, found {block[0][:40]!r}"
                )
            found[key] = value
    return found


def _blocks(lines: list[str]) -> Iterator[tuple[str, int, list[str]]]:
    """Each key at the left edge, the number of its line, and what stands behind it and below, without comments."""
    open_: tuple[str, int, list[str]] | None = None
    for number, line in enumerate(lines, 1):
        bare = _without_comment(line)
        if not bare or bare in ("---", "..."):
            continue
        if match := _KEY.match(bare):
            if open_:
                yield open_
            open_ = match[1], number, [match[2] or ""]
        elif open_:
            open_[2].append(bare)
    if open_:
        yield open_


def _without_comment(line: str) -> str:
    """Without what stands behind a # that follows a blank outside of quotes."""
    quote = ""
    for place, mark in enumerate(line):
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'" and (not place or line[place - 1] in " \t,[{:"):
            quote = mark
        elif mark == "#" and (not place or line[place - 1].isspace()):
            return line[:place].rstrip()
    return line.rstrip()


def _value(block: list[str]) -> Value | None:
    first, *below = block
    if first.startswith(("[", "{")):
        return _in_brackets(" ".join([first, *(line.strip() for line in below)]))
    if first:
        return None if below or first[0] in "|>&*!" else _text(first)
    items = [line.strip() for line in below]
    if items and all(item.startswith("- ") or item == "-" for item in items):
        texts = [_text(item[1:].strip()) for item in items]
        return None if None in texts else [text for text in texts if text is not None]
    table: dict[str, str] = {}
    for item in items:
        key, colon, rest = item.partition(":")
        name, text = _text(key.strip()), _text(rest.strip())
        if not colon or name is None or text is None or name in table:
            return None
        table[name] = text
    return table or ""


def _in_brackets(text: str) -> Value | None:
    """A list or a table of one level."""
    table = text.startswith("{")
    inner, at = text[1:-1].strip(), 0
    if not text.endswith("}" if table else "]"):
        return None
    texts: list[str] = []
    pairs: dict[str, str] = {}
    while at < len(inner):
        match = _TOKEN.match(inner, at)
        if not match or not match[0]:
            return None
        word, at = _of(match), match.end()
        if table:
            value = _TOKEN.match(inner, at + 1) if inner[at : at + 1] == ":" else None
            if not value or word in pairs:
                return None
            pairs[word], at = _of(value), value.end()
        else:
            texts.append(word)
        if at < len(inner) and inner[at] != ",":
            return None
        at += 1
        while at < len(inner) and inner[at].isspace():
            at += 1
    return pairs if table else texts


def _text(scalar: str) -> str | None:
    """A text in quotes, or bare; None for what is more than that."""
    if scalar[:1] in ("'", '"'):
        match = _TOKEN.fullmatch(scalar)
        return _of(match) if match else None
    return None if scalar[:1] in ("[", "{", "|", ">", "&", "*", "!") else scalar


def _of(match: re.Match[str]) -> str:
    if match[1] is not None:
        return re.sub(r"\\(.)", r"\1", match[1])
    return match[2].replace("''", "'") if match[2] is not None else match[3].strip()
