"""Plain JSON or TOML values to frozen dataclasses, strictly.

An unknown key is an error that lists the known ones, a wrong type names the key with what was expected and what was
found. Contracts (JSON) and recipes (TOML) are both read through here.

Every JSON document that a verb writes is one dataclass: `dataclasses.asdict` makes it, `read_document` reads it.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar

from sepilot_runtime.base.caps import SETTINGS_BYTES
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.files import read_json
from sepilot_runtime.base.reading import read_regular

__all__ = ["override", "parse", "plain", "read_document", "read_toml"]

T = TypeVar("T")


def parse(kind: type[T], value: Any, key: str, error: type[SepilotError], *, complete: bool) -> T:
    """Build `kind`, a dataclass of dataclasses, numbers, strings, Literals, tuples and Mappings, from plain `value`.

    Args:
        key: where `value` stands, for messages; "" for the top of a document.
        error: raised with one line for whatever does not fit, also in place of the dataclass's own checks.
        complete: every field must be given, defaults notwithstanding. Otherwise a table that does not say its `kind`
            is of the first.

    Raises:
        error: see above.
    """
    return typing.cast(T, _Parser(error, complete=complete).any(kind, value, key))


def read_document(kind: type[T], path: Path, error: type[SepilotError]) -> T:
    """A JSON document that some sepilot wrote.

    Keys that only a later one knows are left alone, and what an older one did not write has its default.

    Raises:
        error: it cannot be read, or lacks something; one line that names file and key.
    """
    value = read_json(path, error)
    try:
        return typing.cast(T, _Parser(error, complete=False, later_keys=True).any(kind, value, ""))
    except error as e:
        raise error(f"{path}: {e}") from e


def plain(value: Any) -> Any:
    """What `parse` reads back: dataclasses as tables, those of a `kind` with it, tuples as lists."""
    if dataclasses.is_dataclass(value):
        table = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return table if (tag := _tag_of(type(value))) is None else {"kind": tag, **table}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _tag_of(kind: Any) -> str | None:
    """What a table of a dataclass that is one of several kinds says under "kind": its class attribute `kind`."""
    tag = getattr(kind, "kind", None)
    return tag if isinstance(tag, str) else None


class _Parser:
    def __init__(self, error: type[SepilotError], *, complete: bool, later_keys: bool = False) -> None:
        self.error = error
        self.complete = complete
        self.later_keys = later_keys

    def any(self, kind: Any, value: Any, key: str) -> Any:
        if dataclasses.is_dataclass(kind):
            return self.dataclass(typing.cast(type, kind), value, key)
        if kind is Any:
            return value
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is Literal:
            if value not in arguments or isinstance(value, bool):
                known = ", ".join(map(str, arguments))
                raise self.error(f"{key}: {'one of ' * (len(arguments) > 1)}{known} expected, found {_describe(value)}")
            return value
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind(self.any(Literal[tuple(member.value for member in kind)], value, key))
        if origin in (types.UnionType, typing.Union):
            return self.union(arguments, value, key)
        if origin is tuple:
            return self.tuple(arguments, value, key)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                raise self.error(f"{key}: a table expected, found {_describe(value)}")
            return {k: self.any(arguments[1], v, f"{key}.{k}") for k, v in value.items()}
        return self.scalar(kind, value, key)

    def union(self, arguments: tuple[Any, ...], value: Any, key: str) -> Any:
        if value is None and type(None) in arguments:
            return None
        kinds = [a for a in arguments if a is not type(None)]
        if isinstance(value, dict) and (tags := {t: k for k in kinds if (t := _tag_of(k))}):
            tag = value.get("kind", None if self.complete else next(iter(tags)))
            if not isinstance(tag, str) or tag not in tags:
                raise self.error(f"{key}.kind: one of {', '.join(tags)} expected, found {_describe(tag)}")
            return self.any(tags[tag], value, key)
        for kind in kinds[:-1]:
            try:
                return self.any(kind, value, key)
            except self.error:
                continue
        return self.any(kinds[-1], value, key)

    def tuple(self, arguments: tuple[Any, ...], value: Any, key: str) -> Any:
        if not isinstance(value, list | tuple):
            raise self.error(f"{key}: a list expected, found {_describe(value)}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise self.error(f"{key}: {len(kinds)} values expected, found {len(value)}")
        return tuple(self.any(k, v, f"{key}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))

    def scalar(self, kind: Any, value: Any, key: str) -> Any:
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number):
                raise self.error(f"{key}: a finite number expected, found {_describe(value)}")
            return number
        if kind is bool and isinstance(value, bool):
            return value
        if kind in (int, str) and isinstance(value, kind) and not isinstance(value, bool):
            return value
        raise self.error(f"{key}: {_NAMES.get(kind, str(kind))} expected, found {_describe(value)}")

    def dataclass(self, kind: type, value: Any, key: str) -> Any:
        if not isinstance(value, dict):
            raise self.error(f"{key or 'document'}: a table expected, found {_describe(value)}")
        prefix = f"{key}." if key else ""
        if (tag := _tag_of(kind)) is not None and ("kind" in value or self.complete):
            if (found := value.get("kind")) != tag:
                raise self.error(f"{prefix}kind: {tag} expected, found {_describe(found)}")
            value = {name: inner for name, inner in value.items() if name != "kind"}
        fields = {f.name: f for f in dataclasses.fields(kind)}
        if not self.later_keys and (unknown := sorted(set(value) - set(fields))):
            known = [*(["kind"] if tag is not None else []), *fields]
            raise self.error(f"{prefix}{unknown[0]}: unknown key; known: {', '.join(known)}")
        for name, field in fields.items():
            optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            if name not in value and (self.complete or not optional):
                raise self.error(f"{prefix}{name}: missing")
        hints = typing.get_type_hints(kind)
        arguments = {name: self.any(hints[name], value[name], f"{prefix}{name}") for name in fields if name in value}
        try:
            return kind(**arguments)
        except SepilotError as e:
            # A dataclass checks its own ranges and knows nothing of the document that it stands in.
            raise self.error(f"{key}: {e}" if key else str(e)) from e


_NAMES = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}


def _describe(value: Any) -> str:
    try:
        return f"{value!r}"[:80]
    except ValueError:  # Python writes no whole number of thousands of digits.
        return "a number of thousands of digits"


def read_toml(path: Path, error: type[SepilotError]) -> dict[str, Any]:
    """One TOML document.

    Raises:
        error: the file cannot be read, or is not TOML.
    """
    import tomllib

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
    import tomllib

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
