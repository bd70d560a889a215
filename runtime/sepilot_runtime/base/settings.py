"""TOML tables with overrides from the command line: "section.key=value"."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from sepilot_runtime.base.caps import SETTINGS_BYTES
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.reading import read_regular

__all__ = ["override", "read_toml"]


def read_toml(path: Path, error: type[SepilotError]) -> dict[str, Any]:
    """One TOML document.

    Raises:
        error: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(read_regular(path, SETTINGS_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise error(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from e
    except (ValueError, RecursionError) as e:  # Also a number of thousands of digits, and thousands of brackets.
        raise error(f"{path}: not TOML: {e}") from e


def override(table: dict[str, Any], text: str, error: type[SepilotError]) -> None:
    """Set one value in `table`, in place.

    Args:
        text: "section.key=value"; the value is TOML, a bare word is taken as text.

    Raises:
        error: `text` has another form, or names a section that is a value.
    """
    key, separator, value_text = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise error(f"--set {text}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {value_text}")["value"]
    except (ValueError, RecursionError):
        value = value_text.strip()
    inner = table
    for part in parts[:-1]:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise error(f"--set {text}: {part} is a value, not a section")
    inner[parts[-1]] = value
