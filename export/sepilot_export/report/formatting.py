"""Numbers as people read them: fixed digits so that columns line up, real minus signs, no false precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sepilot_runtime.contract.outputs.kinds import Output
from sepilot_runtime.contract.outputs.units import mark_of

__all__ = ["FILTERS", "count", "fixed", "in_unit", "kilobytes", "microseconds", "percent", "signed", "size", "span",
           "words"]  # fmt: skip

NONE = "–"
"""Where there is no number."""


def fixed(value: float | None, digits: int = 3) -> str:
    """`digits` decimals; a number that would round to nothing says that it is smaller than one can see."""
    if value is None or not math.isfinite(value):
        return NONE
    smallest = 10.0**-digits
    if value != 0 and abs(value) < smallest / 2:
        return f"<{smallest:.{digits}f}" if value > 0 else f">−{smallest:.{digits}f}"
    return _minus(f"{value:.{digits}f}")


def signed(value: float | None, digits: int = 3) -> str:
    """`digits` decimals with a sign in front; 0 has none."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else _minus(text)


def in_unit(value: float | None, output: Output, digits: int = 3) -> str:
    """A number in an output's unit, with it."""
    return NONE if value is None else f"{fixed(value, digits)}{mark_of(output)}"


def count(value: float | None) -> str:
    """A whole number with a comma between thousands."""
    return NONE if value is None else _minus(f"{value:,.0f}")


def percent(value: float | None, digits: int = 0) -> str:
    """A fraction as a percentage."""
    return NONE if value is None else f"{fixed(value * 100, digits)} %"


def kilobytes(value: float | None) -> str:
    """Bytes as kB (1000 bytes), one decimal."""
    return NONE if value is None else f"{value / 1000:,.1f}"


def microseconds(value: float | None) -> str:
    """One decimal, comma between thousands."""
    return NONE if value is None else f"{value:,.1f}"


def size(pair: Sequence[int]) -> str:
    """(rows, columns) as one number where both are equal."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}×{pair[1]}"


def span(low: float, high: float, write: Callable[[float], str]) -> str:
    """A range, or one number where both ends read the same."""
    first, last = write(low), write(high)
    return first if first == last else f"{first}–{last}"


def words(values: Mapping[str, Any]) -> dict[str, str]:
    """Settings of any kind as text, without those that are None."""
    return {key: _plain(value) for key, value in values.items() if value is not None}


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _minus(text: str) -> str:
    return text.replace("-", "−")


FILTERS: dict[str, Callable[..., str]] = {
    "count": count,
    "fixed": fixed,
    "in_unit": in_unit,
    "kilobytes": kilobytes,
    "mark": mark_of,
    "microseconds": microseconds,
    "percent": percent,
    "signed": signed,
    "size": size,
}
"""For the templates, by name."""
