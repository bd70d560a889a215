"""The page: three picks, the charts, and every file. One HTML file that loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sepilot_export.report.formatting import count
from sepilot_export.report.rendering import render_page
from sepilot_export.tradeoff.candidate import Entry
from sepilot_export.tradeoff.charts import COSTS, beyond, draw_chart
from sepilot_export.tradeoff.discovery import Place
from sepilot_export.tradeoff.job import Comparison
from sepilot_export.tradeoff.lineage import Command
from sepilot_export.tradeoff.pareto import Pick, grouped
from sepilot_export.tradeoff.table import letters_of

__all__ = ["Card", "cards_of", "render"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Card:
    """A picked file; one that is picked twice has one card.

    Attributes:
        against: how its time and its gzip size compare with the most accurate file's; empty for that one.
    """

    picks: tuple[Pick, ...]
    entry: Entry
    against: tuple[str, ...]

    @property
    def title(self) -> str:
        first, *others = (pick.title for pick in self.picks)
        return " and ".join([first, *(title.lower() for title in others)])


def render(comparison: Comparison) -> str:
    """The HTML document. Every text that came from a file is escaped."""
    return render_page(
        "tradeoff.html",
        ("sepilot_export.tradeoff", "sepilot_export.report"),
        c=comparison,
        mark=comparison.common.mark,
        cards=cards_of(comparison),
        charts=[(cost, draw_chart(comparison, cost)) for cost in COSTS] if comparison.best else [],
        rows=[(e, letters_of(comparison, e), comparison.above.get(e.name)) for e in comparison.entries],
        beyond=beyond(comparison),
        drives=list(dict.fromkeys(comparison.common.drives)),
        lineages=_lineages(comparison.entries),
        conditions=str(comparison.before).splitlines(),
    )


def cards_of(comparison: Comparison) -> list[Card]:
    """One card per picked file, in the order of the picks."""
    return [
        Card(picks=picks, entry=picks[0].entry, against=_against(picks[0].entry, comparison.picks[0].entry))
        for picks in grouped(comparison.picks)
    ]


def _against(entry: Entry, accurate: Entry) -> tuple[str, ...]:
    if entry is accurate or entry.timing is None or accurate.timing is None:
        return ()
    return (
        _ratio(entry.timing.median_us / accurate.timing.median_us, "the time"),
        _ratio(entry.gzip_bytes / accurate.gzip_bytes, "the gzip size"),
    )


def _ratio(ratio: float, of: str) -> str:
    return f"{count(100 * ratio)} % of {of}"


def _lineages(entries: Sequence[Entry]) -> list[tuple[Place, tuple[Command, ...], list[Any]]]:
    """Exports with the commands that made them and the formats in them."""
    found: dict[str, tuple[Place, tuple[Command, ...], list[Any]]] = {}
    for entry in entries:
        found.setdefault(entry.place.name, (entry.place, entry.commands, []))[2].append(entry.format)
    return list(found.values())
