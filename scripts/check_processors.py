"""The processor matrix: does every file of an export keep its gates on other classes of processors?

The golden frames, which run at every load, and the hardest held-out frames go through every file under qemu's emulators
of the classes in processors.py (natively where qemu has none and this machine is one). int8 files are run in OpenVINO
as well, where it is installed. The row "pixels" compares what the preprocessing makes of seeded frames with this
machine's. With --drive, sepilot is installed on the aarch64 classes and `sepilot drive` runs there over a recording.

Exit code 0: all keep their gates; 1: one does not; 2: this machine cannot run it, or the export cannot be read.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from arm_drive import drive_all, print_drives
from arm_tree import arm_pythons
from hardest import hardest_frames
from numpy.typing import NDArray
from processor_answers import USUAL
from processor_frames import write_frames
from processor_matrix import Matrix, Row, judged, print_matrix
from processor_runs import Answers, ask_all
from processors import PROCESSORS, Processor, processor_named, why_not

from sepilot_export.verify.check import candidates_of
from sepilot_export.verify.file_check import Candidate
from sepilot_export.convert.formats import choose_formats
from sepilot_export.verify.reference import Reference, read_reference
from sepilot_runtime.base.errors import SepilotError, UsageError
from sepilot_runtime.base.files import write_json
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_train.base.cache import default_cache

NATIVE = Processor(name="this machine", machine="x86_64", what="")


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    try:
        processors = _processors(arguments.processors)
        candidates = _candidates(arguments.export, arguments.files)
        pythons = arm_pythons(default_cache()) if any(p.machine == "aarch64" for p in processors) else {}
        if arguments.drive:
            drives = drive_all(candidates, arguments.drive, processors, pythons, arguments.max_frames)
            print_drives(drives, arguments.drive)
            passed, record = all(d.passed for d in drives), {"drives": [d.to_json() for d in drives]}
        else:
            matrix = make_matrix(candidates, read_reference(arguments.export), processors, pythons, arguments.frames)
            print_matrix(matrix, arguments.export)
            passed, record = matrix.passed, matrix.to_json()
        if arguments.json:
            write_json(arguments.json, record)
        return 0 if passed else 1
    except SepilotError as e:
        print(f"check-processors: {e}", file=sys.stderr)
        return 2


def make_matrix(
    candidates: Sequence[Candidate],
    reference: Reference,
    processors: Sequence[Processor],
    pythons: Mapping[str, Path],
    count: int,
) -> Matrix:
    """Ask every file on every processor, and judge the answers.

    Args:
        count: of held-out frames, the hardest on this machine; 0 for all.
    """
    begin = time.perf_counter()
    rows = rows_of(candidates)
    tried = [p for p in processors if why_not(p) is None]
    with tempfile.TemporaryDirectory(prefix="sepilot-processors-") as name:
        folder = Path(name)
        everything = np.arange(len(reference.pictures))
        jobs = [row.job for row in rows]
        write_frames(folder / "all.npz", reference, everything)
        here = ask_all([NATIVE], {}, folder / "all.npz", jobs, _silence_s(len(everything)))[NATIVE.name]
        frames = hardest_frames(
            _errors(here, jobs, reference), reference.predictions[reference.contract.outputs[0].name], count
        )
        write_frames(folder / "hardest.npz", reference, frames)
        emulated = [p for p in tried if p.cpu]
        answers = ask_all(emulated, pythons, folder / "hardest.npz", ["pixels", *jobs], _silence_s(len(frames)))
        answers |= {
            p.name: {job: _at(here[job], frames) for job in jobs} | {"pixels": {"pixels": {}}}
            for p in tried
            if p.cpu is None
        }
    return judged(rows, processors, answers, reference, frames, time.perf_counter() - begin)


def rows_of(candidates: Sequence[Candidate]) -> list[Row]:
    """Each file in its usual engine, int8 files in OpenVINO too where that is installed."""
    openvino = importlib.util.find_spec("openvino") is not None
    rows = []
    for candidate in candidates:
        rows.append(Row(candidate=candidate, engine=USUAL))
        if openvino and candidate.form.precision.startswith("int8"):
            rows.append(Row(candidate=candidate, engine="openvino"))
    return rows


def _silence_s(frames: int) -> float:
    """What a file may take. Emulated, OpenVINO opens one in 8 s (Nehalem), a float32 frame takes 0.3 s (Haswell)."""
    return 120 + 2.0 * frames


def _errors(here: Answers, jobs: Sequence[str], reference: Reference) -> NDArray[np.float64]:
    """(files, n) of the files that answered, decoded as the car does it, in label units; zeros where none did."""
    output = reference.contract.outputs[0]
    expected, task = reference.predictions[output.name], task_of(output)
    answered = [here[job]["answers"] for job in jobs if "answers" in here[job]] or [expected]
    return np.array([task.distance(np.array(said), expected) for said in answered]) / output.scale


def _at(answer: dict[str, object], frames: NDArray[np.intp]) -> dict[str, object]:
    if "answers" not in answer:
        return answer
    return {**answer, "answers": np.array(answer["answers"])[frames].tolist()}


def _processors(words: str | None) -> list[Processor]:
    """Those asked for, or all.

    Raises:
        UsageError: an unknown one, or one that can be emulated, but not on this machine as it is.
    """
    try:
        chosen = [processor_named(word) for word in words.split(",")] if words else list(PROCESSORS)
    except KeyError as e:
        known = ", ".join(p.name for p in PROCESSORS)
        raise UsageError(f"--processors: some of {known} expected, found {e.args[0]!r}") from e
    reasons = dict.fromkeys(reason for p in chosen if p.cpu and (reason := why_not(p)))
    if reasons:
        raise UsageError("; ".join(reasons))
    return chosen


def _candidates(export: Path, words: str | None) -> list[Candidate]:
    wanted = {f.name for f in choose_formats(words.split(","))} if words else None
    candidates = [c for c in candidates_of(export) if wanted is None or c.form.name in wanted]
    if not candidates:
        raise UsageError(f"--files {words}: {export} has none of these")
    return candidates


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/check-processors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path, metavar="EXPORT_DIR", help="made by `sepilot export`")
    parser.add_argument("--frames", type=int, default=60, metavar="N", help="hardest held-out frames; 0: all (60)")
    parser.add_argument("--files", metavar="FORMATS", help="by commas, as `sepilot export --formats` takes them (all)")
    parser.add_argument("--processors", metavar="NAMES", help="by commas, as they head the table (all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    parser.add_argument("--drive", type=Path, metavar="RECORDING", help="drive over it on the aarch64 classes instead")
    parser.add_argument("--max-frames", type=int, default=100, metavar="N", help="of --drive (100)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
