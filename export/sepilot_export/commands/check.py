"""`sepilot check`: every exported file against the training model, without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.arguments import flag, request_from, switch
from sepilot_runtime.commands.reader_arguments import READER
from sepilot_runtime.engine.names import OWN, ModelKind, engines_named, runs
from sepilot_runtime.recording.options import ReaderOptions

if TYPE_CHECKING:
    from sepilot_export.convert.failures import Failure
    from sepilot_export.verify.file_check import Candidate, FileCheck
    from sepilot_export.verify.reference import Reference

__all__ = ["main"]

EPILOG = """examples:
  sepilot check runs/week-export
  sepilot check runs/week-export --drives tubs/sunday
  sepilot check runs/week-export --engine openvino
  sepilot check runs/week-export --gate int8.max_error=0.08 --json
  sepilot check runs/week-export --gate int8.throttle.max_error=0.2
  sepilot check runs/signs-export/model.tflite --data signs10/test

All held-out frames go one by one through the interpreter that will run the file on the car. Other drives (--drives)
are compared with a float32 file, once that has passed on the held-out frames.

With --data one file, exported or adopted, is scored on pictures with labels: a folder for each class, a table, a
recording. Its outputs are held against the labels of their names, with the interval that holds 95 %, beside the one
answer that fits these labels best; pictures of a group, or of a stretch of a recording, count as one observation.

For a file that fails, the likely cause and the next step are printed, where its figures tell them. Figures of int8
files are those of this processor's int8 kernels, which stand below the table.

Exit code: 0 all files pass, 1 a gate failed or a format could not be exported, 2 a file cannot be opened.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    directory: Path = flag("the directory of `sepilot export`; with --data a model file", "DIR|FILE", positional=True)
    data: tuple[Path, ...] = flag("score one model file on these labelled data", "PATH", nargs="+", default=())
    drives: tuple[Path, ...] = flag("check on these drives as well", "PATH", nargs="+", default=())
    gate: tuple[str, ...] = flag(
        "another limit, for all files and outputs or for some: max_error (of full scale), mae_increase, sign_flips, "
        "saturated (shares of frames)", "[PRECISION.][OUTPUT.]KEY=VALUE",
    )  # fmt: skip
    engine: str = flag(f"run every file through these interpreters, too: {', '.join(OWN)}", "NAME,…", default="")
    json: bool = switch("print check.json, or the scores, instead of the table")
    png: Path | None = flag("where to draw the errors (default: DIR/check.png), or with --data the confusion", "FILE")
    reader: ReaderOptions
    """For --drives and --data."""

    def __post_init__(self) -> None:
        if self.data and (self.drives or self.gate):
            raise UsageError("--data: a file is scored against labels; --drives and --gate are for a whole export")


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, CheckRequest, "check",
        "Compare every file of an export with the training model, frame by frame, and judge it.", EPILOG,
        reader=READER,
    )  # fmt: skip
    if request.data:
        from sepilot_export.commands.check_data import check_data

        return check_data(
            request.directory, request.data, request.reader, engines=engines_named(request.engine),
            as_json=request.json, png=request.png,
        )  # fmt: skip
    from sepilot_export.record.exports import read_export
    from sepilot_export.verify.check import candidates_of
    from sepilot_export.verify.reference import read_reference
    from sepilot_runtime.base.files import require_place
    from sepilot_runtime.recording.opening import open_drives

    folder = request.directory
    candidates = candidates_of(folder, request.gate)
    failed = read_export(folder).failed
    # Whatever speaks against the paths is said before thousands of frames are compared.
    require_place(request.png or folder / "check.png")
    if request.drives:
        open_drives(request.drives, request.reader)
    reference = read_reference(folder)
    through = _through_others(request, candidates, reference)
    checks = _checked(candidates, reference)
    sections = [(checks, reference)]
    if request.drives:
        sections.append(_on_other_drives(request, folder, candidates, checks, reference))
    _say(request, sections, through, failed)
    everything = [check for found in (*(s for s, _ in sections), *through.values()) for check in found]
    if not all(check.opened for check in everything):
        return 2
    return 0 if all(check.passed for check in everything) and not failed else 1


def _say(
    request: CheckRequest,
    sections: Sequence[tuple[Sequence[FileCheck], Reference]],
    through: Mapping[str, Sequence[FileCheck]],
    failed: Sequence[Failure],
) -> None:
    """Write check.json and its picture, and print the tables or the JSON."""
    from sepilot_export.record.checks import Check
    from sepilot_export.verify.check_plot import draw
    from sepilot_export.verify.check_report import section_of
    from sepilot_runtime.base.files import write_json
    from sepilot_runtime.device.checked import CHECK_NAME

    folder, reference = request.directory, sections[0][1]
    first, *others = (section_of(*section) for section in sections)
    record = Check(
        reference=first.reference,
        files=first.files,
        witnesses=first.witnesses,
        passed=first.passed and not failed,
        conditions=_conditions(),
        not_exported=tuple(failed),
        drives=others[0] if others else None,
        engines={name: section_of(found, reference) for name, found in through.items()},
    )
    document = dataclasses.asdict(record)
    write_json(folder / CHECK_NAME, document)
    draw(*sections[-1], request.png or folder / "check.png")
    if request.json:
        print(json.dumps(document, indent=2))
        return
    _print(sections, through, failed, record.conditions)


def _print(
    sections: Sequence[tuple[Sequence[FileCheck], Reference]], through: Mapping[str, Sequence[FileCheck]],
    failed: Sequence[Failure], conditions: Mapping[str, str],
) -> None:  # fmt: skip
    from rich.console import Console

    from sepilot_export.verify.check_report import print_failures, print_table

    console = Console(highlight=False)
    for section in sections:
        print_table(*section, console)
    for name, found in through.items():
        console.print(f"\nthrough {name}:")
        print_table(found, sections[0][1], console)
    print_failures(failed, console)
    console.print("on {cpu}, int8 kernels: {int8_kernels}".format_map(conditions), markup=False)


def _through_others(
    request: CheckRequest, candidates: Sequence[Candidate], reference: Reference
) -> dict[str, list[FileCheck]]:
    """What the interpreters of --engine make of the files that they run."""

    found: dict[str, list[FileCheck]] = {}
    for name in engines_named(request.engine):
        chosen = [dataclasses.replace(c, engine=name) for c in candidates if runs(name, ModelKind(c.form.suffix))]
        found[name] = _checked(chosen, reference)
    return found


def _on_other_drives(
    request: CheckRequest,
    folder: Path,
    candidates: Sequence[Candidate],
    checks: Sequence[FileCheck],
    reference: Reference,
) -> tuple[list[FileCheck], Reference]:
    from sepilot_export.verify.check import stand_in
    from sepilot_export.verify.unseen_drives import reference_on

    model = stand_in(checks).candidate.path
    other = reference_on(request.drives, request.reader, model, reference, folder, progress=sys.stderr.isatty())
    return _checked(candidates, other), other


def _checked(candidates: Sequence[Candidate], reference: Reference) -> list[FileCheck]:
    from sepilot_export.verify.check import check_files
    from sepilot_train.base.progress import progress_bar

    with progress_bar("checking", len(candidates) * len(reference)) as tick:
        return list(check_files(candidates, reference, tick))


def _conditions() -> dict[str, str]:
    """Kernels differ between machines and versions, so the figures are those of this one."""
    import platform

    from sepilot_runtime.base.processor import cpu_name, int8_kernels
    from sepilot_runtime.device.conditions import versions

    found = {"machine": platform.machine(), "cpu": cpu_name(), "int8_kernels": int8_kernels()}
    found["python"] = platform.python_version()
    return found | versions(("ai-edge-litert", "onnxruntime", "openvino", "numpy"))
