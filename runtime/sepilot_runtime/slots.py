"""Model slots on the car: which file is active, which one was before it, and which one runs along as a shadow.

    SLOTS/slots.json       what is where; replaced as a whole, and last
    SLOTS/models/          the files, named by their checksum
    SLOTS/trusted.pem      optional: public keys; then only files that one of them signed are installed

Every change is a new `slots.json`: written beside, flushed to the disk and renamed, after the model file that it names
was. A power cut at any point leaves the old state or the new one. `sepilot_runtime.installation` puts files in.

Signatures are checked when a file is installed. Later only its checksum is, against the one in slots.json: whoever can
write there can write trusted.pem as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.caps import MODEL_BYTES, SETTINGS_BYTES
from sepilot_runtime.durable import sync_directory, write_durably
from sepilot_runtime.errors import ModelFileError
from sepilot_runtime.files import exists, read_json, writing
from sepilot_runtime.integrity import require_checksum
from sepilot_runtime.reading import read_regular
from sepilot_runtime.schema import parse

__all__ = [
    "INDEX_NAME",
    "Slot",
    "Slots",
    "active_model",
    "commit",
    "default_slots",
    "locked",
    "mark_failed",
    "models_folder",
    "read_slots",
    "rollback",
    "shadow_model",
]

INDEX_NAME = "slots.json"

Warn = Callable[[str], None]
"""Told one line about what was found and put right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One installed file.

    Attributes:
        name: in `SLOTS/models`.
        file: what it was called when it was installed.
        checksum: of its seal, 64 hex digits.
        installed: ISO 8601 time in UTC, by the car's clock.
        signed: a trusted key's signature was found right.
        failed: why it did not start; "" for a file that does. It is not gone back to.
    """

    name: str
    file: str
    checksum: str
    recipe: str
    precision: str
    installed: str
    signed: bool
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """What stands in slots.json; `active`, `previous` and `shadow` are names of `models`."""

    version: int = 1
    active: str | None = None
    previous: str | None = None
    shadow: str | None = None
    models: tuple[Slot, ...] = ()

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ModelFileError(f"version: 1 expected, found {self.version}; made by another sepilot")
        names = [slot.name for slot in self.models]
        if len(set(names)) != len(names) or any(Path(name).name != name or name.startswith(".") for name in names):
            raise ModelFileError("models: plain file names expected, each once")
        for role in ("active", "previous", "shadow"):
            if (name := getattr(self, role)) not in (None, *names):
                raise ModelFileError(f"{role}: one of the models expected, found {name!r}")

    def slot(self, name: str | None) -> Slot | None:
        """The slot called `name`."""
        return next((slot for slot in self.models if slot.name == name), None)

    def role_of(self, slot: Slot) -> str:
        """ "active", "previous" or "shadow"."""
        return next(role for role in ("active", "previous", "shadow") if getattr(self, role) == slot.name)

    def kept(self) -> Slots:
        """Without the models that have no role any more."""
        roles = {self.active, self.previous, self.shadow}
        return dataclasses.replace(self, models=tuple(slot for slot in self.models if slot.name in roles))

    def rolled_back(self, failed: str = "") -> Slots | None:
        """The previous file active, the active one previous; None where there is none, or it did not start either."""
        target, current = self.slot(self.previous), self.slot(self.active)
        if target is None or target.failed:
            return None
        models = tuple(dataclasses.replace(s, failed=failed) if s is current else s for s in self.models)
        return dataclasses.replace(self, active=self.previous, previous=self.active, models=models)


def default_slots() -> Path:
    """Where slots are unless another directory is named."""
    return Path.home() / ".local" / "share" / "sepilot" / "slots"


def models_folder(folder: Path) -> Path:
    return folder / "models"


def read_slots(folder: Path) -> Slots:
    """The state of a slots directory.

    Raises:
        ModelFileError: nothing was installed there, or its slots.json cannot be read.
    """
    path = folder / INDEX_NAME
    if not exists(path, ModelFileError):
        raise ModelFileError(f"{folder}: no model is installed; run: sepilot install FILE --slots {folder}")
    try:
        return parse(Slots, read_json(path, ModelFileError, limit=SETTINGS_BYTES), "", ModelFileError, complete=True)
    except ModelFileError as e:
        raise ModelFileError(f"{path}: {str(e).removeprefix(f'{path}: ')}; install the model again") from e


def active_model(folder: Path, warn: Warn = lambda line: None) -> Path:
    """The file to drive with: the active one, or the previous one where the active is missing or damaged on the disk.

    Raises:
        ModelFileError: nothing is installed, or no file is whole.
    """
    slots = read_slots(folder)
    reasons: list[str] = []
    for slot in (slots.slot(slots.active), slots.slot(slots.previous)):
        if slot is None or (slot.failed and reasons):
            continue
        try:
            path = _whole(folder, slot)
        except ModelFileError as e:
            reasons.append(str(e))
            continue
        for reason in reasons:
            warn(f"{reason}; going back to {slot.file}")
        return path
    raise ModelFileError("; ".join(reasons) or f"{folder}: no model is active; run: sepilot install FILE")


def shadow_model(folder: Path) -> Path | None:
    """The file that was installed with --shadow; None where there is none.

    Raises:
        ModelFileError: nothing is installed, or the file is missing or damaged.
    """
    slots = read_slots(folder)
    slot = slots.slot(slots.shadow)
    return None if slot is None else _whole(folder, slot)


def rollback(folder: Path) -> Slot:
    """Make the previous file active, and the active one the previous.

    Returns:
        What is active now.

    Raises:
        ModelFileError: there is no previous file, it did not start either, or it is damaged.
        OutputError: the directory cannot be written.
    """
    with locked(folder):
        slots = read_slots(folder)
        target, after = slots.slot(slots.previous), slots.rolled_back()
        if target is None:
            raise ModelFileError(f"{folder}: there is no previous model to go back to")
        if after is None:
            raise ModelFileError(f"{folder}: {target.file} is not gone back to: it did not start: {target.failed}")
        _whole(folder, target)
        commit(folder, after)
    return target


def mark_failed(folder: Path, path: Path, reason: str) -> Path | None:
    """Roll back because the active file did not start.

    Args:
        path: of the file that failed.
        reason: one line, shown by `sepilot slots`.

    Returns:
        What is active now; None where there is nothing to go back to, and nothing was changed.

    Raises:
        ModelFileError: nothing is installed, or what was gone back to is damaged as well.
        OutputError: the directory cannot be written.
    """
    with locked(folder):
        slots = read_slots(folder)
        if slots.active == path.name:
            after = slots.rolled_back(failed=reason.removeprefix(f"{path}: "))
            if after is None:
                return None
            target = after.slot(after.active)
            assert target is not None
            _whole(folder, target)
            commit(folder, after)
    return active_model(folder)


def _whole(folder: Path, slot: Slot) -> Path:
    """The path of an installed file whose bytes are those that were installed."""
    path = models_folder(folder) / slot.name
    try:
        found = require_checksum(read_regular(path, MODEL_BYTES), str(path))
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read: {e.strerror or e}") from e
    if found != slot.checksum:
        raise ModelFileError(f"{path}: another file than the one that was installed")
    return path


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """One process at a time; the lock goes with the process, however that ends."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def commit(folder: Path, slots: Slots) -> None:
    """Make `slots` the state of the directory. The caller holds the lock. Raises OutputError."""
    text = json.dumps(dataclasses.asdict(slots), indent=2) + "\n"
    part = folder / f".{INDEX_NAME}.part"
    with writing(folder):
        write_durably(part, text.encode("utf-8"))
        part.replace(folder / INDEX_NAME)
        sync_directory(folder)
