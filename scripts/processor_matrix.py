"""What the answers of processors are worth: a cell for each file and processor, and the table of them."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from processor_answers import USUAL
from processor_runs import Answer, Answers
from processors import ARM_QEMU, X86_QEMU, Processor, why_not

from sepilot_export.verify.file_check import Candidate
from sepilot_export.verify.fidelity import Fidelity, measure
from sepilot_export.verify.gates import judge, preprocessing_reasons
from sepilot_export.verify.reference import Reference
from sepilot_runtime.device.conditions import conditions_now

__all__ = ["Cell", "Matrix", "Row", "judged", "print_matrix"]

LEGEND = """Haswell stands for AVX2 without VNNI (AMD before Zen 4, Intel before Ice Lake),
Cortex-A72 for the Raspberry Pi 4, Cortex-A76 for the Pi 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A file in an engine, `USUAL` or OpenVINO."""

    candidate: Candidate
    engine: str

    @property
    def job(self) -> str:
        return f"{self.engine}:{self.candidate.path.resolve()}"

    @property
    def name(self) -> str:
        return self.candidate.form.name if self.engine == USUAL else f"{self.candidate.form.name}, OpenVINO"

    @property
    def label(self) -> str:
        return self.candidate.form.name if self.engine == USUAL else "  in OpenVINO"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One file on one processor, or the pixels on one.

    Attributes:
        text: without the verdict.
        reasons: why it fails; empty where it passes.
        note: what kept it from answering without being the file's fault.
        fidelity: None where there are no answers.
    """

    text: str
    reasons: tuple[str, ...] = ()
    note: str = ""
    fidelity: Fidelity | None = None

    def __str__(self) -> str:
        if self.reasons:
            return f"{self.text} FAIL"
        return f"{self.text} pass" if self.fidelity else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Cells by the names of row and processor; the row "pixels" is the preprocessing's."""

    rows: tuple[tuple[str, str], ...]
    processors: tuple[Processor, ...]
    cells: Mapping[tuple[str, str], Cell]
    frames: int
    held_out: int
    unit: str
    pixels: Mapping[str, Any]
    seconds: float

    @property
    def passed(self) -> bool:
        return not any(cell.reasons for cell in self.cells.values())

    def to_json(self) -> dict[str, Any]:
        """Everything in the table, and what stands behind it."""
        return {
            "machine": dataclasses.asdict(conditions_now()),
            "qemu": qemu_version(),
            "frames": self.frames,
            "held_out": self.held_out,
            "seconds": round(self.seconds, 1),
            "processors": [{"name": p.name, "what": p.what, "how": _how(p)} for p in self.processors],
            "pixels": self.pixels,
            "cells": [
                {
                    "row": row,
                    "processor": processor,
                    "text": str(cell),
                    "reasons": cell.reasons,
                    "note": cell.note,
                    "fidelity": dataclasses.asdict(cell.fidelity) if cell.fidelity else None,
                }
                for (row, processor), cell in self.cells.items()
            ],
        }


def judged(
    rows: Sequence[Row],
    processors: Sequence[Processor],
    answers: Mapping[str, Answers],
    reference: Reference,
    frames: NDArray[np.intp],
    seconds: float,
) -> Matrix:
    """The matrix of what was answered; processors without answers were not tried."""
    cells = {}
    jobs = {row.candidate.form.name: row.job for row in rows if row.engine == USUAL}
    for processor in processors:
        found = answers.get(processor.name)
        for row in rows:
            if found is None:
                cells[row.name, processor.name] = _untried(processor)
                continue
            twin = row.candidate.twin if row.engine == USUAL else None
            origin = found.get(jobs.get(twin.of, ""), {}) if twin else {}
            cells[row.name, processor.name] = _cell(row, found[row.job], origin, reference, frames)
        cells["pixels", processor.name] = _pixels(found["pixels"], reference) if found else _untried(processor)
    return Matrix(
        rows=(*((row.name, row.label) for row in rows), ("pixels", "pixels")),
        processors=tuple(processors),
        cells=cells,
        frames=len(frames),
        held_out=len(reference.pictures),
        unit=reference.contract.outputs[0].unit,
        pixels={name: found["pixels"].get("pixels") for name, found in answers.items()},
        seconds=seconds,
    )


def _untried(processor: Processor) -> Cell:
    return Cell(text="not tried", note=why_not(processor) or "")


def _cell(row: Row, answer: Answer, origin: Answer, reference: Reference, frames: NDArray[np.intp]) -> Cell:
    """What an answer is worth; `origin` is that of the TFLite file whose twin this is, empty where it is none."""
    if "error" in answer:
        # Another engine than the one the file is made for may refuse it: nothing steers by it then.
        if row.engine != USUAL and not answer.get("crashed"):
            return Cell(text="refused", note=answer["error"][:100])
        return Cell(text="none", reasons=(answer["error"],))
    answers = np.array(answer["answers"], np.float32)
    output = reference.contract.outputs[0]
    limits = row.candidate.limits[output.name]
    fidelity = measure(
        answers,
        reference.predictions[output.name][frames],
        reference.labels[output.name][frames],
        [reference.drives[i] for i in frames],
        reference.pictures[frames],
        output,
    )
    if len(frames) < len(reference.pictures):  # Shares and means of the hardest frames say nothing about all.
        limits = {**limits, "mae_increase": math.inf, "sign_flips": 1.0, "saturated": 1.0}
    reasons = [answer["golden"]] if answer["golden"] else []
    reasons += judge(fidelity, limits, output, len(frames))
    plain = reference.plain.get(row.candidate.form.name, {}).get(output.name)
    reasons += preprocessing_reasons(answers, None if plain is None else plain[frames], output)
    reasons += _twin_reasons(row, output.name, answers, origin)
    return Cell(text=_short(fidelity.max_error), reasons=tuple(reasons), fidelity=fidelity)


def _twin_reasons(row: Row, output: str, answers: NDArray[np.float32], origin: Answer) -> list[str]:
    """Where a twin's answers lie further from its TFLite file's on the same processor than they may."""
    twin = row.candidate.twin
    if twin is None or "answers" not in origin:
        return []
    steps = twin.distance({output: answers}, {output: np.array(origin["answers"])})
    if steps <= twin.allowed_steps:
        return []
    return [f"{steps:g} output steps from {twin.of}, whose twin it is, at most {twin.allowed_steps} allowed"]


def _pixels(answer: Answer, reference: Reference) -> Cell:
    if "error" in answer:
        return Cell(text="none", reasons=(answer["error"],))
    levels = max((frame["levels"] for frame in answer["pixels"].values()), default=0)
    if levels == 0:
        return Cell(text="identical")
    text = f"{levels} level{'s' * (levels > 1)}"
    which = ", ".join(name for name, frame in answer["pixels"].items() if frame["levels"])
    if reference.contract.picture.resize == "linear":  # Promises no more.
        return Cell(text=text, note=f"{which}: up to {text}, which a linear resize allows")
    return Cell(text=text, reasons=(f"{which}: up to {text} from this machine's pictures, none allowed",))


def _short(number: float) -> str:
    return f"{number:.0e}".replace("e-0", "e-") if 0 < number < 1e-3 else f"{number:.3f}"


def _how(processor: Processor) -> str:
    return "" if why_not(processor) else processor.how


def qemu_version() -> str:
    """Of the emulators here, "none" without."""
    for name in (X86_QEMU, ARM_QEMU):
        try:
            said = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
        except FileNotFoundError:
            continue
        if found := re.search(r"version (\S+)", said):
            return found[1]
    return "none"


def print_matrix(matrix: Matrix, export: Path) -> None:
    """The table, 80 columns, with a line for every reason to fail and every note."""
    unit = "°" if matrix.unit == "deg" else f" {matrix.unit}"
    machine = conditions_now()
    which = f"the hardest {matrix.frames} of" if matrix.frames < matrix.held_out else "all"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    head = (
        f"{export}: golden frames, and the max error in{unit} from the training model on {which} "
        f"{matrix.held_out:,} held-out frames. {matrix.seconds:.0f} s on {machine.cpu}, {machine.cores} cores; "
        f"emulated: by qemu {qemu_version()}. {versions}"
    )
    print(textwrap.fill(head, 80))
    for title, words in (
        ("file", [p.name for p in matrix.processors]),
        ("", [p.what for p in matrix.processors]),
        ("", [_how(p) for p in matrix.processors]),
    ):
        print(f"{title:22}" + "".join(f"{word:>11}" for word in words))
    for row, label in matrix.rows:
        print(f"{label:22}" + "".join(f"{matrix.cells[row, p.name]!s:>11}" for p in matrix.processors))
    print(LEGEND)
    for kind in ("FAIL", "note"):
        for (row, processor), cell in matrix.cells.items():
            for text in cell.reasons if kind == "FAIL" else [cell.note] * bool(cell.note):
                print(textwrap.fill(f"{kind} {row}, {processor}: {text}", 80, subsequent_indent="  "))
