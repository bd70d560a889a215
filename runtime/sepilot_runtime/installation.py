"""Putting a model file into a slot: first every proof, then the disk, and the pointer last.

The proofs: the checksum, the contract, a trusted signature where one is asked for, and the golden frames, which run in
a process of their own on the copy that the car will start from. An interpreter that crashes or hangs on a file (one
whose checksum somebody made fit) takes that process with it and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from pathlib import Path

from sepilot_runtime.checked import failure_of
from sepilot_runtime.durable import sync_directory, write_durably
from sepilot_runtime.errors import ModelFileError, UsageError
from sepilot_runtime.files import exists, writing
from sepilot_runtime.modelfile import ModelFile, read_model_file
from sepilot_runtime.slots import Slot, Slots, commit, locked, models_folder, read_slots
from sepilot_runtime.trial import try_model

__all__ = ["TRUSTED_NAME", "install_model"]

TRUSTED_NAME = "trusted.pem"
"""In a slots directory: public keys, one of which must have signed what is installed."""


def install_model(
    path: Path, folder: Path, *, key: Path | None = None, shadow: bool = False, failed: bool = False
) -> Slot:
    """Put a model file into a slot and make it active; what was active becomes the previous one.

    Args:
        folder: the slots directory; made where it is missing.
        key: a file of public keys, one of which must have signed the file; with a trusted.pem, both must agree.
        shadow: run it beside the active model instead; what is active stays.
        failed: make it active though a check.json beside it says that these bytes failed.

    Raises:
        ModelFileError: damaged, failed, unsigned, signed by another, fails its golden frames, or crashes the
            interpreter.
        ContractError: no contract, or one that is foreign or was changed.
        MissingExtraError: a signature is to be checked and `cryptography` is not installed.
        OutputError: the directory cannot be written, or the disk is full. What was active stays active.
        UsageError: the active model cannot be its own shadow.
    """
    file = read_model_file(path)
    if not (shadow or failed) and (why := failure_of(path)):
        raise ModelFileError(f"{path}: not installed: {why}; take a file that passed, or say --failed")
    signed = _require_signatures(file, folder, key)
    with locked(folder, ".install.lock"):
        models = models_folder(folder)
        with writing(folder):
            models.mkdir(exist_ok=True)
        name, part = _name_of(file), models / f".incoming.{file.kind}"
        try:
            with writing(folder):
                write_durably(part, file.content)
            _require_proof(part, path)
            with writing(folder):
                part.replace(models / name)
                sync_directory(models)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        slot = _slot_of(file, name, signed=signed)
        _point(folder, slot, shadow=shadow)
    return slot


def _require_proof(part: Path, path: Path) -> None:
    try:
        try_model(part, shown_as=path)
    except ModelFileError as e:
        raise ModelFileError(f"{path}: not installed: {str(e).removeprefix(f'{path}: ')}") from e


def _require_signatures(file: ModelFile, folder: Path, key: Path | None) -> bool:
    """Whether a signature was asked for, and is right."""
    trusted = folder / TRUSTED_NAME
    needed = [keys for keys in (key, trusted if exists(trusted, ModelFileError) else None) if keys is not None]
    if needed:
        from sepilot_runtime.signing import require_signature

        for keys in needed:
            require_signature(file, keys)
    return bool(needed)


def _name_of(file: ModelFile) -> str:
    stem = re.sub(r"[^\w.-]+", "_", file.path.stem)[:60]
    return f"{file.checksum[:16]}-{stem}.{file.kind}"


def _slot_of(file: ModelFile, name: str, *, signed: bool) -> Slot:
    provenance = file.contract.provenance
    return Slot(
        name=name,
        file=file.path.name,
        checksum=file.checksum,
        recipe=provenance.recipe,
        precision=provenance.precision,
        installed=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        signed=signed,
    )


def _point(folder: Path, slot: Slot, *, shadow: bool) -> None:
    """Give the file its role, then remove the files that lost theirs."""
    with locked(folder):
        before = _known(folder)
        models = (*(s for s in before.models if s.name != slot.name), slot)
        slots = dataclasses.replace(before, models=models)
        if shadow:
            if slot.name == before.active:
                raise UsageError(f"--shadow: {slot.file} is the active model")
            slots = dataclasses.replace(slots, shadow=slot.name)
        elif slot.name != before.active:
            slots = dataclasses.replace(
                slots,
                active=slot.name,
                previous=before.active,
                shadow=None if before.shadow == slot.name else before.shadow,
            )
        slots = slots.kept()
        commit(folder, slots)
        with writing(folder):
            sync_directory(folder.parent)
            kept = {s.name for s in slots.models}
            for path in list(models_folder(folder).iterdir()):
                if path.name not in kept:
                    path.unlink()


def _known(folder: Path) -> Slots:
    """The state so far; none where slots.json is unreadable, so that installing is always the way out."""
    try:
        return read_slots(folder)
    except ModelFileError:
        return Slots()
