"""What came of one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.formats import Format, Limits
from sepilot_export.convert.int8_as_onnx import Twin
from sepilot_export.verify.fidelity import Fidelity, Skill
from sepilot_export.verify.gates import Fault
from sepilot_runtime.engine.names import EngineName

__all__ = ["UNKNOWN", "Advice", "Candidate", "FileCheck", "Origin", "OutputCheck"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How a file was made, as far as export.json says it.

    Attributes:
        sha256: of the file as it was written.
        int8_kernels: of the processor that exported it.
        max_drop: of the export; None where every layer is int8.
        of_training: no option of the export changes its numbers.
    """

    sha256: str | None = None
    int8_kernels: str | None = None
    max_drop: float | None = None
    of_training: bool = False


UNKNOWN = Origin()


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The cause of a failure and what to do about it, a line each."""

    cause: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file to check, with its gates.

    Attributes:
        limits: by output.
        twin: what it owes the TFLite file whose twin it is; None where it is none.
        engine: the interpreter that runs it; None for the usual one.
        origin: what export.json says about how it was made.
    """

    path: Path
    form: Format
    limits: Limits
    twin: Twin | None = None
    engine: EngineName | None = None
    origin: Origin = UNKNOWN


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OutputCheck:
    """What a file says through one output.

    Attributes:
        answers: (n, *shape) or (n,), to the reference's frames.
        task: how good they are; None without labels.
    """

    answers: NDArray[np.float32]
    fidelity: Fidelity
    task: Skill | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FileCheck:
    """What came of one file.

    Attributes:
        outputs: by name; empty where the file did not get so far.
        golden_error: largest deviation on the golden frames, in output values; None where they failed.
        opened: it could be loaded at all.
        gzip_bytes: of the file compressed, as it travels to the car.
        faults: why it fails; empty when it passes.
        notes: what could not be decided.
        twin_steps: largest distance of a twin's answers from its TFLite file's, in output steps.
        advice: where the figures tell why it fails, and what to do.
    """

    candidate: Candidate
    bytes: int
    gzip_bytes: int
    outputs: Mapping[str, OutputCheck]
    golden_error: float | None
    opened: bool
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()
    twin_steps: float | None = None
    advice: Advice | None = None

    @property
    def answers(self) -> Mapping[str, NDArray[np.float32]]:
        return {name: found.answers for name, found in self.outputs.items()}

    @property
    def reasons(self) -> tuple[str, ...]:
        """The faults in words."""
        return tuple(fault.text for fault in self.faults)

    @property
    def passed(self) -> bool:
        return not self.faults

    def passes(self, output: str) -> bool:
        """Whether nothing is wrong with an output, or with the file as a whole."""
        return not any(fault.output in ("", output) for fault in self.faults)
