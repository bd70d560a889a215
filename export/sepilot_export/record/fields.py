"""JSON objects read strictly: a missing key or a wrong type is one line that names file, key and what was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import read_json

__all__ = ["Fields", "Interval", "read_object"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Fields:
    """One JSON object; a key that is missing or of another type is a RunError that names file and key."""

    def __init__(self, value: object, where: str) -> None:
        """
        Args:
            where: the file, and the path of keys to this object, for messages.
        """
        if not isinstance(value, dict):
            raise RunError(f"{where}: an object expected, found {_describe(value)}")
        self._value: dict[str, Any] = value
        self.where = where

    def names(self) -> list[str]:
        """The keys, in the order of the file."""
        return list(self._value)

    def has(self, key: str) -> bool:
        """Whether `key` is there and not null."""
        return self._value.get(key) is not None

    def number(self, key: str) -> float:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(key, "a number", value)
        return float(value)

    def optional(self, key: str) -> float | None:
        """A number, or None where the key is absent or null."""
        return self.number(key) if self.has(key) else None

    def whole(self, key: str) -> int:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise self._wrong(key, "a whole number", value)
        return int(value)

    def text(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a text", value)
        return value

    def flag(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def inner(self, key: str) -> Fields:
        return Fields(self._get(key), f"{self.where}: {key}")

    def values(self, key: str) -> list[Any]:
        value = self._get(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def objects(self, key: str) -> list[Fields]:
        return [Fields(v, f"{self.where}: {key}[{i}]") for i, v in enumerate(self.values(key))]

    def words(self, key: str) -> dict[str, str]:
        """An object of anything as text to text; empty where the key is absent."""
        if not self.has(key):
            return {}
        return {k: _plain(v) for k, v in self.inner(key)._value.items() if v is not None}

    def word(self, key: str) -> str:
        """Anything as text."""
        return _plain(self._get(key))

    def _get(self, key: str) -> Any:
        if key not in self._value:
            raise RunError(f"{self.where}: {key}: missing; found {', '.join(map(str, self._value)) or 'nothing'}"[:300])
        return self._value[key]

    def _wrong(self, key: str, expected: str, value: object) -> RunError:
        return RunError(f"{self.where}: {key}: {expected} expected, found {_describe(value)}")


def read_object(path: Path) -> Fields:
    """A file that holds one JSON object."""
    return Fields(read_json(path, RunError), str(path))


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _describe(value: object) -> str:
    return f"{value!r}"[:80]
