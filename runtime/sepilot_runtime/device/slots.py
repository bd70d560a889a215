"""Model slots on the car: which file is active, which one was before it, and which one runs along as a shadow.

    SLOTS/slots.json       what is where; replaced as a whole, and last
    SLOTS/models/          the files, named by their checksum
    SLOTS/trusted.pem      optional: public keys; then only files that one of them signed are installed or gone back to

`sepilot_runtime.device.installation` puts files in; `sepilot_runtime.device.slot_index` reads and writes slots.json.

Signatures are checked when a file is installed and when it is gone back to. In between only its checksum is, against
the one in slots.json: whoever can write there can write trusted.pem as well. slots.json remembers the highest sequence
number that was installed with a signature, so that an older signed file is not taken for a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sepilot_runtime.base.caps import MODEL_BYTES
from sepilot_runtime.base.errors import ModelFileError, SepilotError, UsageError
from sepilot_runtime.base.files import exists
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.device.slot_index import INDEX_NAME, Slot, Slots, commit, locked, read_slots
from sepilot_runtime.engine.checksum import require_checksum

__all__ = [
    "INDEX_NAME",
    "TRUSTED_NAME",
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
    "trusted_keys",
]

TRUSTED_NAME = "trusted.pem"
"""Public keys, one of which must have signed what is installed."""

Warn = Callable[[str], None]
"""Told one line about what was found and put right."""


def default_slots() -> Path:
    """Where slots are unless another directory is named. Raises UsageError where this user has no home folder."""
    try:
        home = Path.home()
    except RuntimeError as e:
        raise UsageError("slots: this user has no home folder; set HOME, or name a directory with --slots DIR") from e
    return home / ".local" / "share" / "sepilot" / "slots"


def models_folder(folder: Path) -> Path:
    return folder / "models"


def trusted_keys(folder: Path) -> Path | None:
    """The file of trusted public keys; None where none was ever put there.

    A name that leads nowhere is a file: whoever put it there meant that signatures are asked for.

    Raises:
        ModelFileError: it cannot be told.
    """
    path = folder / TRUSTED_NAME
    return path if exists(path, ModelFileError, follow_symlinks=False) else None


def active_model(folder: Path, warn: Warn = lambda line: None) -> Path:
    """The file to drive with: the active one, or the previous one where the active is missing or damaged on the disk.

    Raises:
        ModelFileError: nothing is installed, or no file is whole and may be gone back to.
    """
    slots = read_slots(folder)
    active, previous = slots.slot(slots.active), slots.slot(slots.previous)
    if active is None:
        raise ModelFileError(f"{folder}: no model is active; run: sepilot install FILE")
    try:
        return _whole(folder, active)
    except ModelFileError as e:
        reason = str(e)
    if previous is None or previous.failed:
        raise ModelFileError(reason)
    try:
        path = _to_go_back_to(folder, previous)
    except SepilotError as e:
        raise ModelFileError(f"{reason}; {e}") from e
    warn(f"{reason}; going back to {previous.file}")
    return path


def shadow_model(folder: Path) -> Path | None:
    """The file that was installed with --shadow; None where there is none.

    Raises:
        ModelFileError: nothing is installed, or the file is missing or damaged.
    """
    slots = read_slots(folder)
    slot = slots.slot(slots.shadow)
    return None if slot is None else _whole(folder, slot)


def rollback(folder: Path, *, failed: bool = False, unsigned: bool = False, warn: Warn = lambda line: None) -> Slot:
    """Make the previous file active, and the active one the previous.

    Args:
        failed: also where the previous file did not start.
        unsigned: also where no key of trusted.pem signed the previous file, or trusted.pem cannot be read.
        warn: told one line where the previous file is older than others that were installed.

    Returns:
        What is active now.

    Raises:
        ModelFileError: there is no previous file, it did not start either, it is damaged, or no trusted key signed it.
        UsageError, MissingExtraError: its signature cannot be checked.
        OutputError: the directory cannot be written.
    """
    with locked(folder):
        slots = read_slots(folder)
        target = slots.slot(slots.previous)
        if target is None:
            raise ModelFileError(f"{folder}: there is no previous model to go back to")
        if target.failed and not failed:
            raise ModelFileError(
                f"{folder}: {target.file} is not gone back to: it did not start: {target.failed}; "
                "to go back all the same: sepilot rollback --failed"
            )
        if unsigned:
            _whole(folder, target)
        else:
            _to_go_back_to(folder, target)
        if target.signed and target.sequence < slots.sequence:
            warn(
                f"{target.file} is older (sequence number {target.sequence}) than the newest that was installed "
                f"({slots.sequence})"
            )
        commit(folder, slots.rolled_back())
    return target


def mark_failed(folder: Path, path: Path, reason: str, warn: Warn = lambda line: None) -> Path | None:
    """Roll back because the active file did not start.

    Args:
        path: of the file that failed.
        reason: one line, shown by `sepilot slots`.
        warn: told one line where there is a previous file that may not be gone back to.

    Returns:
        What is active now; None where there is nothing to go back to, and nothing was changed.

    Raises:
        ModelFileError: nothing is installed, or another file became active meanwhile and is damaged.
        OutputError: the directory cannot be written.
    """
    with locked(folder):
        slots = read_slots(folder)
        if slots.active == path.name:
            target = slots.slot(slots.previous)
            if target is None or target.failed:
                return None
            try:
                _to_go_back_to(folder, target)
            except SepilotError as e:
                warn(str(e))
                return None
            commit(folder, slots.rolled_back(failed=reason.removeprefix(f"{path}: ")))
    return active_model(folder)


def _to_go_back_to(folder: Path, slot: Slot) -> Path:
    """The path of an installed file that is whole and, where there are trusted keys, signed by one of them.

    Its sequence number may be lower than that of others: it was accepted on this car.
    """
    path = _whole(folder, slot)
    keys = trusted_keys(folder)
    if keys is not None:
        from sepilot_runtime.device.signing import require_signature
        from sepilot_runtime.engine.model_file import read_model_file

        try:
            require_signature(read_model_file(path), keys)
        except SepilotError as e:
            reason = str(e).removeprefix(f"{path}: ")
            raise ModelFileError(
                f"{folder}: {slot.file} is not gone back to: {reason}; "
                "to go back all the same: sepilot rollback --unsigned"
            ) from e
    return path


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
