"""Formats that could not be made: why, and what a user can do instead. They never take the other files with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sepilot_export.convert.formats import FORMATS, Format, format_named

__all__ = ["Failure", "lines_of", "way_out"]

REPAIR = "keep its worst layers in float32 with --max-drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A format that an export could not make.

    Attributes:
        reason: one line.
        way_out: what to do instead, one line.
    """

    format: str
    reason: str
    way_out: str

    def __post_init__(self) -> None:
        format_named(self.format)


def way_out(form: Format, made: Sequence[Format], failed: Collection[str], *, repairable: bool) -> str:
    """What to do without `form`.

    Args:
        made: the formats that were written.
        failed: names of those that were not.
        repairable: --max-drop may help.
    """

    def distance(other: Format) -> int:
        return (other.precision != form.precision) + (other.suffix != form.suffix)

    others = made or [f for f in FORMATS if f.name not in failed]
    nearest = " or ".join(f.name for f in sorted(others, key=distance)[:2])
    words = [f"{'take' if made else 'try'} {nearest}"] if nearest else []
    return ", or ".join(words + [REPAIR] * repairable)


def lines_of(failures: Sequence[Failure]) -> list[tuple[str, str, str]]:
    """Formats, reason and way out in words; formats that failed for the same reason share one entry."""
    groups: dict[str, list[Failure]] = {}
    for failure in failures:
        groups.setdefault(failure.reason, []).append(failure)
    return [(_names(group), group[0].reason, group[0].way_out) for group in groups.values()]


def _names(group: Sequence[Failure]) -> str:
    names = [failure.format for failure in group]
    return ", ".join(f"{n} (made from it)" if format_named(n).made_from in names else n for n in names)
