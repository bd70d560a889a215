"""Putting a model file into a slot: first every proof, then the disk, and the pointer last.

The proofs: the checksum, the contract, a trusted signature where one is asked for, with a sequence number above those
that were installed before, and the golden frames, which run in a process of their own on the copy that the car will
start from. An interpreter that crashes or hangs on a file (one whose checksum somebody made fit) takes that process
with it and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from pathlib import Path

from sepilot_runtime.base.errors import ModelFileError, UsageError
from sepilot_runtime.base.files import sync_directory, write_durably, writing
from sepilot_runtime.device.checked import failure_of
from sepilot_runtime.device.slots import Slot, Slots, commit, locked, models_folder, read_slots, trusted_keys
from sepilot_runtime.engine.checksum import sequence_of
from sepilot_runtime.engine.model_file import ModelFile, read_model_file
from sepilot_runtime.engine.trial import try_model

__all__ = ["install_model"]


def install_model(
    path: Path,
    folder: Path,
    *,
    key: Path | None = None,
    shadow: bool = False,
    failed: bool = False,
    older: bool = False,
) -> Slot:
    """Put a model file into a slot and make it active; what was active becomes the previous one.

    Args:
        folder: the slots directory; made where it is missing.
        key: a file of public keys, one of which must have signed the file; with a trusted.pem, both must agree.
        shadow: run it beside the active model instead; what is active stays.
        failed: make it active though a check.json beside it says that these bytes failed.
        older: take a signed file though one with a higher sequence number was installed; the higher one is remembered.

    Raises:
        ModelFileError: damaged, failed, unsigned, signed by another, older than what was installed, fails its golden
            frames, or crashes the interpreter.
        ContractError: no contract, or one that is foreign or was changed.
        MissingExtraError: a signature is to be checked and `cryptography` is not installed.
        OutputError: the directory cannot be written, or the disk is full. What was active stays active.
        UsageError: the active model cannot be its own shadow; a file of keys cannot be read.
    """
    file = read_model_file(path)
    if not (shadow or failed) and (why := failure_of(path)):
        raise ModelFileError(f"{path}: not installed: {why}; take a file that passed, or say --failed")
    signed = _require_signatures(file, folder, key)
    with locked(folder, ".install.lock"):
        if signed and not older:
            _require_newer(file, _known(folder))
        slot = _slot_of(file, _put(file, folder), signed=signed)
        _point(folder, slot, shadow=shadow)
    return slot


def _put(file: ModelFile, folder: Path) -> str:
    """The name that the file now has among the models; it appears there whole and tried, or not at all."""
    models = models_folder(folder)
    with writing(folder):
        models.mkdir(exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", file.path.stem)[:60]
    name, part = f"{file.checksum[:16]}-{stem}.{file.kind}", models / f".incoming.{file.kind}"
    try:
        with writing(folder):
            write_durably(part, file.content)
        try:
            try_model(part, shown_as=file.path)
        except ModelFileError as e:
            raise ModelFileError(f"{file.path}: not installed: {str(e).removeprefix(f'{file.path}: ')}") from e
        with writing(folder):
            part.replace(models / name)
            sync_directory(models)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return name


def _require_signatures(file: ModelFile, folder: Path, key: Path | None) -> bool:
    """Whether a signature was asked for, and is right."""
    needed = [keys for keys in (key, trusted_keys(folder)) if keys is not None]
    if needed:
        from sepilot_runtime.device.signing import require_signature

        for keys in needed:
            require_signature(file, keys)
    return bool(needed)


def _require_newer(file: ModelFile, slots: Slots) -> None:
    """Refuse a signed file that somebody may have kept to hand it out again; what runs may be installed once more."""
    sequence, highest = sequence_of(file.content), slots.sequence
    again = any(
        slot.checksum == file.checksum and (sequence == highest or slots.role_of(slot) != "previous")
        for slot in slots.models
    )
    if sequence <= highest and not again:
        found = f"found {sequence}; sign" if sequence else "found none, as of an older sepilot; export and sign"
        raise ModelFileError(
            f"{file.path}: not installed: a sequence number above {highest}, the highest so far, expected, "
            f"{found} it anew, or say --allow-older"
        )


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
        sequence=sequence_of(file.content),
    )


def _point(folder: Path, slot: Slot, *, shadow: bool) -> None:
    """Give the file its role, then remove the files that lost theirs."""
    with locked(folder):
        before = _known(folder)
        models = (*(s for s in before.models if s.name != slot.name), slot)
        highest = max(before.sequence, slot.sequence if slot.signed else 0)
        slots = dataclasses.replace(before, models=models, sequence=highest)
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
