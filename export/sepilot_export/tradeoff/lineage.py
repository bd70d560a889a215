"""The commands that made a file, from training to export.

Runs and exports keep theirs in command.txt; a compressed run names its parent. What older ones did not keep is put
together from their records, so that it makes the same again.
"""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from sepilot_export.record.compressions import read_compression
from sepilot_export.record.exports import EXPORT_NAME, read_export
from sepilot_export.tradeoff.discovery import Place
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.run.run import read_request

__all__ = ["Command", "commands_of", "compression_of"]

NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line.

    Attributes:
        note: where it is from when it was not kept: "put together from request.json"; "" otherwise.
    """

    text: str
    note: str = ""


def commands_of(place: Place) -> tuple[Command, ...]:
    """What made the files of an export, in order; at least one."""
    return (*_of_run(place.run, set()), _of_export(place))


def compression_of(place: Place) -> str:
    """The compression recipe that made an export's run; "" where there was none or the run is not at hand."""
    record = read_compression(place.run) if place.run else None
    return record.name if record else ""


def _of_run(run: Path | None, seen: set[Path]) -> tuple[Command, ...]:
    if run is None:
        return (Command(text=NOT_RECORDED, note="the run is not at hand"),)
    if run.resolve() in seen:
        return ()
    seen.add(run.resolve())
    record = read_compression(run)
    if record is None:
        return (_kept(run) or _training(run),)
    before: tuple[Command, ...] = ()
    if record.parent:
        parent = _found(Path(record.parent), run)
        gone = Command(text=NOT_RECORDED, note=f"the parent run {record.parent} is not at hand")
        before = _of_run(parent, seen) if parent else (gone,)
    own = _kept(run) or (Command(text=record.command.strip()) if record.command else None)
    return (*before, own or Command(text=NOT_RECORDED, note=f"how {run} was compressed"))


def _found(parent: Path, run: Path) -> Path | None:
    """A parent run as it was named, or beside the run that names it, where both were moved together."""
    return next((p for p in (parent, run / parent, run.parent / parent.name) if (p / "model.keras").exists()), None)


def _kept(folder: Path) -> Command | None:
    try:
        text = (folder / "command.txt").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as e:
        raise RunError(f"{folder / 'command.txt'}: cannot be read: {e}") from e
    return Command(text=text) if text else None


def _training(run: Path) -> Command:
    """The resolved recipe says more than the name and the overrides that it came from."""
    request = read_request(run)
    words = ["sepilot", "train", *request.drives]
    if request.validation_drives:
        words += ["--val", *request.validation_drives]
    words += ["--recipe", str(run / "recipe.toml"), "--seed", str(request.seed)]
    pairs: tuple[tuple[ReaderOptions | DriveFilter, ReaderOptions | DriveFilter], ...] = (
        (request.reader, ReaderOptions()),
        (request.filter, DriveFilter()),
    )
    for found, default in pairs:
        for field in dataclasses.fields(found):
            value = getattr(found, field.name)
            if value != getattr(default, field.name):
                words += [f"--{field.name.replace('_', '-')}", str(value)]
    return Command(text=shlex.join([*words, "--out", str(run)]), note="put together from request.json")


def _of_export(place: Place) -> Command:
    if kept := _kept(place.path):
        return kept
    record = read_export(place.path)
    formats = ",".join(row.format for row in record.files)
    words = ["sepilot", "export", str(place.run) if place.run else "RUN", "--formats", formats]
    if record.seed:
        words += ["--seed", str(record.seed)]
    return Command(text=shlex.join([*words, "--out", str(place.shown)]), note=f"put together from {EXPORT_NAME}")
