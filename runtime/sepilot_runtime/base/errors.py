"""Errors that a user can cause, as opposed to faults in sepilot.

    SepilotError
    ├── UsageError          a flag or a combination of flags that makes no sense
    ├── DriveError          a recording that cannot be read at all
    │   └── FrameError      one frame of it (skipped and counted by the readers)
    ├── RecipeError         an unknown recipe, key, type or value
    ├── ContractError       a contract that is missing, foreign, tampered with or not obeyed
    │   └── NoContractError a model file of somebody else's, which has none
    ├── ModelFileError      a model file that cannot be opened, or fails its golden frames
    ├── RunError            a run directory that is incomplete or does not fit
    ├── OutputError         somewhere to write that exists, is not writable, or is full
    └── MissingExtraError   an optional package that this installation lacks

Each carries one line that names the file, the key, what was expected and what was found. The command line prints
that line and exits with `exit_code`; anything else that escapes is a fault of ours and keeps its traceback.
"""

from __future__ import annotations


class SepilotError(Exception):
    """A mistake or a missing thing outside sepilot, told in one line."""

    exit_code = 2


class UsageError(SepilotError):
    """A flag or a combination of flags that makes no sense."""


class DriveError(SepilotError):
    """A recording that cannot be read at all."""


class FrameError(DriveError):
    """One frame that cannot be read. `reason` is short and groups equal failures when they are counted."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class RecipeError(SepilotError):
    """An unknown recipe, key, type or value."""


class ContractError(SepilotError):
    """A contract that is missing, foreign, tampered with or not obeyed."""


class NoContractError(ContractError):
    """A model file that was made elsewhere and carries no contract."""


class ModelFileError(SepilotError):
    """A model file that cannot be opened or that fails its golden frames."""


class RunError(SepilotError):
    """A run directory that is incomplete or does not fit what is asked of it."""


class OutputError(SepilotError):
    """Somewhere to write that exists already, is not writable, or is full."""


class MissingExtraError(SepilotError):
    """An optional package that this installation lacks."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'sepilot[{extra}]'")
