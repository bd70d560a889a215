"""The comparison from end to end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_export.tradeoff.auto_export import FORMATS, export_runs
from sepilot_export.tradeoff.candidate import Entry
from sepilot_export.tradeoff.common_frames import Common, Labels, common_frames, labels_of
from sepilot_export.tradeoff.discovery import Found, LeftOut, Place, find
from sepilot_export.tradeoff.measurement import judge_place, timed
from sepilot_export.tradeoff.pareto import Pick, above_best, best_of, choose, eligible
from sepilot_export.verify.check import candidates_of
from sepilot_export.verify.reference import read_reference
from sepilot_runtime.base.bootstrap import Interval
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.unique_names import names_of
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.device.conditions import Conditions, conditions_now
from sepilot_train.base.progress import progress_bar

__all__ = ["EXPORTS", "Comparison", "Settings", "compare"]

EXPORTS = "exports"
"""Folder of what is exported for the comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the files are timed: `rounds` visits to each of `calls` frames, in an order that `seed` decides."""

    rounds: int = 40
    calls: int = 100
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Comparison:
    """Everything that is shown.

    Attributes:
        best: the lowest error of the files that may be picked, or of all where none may; None where none answered.
        above: by name the error of each file that answered less that of `best`, in degrees.
        picks: most accurate, balanced, smallest; empty where no file is fit.
        frame: height and width of the frames that were timed.
        notes: on what was done that the user did not ask for in so many words.
        before, after: the machine around the timing.
    """

    entries: tuple[Entry, ...]
    best: Entry | None
    above: Mapping[str, Interval]
    picks: tuple[Pick, ...]
    common: Common
    frame: tuple[int, int]
    settings: Settings
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    before: Conditions
    after: Conditions

    @property
    def disturbed(self) -> bool:
        """Whether the machine had more to do than the timing, which keeps one core busy."""
        return self.after.load is not None and self.after.load > self.after.cores

    @property
    def constant_mae_deg(self) -> float:
        """The hardest constant answer to beat, where runs have different training labels."""
        return min(e.constant_mae_deg for e in self.entries)


def compare(
    paths: Sequence[Path], part: Path, out: Path, settings: Settings, *, moved_to: Sequence[Path] = ()
) -> Comparison:
    """Find, export what is missing into `part`/exports, check, time and choose.

    Args:
        out: what `part` will be called.
        moved_to: where the runs' drives are now, when not where they were at training.

    Raises:
        RunError: nothing to compare, or files that were judged on different frames.
    """
    found = find(paths)
    places, unable, notes = _places(found, part, out, moved_to)
    _require_any(places, left_out := [*found.left_out, *unable])
    places, labels, contracts, damaged = _references(places)
    _require_any(places, left_out := [*left_out, *damaged])
    common = common_frames(labels)
    frame = _frame_size(places, contracts)
    notes += _left_notes(places, common)
    entries, unchecked = _judged(places, common)
    _require_any(entries, unchecked)
    before = conditions_now()
    entries = _timed(entries, frame, settings)
    able = eligible(entries, common.drives)
    answered = [e for e in entries if e.mae_deg is not None]
    best = best_of(able or answered) if answered else None
    return Comparison(
        entries=tuple(entries),
        best=best,
        above={e.name: above_best(e, best, common.drives) for e in answered} if best else {},
        picks=tuple(choose(able, common.drives)),
        common=common,
        frame=frame,
        settings=settings,
        left_out=(*left_out, *unchecked),
        notes=tuple(notes),
        before=before,
        after=conditions_now(),
    )


def _require_any(found: Sequence[object], left_out: Sequence[object]) -> None:
    if not found:
        raise RunError(f"nothing to compare: {left_out[0]}")


def _left_notes(places: Sequence[Place], common: Common) -> list[str]:
    if not any(common.left):
        return []
    left, most = max(zip(common.left, places, strict=True), key=lambda pair: pair[0])
    return [f"judged on the {common.count:,} frames that all hold out; {most.name} has {left:,} more"]


def _timed(entries: list[Entry], frame: tuple[int, int], settings: Settings) -> list[Entry]:
    """The entries with their times, numbered: those that pass first, by their error."""
    with progress_bar("timing", len(entries) * settings.rounds) as advance:
        entries = timed(
            entries, frame=frame, rounds=settings.rounds, calls=settings.calls, seed=settings.seed, tick=advance
        )
    entries.sort(key=lambda e: (not e.passed, e.mae_deg.mean if e.mae_deg else float("inf")))
    return [dataclasses.replace(entry, number=number) for number, entry in enumerate(entries, start=1)]


def _places(
    found: Found, part: Path, out: Path, moved_to: Sequence[Path]
) -> tuple[list[Place], list[LeftOut], list[str]]:
    """All exports, those made now among them."""
    names = names_of([*(folder for folder, _ in found.exports), *found.runs])
    places = [
        Place(path=folder, shown=folder, name=name, run=run)
        for (folder, run), name in zip(found.exports, names, strict=False)
    ]
    if not found.runs:
        return places, [], []
    runs = list(zip(found.runs, names[len(places) :], strict=True))
    with progress_bar("exporting", len(runs)) as advance:
        made, left_out = export_runs(runs, part / EXPORTS, out / EXPORTS, moved_to, advance)
    notes = [f"{place.run} had no export; made for this: {place.shown} ({', '.join(FORMATS)})" for place in made]
    return [*places, *made], left_out, notes


def _references(places: Sequence[Place]) -> tuple[list[Place], list[Labels], list[Contract], list[LeftOut]]:
    """The held-out frames of each export, before minutes go into checking what cannot be compared."""
    whole, labels, contracts, damaged = [], [], [], []
    for place in places:
        try:
            candidates_of(place.path)
            reference = read_reference(place.path)
        except RunError as e:
            damaged.append(LeftOut(what=place.name, reason=str(e)))
            continue
        whole.append(place)
        labels.append(labels_of(place.name, reference))
        contracts.append(reference.contract)
    return whole, labels, contracts, damaged


def _frame_size(places: Sequence[Place], contracts: Sequence[Contract]) -> tuple[int, int]:
    """Height and width of the frames to time with: what files that take frames ask for, or a usual camera's."""
    sizes = {
        (contract.frame.height, contract.frame.width): place.name
        for place, contract in zip(places, contracts, strict=True)
        if contract.frame
    }
    if len(sizes) > 1:
        found = ", ".join(f"{height}x{width} ({name})" for (height, width), name in sizes.items())
        raise RunError(f"files that take frames of one size expected, found {found}; compare them one by one")
    return next(iter(sizes), (480, 640))


def _judged(places: Sequence[Place], common: Common) -> tuple[list[Entry], list[LeftOut]]:
    entries: list[Entry] = []
    left_out: list[LeftOut] = []
    known: dict[str, str] = {}
    frames = sum(
        len(candidates_of(place.path)) * (common.count + more) for place, more in zip(places, common.left, strict=True)
    )
    with progress_bar("checking", frames) as advance:
        for place, index in zip(places, common.index, strict=True):
            found, unfit = judge_place(place, common, index, known, advance)
            entries += found
            left_out += unfit
    return entries, left_out
