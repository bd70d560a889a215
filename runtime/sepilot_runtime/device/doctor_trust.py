"""Which model files does this car take, and who can change that?"""

from __future__ import annotations

import stat
from pathlib import Path

from sepilot_runtime.base.errors import ModelFileError, SepilotError
from sepilot_runtime.base.files import exists
from sepilot_runtime.device.doctor_system import Finding, Grade, Machine
from sepilot_runtime.device.slots import INDEX_NAME, active_model, trusted_keys

__all__ = ["examine_trust"]


def examine_trust(machine: Machine) -> Finding:
    """The keys that are trusted, whether the active file is signed by one, and whether others may write there."""
    try:
        keys = trusted_keys(machine.slots)
        loose = _writable_by_others([machine.slots, *([keys] if keys else [])])
        if loose:
            return Finding(
                topic="trust", level=Grade.PROBLEM, found=f"{loose}: every user of this machine may change it",
                advice=f"chmod go-w {loose}",
            )  # fmt: skip
        if keys is None:
            return Finding(
                topic="trust", level=Grade.OK, found=f"no {machine.slots}/trusted.pem: every whole file is installed"
            )
        return _signed(machine.slots, keys)
    except SepilotError as e:
        return Finding(
            topic="trust", level=Grade.PROBLEM, found=f"nothing is installed: {e}",
            advice="copy the public key of `sepilot sign --new-key` there",
        )  # fmt: skip


def _signed(slots: Path, keys: Path) -> Finding:
    """Raises SepilotError where the keys cannot be read."""
    from sepilot_runtime.device.signing import public_keys, require_signature
    from sepilot_runtime.engine.model_file import read_model_file

    count = len(public_keys(keys))
    found = f"only files are installed that {'the key' if count == 1 else f'one of {count} keys'} of {keys} signed"
    if not exists(slots / INDEX_NAME, ModelFileError):
        return Finding(topic="trust", level=Grade.OK, found=found)
    try:
        require_signature(read_model_file(active_model(slots)), keys)
    except SepilotError as e:
        return Finding(
            topic="trust", level=Grade.ADVICE, found=f"{found}, but what is active came before: {e}",
            advice="sepilot install a signed file",
        )  # fmt: skip
    return Finding(topic="trust", level=Grade.OK, found=found)


def _writable_by_others(paths: list[Path]) -> Path | None:
    for path in paths:
        try:
            if path.stat().st_mode & stat.S_IWOTH:
                return path
        except OSError:
            continue  # What cannot be read is told where it is needed.
    return None
