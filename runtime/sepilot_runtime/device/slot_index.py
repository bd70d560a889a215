"""slots.json: which model files are installed, and what each is for.

Every change is a new `slots.json`: written beside, flushed to the disk and renamed, after the model file that it names
was. A power cut at any point leaves the old state or the new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_runtime.base.caps import SETTINGS_BYTES
from sepilot_runtime.base.documents import parse
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.files import exists, read_json, sync_directory, write_durably, writing

__all__ = ["INDEX_NAME", "Slot", "Slots", "commit", "locked", "read_slots"]

INDEX_NAME = "slots.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One installed file.

    Attributes:
        name: in `SLOTS/models`.
        file: what it was called when it was installed.
        checksum: of its seal, 64 hex digits.
        installed: ISO 8601 time in UTC, by the car's clock.
        signed: a trusted key's signature was found right.
        sequence: its sequence number; 0 for one that has none.
        failed: why it did not start; "" for a file that does. It is not gone back to.
    """

    name: str
    file: str
    checksum: str
    recipe: str
    precision: str
    installed: str
    signed: bool
    sequence: int = 0
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """What stands in slots.json.

    Attributes:
        active, previous, shadow: names of `models`.
        sequence: the highest sequence number that was installed with a signature; 0 where none was.
    """

    version: int = 2
    active: str | None = None
    previous: str | None = None
    shadow: str | None = None
    sequence: int = 0
    models: tuple[Slot, ...] = ()

    def __post_init__(self) -> None:
        if self.version != 2:
            raise ModelFileError(f"version: 2 expected, found {self.version}; made by another sepilot")
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

    def rolled_back(self, failed: str = "") -> Slots:
        """The previous file active, with another chance to start; the active one previous, `failed` if it did not."""
        reasons = {self.previous: "", self.active: failed}
        models = tuple(dataclasses.replace(s, failed=reasons.get(s.name, s.failed)) for s in self.models)
        return dataclasses.replace(self, active=self.previous, previous=self.active, models=models)


def read_slots(folder: Path) -> Slots:
    """The state of a slots directory.

    Raises:
        ModelFileError: nothing was installed there, or its slots.json cannot be read.
    """
    path = folder / INDEX_NAME
    if not exists(path, ModelFileError):
        raise ModelFileError(f"{folder}: no model is installed; run: sepilot install FILE --slots {folder}")
    try:
        return parse(
            Slots,
            _as_version_2(read_json(path, ModelFileError, limit=SETTINGS_BYTES)),
            "",
            ModelFileError,
            complete=True,
        )
    except ModelFileError as e:
        raise ModelFileError(f"{path}: {str(e).removeprefix(f'{path}: ')}; install the model again") from e


def _as_version_2(body: Any) -> Any:
    """What an older sepilot wrote, which knew no sequence numbers, in today's form."""
    if not isinstance(body, dict) or body.get("version") != 1 or not isinstance(body.get("models"), list):
        return body
    models = [{"sequence": 0, **slot} if isinstance(slot, dict) else slot for slot in body["models"]]
    return {"sequence": 0, **body, "version": 2, "models": models}


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
