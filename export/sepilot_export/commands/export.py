"""`sepilot export`: a training run in, verified model files out."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sepilot_export.convert.backend import use_tensorflow
from sepilot_runtime.base.claims import claimed
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.files import require_new
from sepilot_runtime.base.terminal import legible
from sepilot_runtime.commands.arguments import flag, request_from, seed, switch

if TYPE_CHECKING:
    from sepilot_export.convert.formats import Format

__all__ = ["main"]

EPILOG = """examples:
  sepilot export runs/week --out runs/week-export
  sepilot export runs/week --formats float32.tflite,int8.tflite --out car
  sepilot export runs/week --formats onnx --out onnx
  sepilot export runs/week --formats int8 --max-drop 0.5deg --layers --out exact
  sepilot export runs/week --with-preprocessing 120x160 --out frames
  sepilot export --list-formats

The drives of the run are read again: int8 is calibrated on training frames, and held-out frames go along so
that `sepilot check DIR` needs neither TensorFlow nor the drives. What --max-drop keeps in float32 is decided on
training frames that int8 was not calibrated on; the held-out frames only judge, in `sepilot check`.

A format whose file cannot be made, or does not pass its own golden frames, is left out and named, with its reason and a
way out; the other files are written.

Exit code: 0 all formats were written, 1 some of them, 2 none.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """`run` and `out` are None where they were not given; only --list-formats goes on then."""

    run: Path = flag("the run directory of `sepilot train`", "RUN", positional=True, nargs="?")
    out: Path = flag("the directory to write; must not exist", "DIR")
    formats: tuple[str, ...] = flag(
        "names, or groups such as tflite, onnx, int8 (default: all; see --list-formats)", "LIST", nargs="+",
        default=("all",),
    )  # fmt: skip
    drives: tuple[Path, ...] = flag("where the run's drives are now, if they moved", "PATH", nargs="+", default=())
    seed: int = flag("of the choice of calibration frames (0)", type=seed, default=0)
    list_formats: bool = switch("print the formats with their gates, and stop")
    json: bool = switch("print what was written as JSON")
    calibration_frames: int = flag("training frames that int8 is calibrated on (300)", "N", type=int, default=300)
    calibration: Literal["tails", "random", "first"] = flag(
        "how they are chosen: with the extremes of predictions, labels and brightness, at random, or the first",
        default="tails",
    )
    max_drop: str | None = flag(
        "most that int8 may add to the mean error against the driver's steering: degrees (0.5deg) or label units "
        "(0.002), upper end of the 95 %% interval; a file that misses it or another gate keeps its worst layers in "
        "float32", "X",
    )  # fmt: skip
    layers: bool = switch("print what int8 does to each layer (int8-layers.json has it in any case)")
    with_preprocessing: str | None = flag(
        "files that take the camera's raw frame, uint8 BGR of this one size (default: that of the run's drives), and "
        "crop and resize it by themselves", "HxW", nargs="?", const="",
    )  # fmt: skip


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, ExportRequest, "export",
        "Write the model of a training run as TFLite and ONNX files, each with its contract inside.", EPILOG,
    )  # fmt: skip
    if request.list_formats:
        return _list_formats(as_json=request.json)
    if request.run is None or request.out is None:
        raise UsageError("RUN and --out DIR are needed: sepilot export RUN --out DIR")
    from sepilot_export.convert.formats import choose_formats

    formats = choose_formats([w for part in request.formats for w in part.replace(",", " ").split()])
    _require_calibrated(request, formats)
    with claimed(request.out):
        return _export(request, formats, legible(shlex.join(["sepilot", "export", *argv])))


def _export(request: ExportRequest, formats: Sequence[Format], command: str) -> int:
    require_new(request.out)
    use_tensorflow("export")
    from sepilot_export.pipeline.export import export_source, source_of
    from sepilot_export.pipeline.export_table import print_files, print_layers
    from sepilot_export.quantize.int8 import Int8Options
    from sepilot_export.verify.gates import drop_from
    from sepilot_export.verify.raw_frames import frame_input, read_raw_frames
    from sepilot_train.base.progress import progress_bar
    from sepilot_train.run.run import open_run

    run = open_run(request.run)
    int8 = Int8Options(
        calibration_frames=request.calibration_frames,
        choice=request.calibration,
        max_drop=drop_from(request.max_drop, run.contract.outputs[0]) if request.max_drop else None,
        seed=request.seed,
    )
    size = frame_input(request.with_preprocessing) if request.with_preprocessing else None
    source = source_of(run, moved_to=request.drives, progress=sys.stderr.isatty())
    wanted = request.with_preprocessing is not None
    raw = read_raw_frames(run, source, size, moved_to=request.drives) if wanted else None
    with progress_bar("", len(formats) + 4, apart=True) as advance:
        written = export_source(
            source, formats, request.out, int8=int8, raw=raw, command=command,
            step=lambda name: advance(label=name),
        )  # fmt: skip
    for warning in written.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for line in written.left_out:
        print(f"note: {line}", file=sys.stderr)
    if request.json:
        files, failed = ([dataclasses.asdict(f) for f in found] for found in (written.files, written.failed))
        print(json.dumps({"files": files, "failed": failed}, indent=2))
    else:
        print_files(written.files, written.failed, request.out, run.contract.outputs)
        if request.layers:
            print_layers(request.out)
    return 1 if written.failed else 0


def _require_calibrated(request: ExportRequest, formats: Sequence[Format]) -> None:
    """Refuse what is about calibrated files where none will be made."""
    from sepilot_export.quantize.calibration import MINIMUM

    if request.calibration_frames < MINIMUM:
        raise UsageError(f"--calibration-frames: at least {MINIMUM} expected, found {request.calibration_frames}")
    if request.layers and request.json:
        raise UsageError("--layers: expected without --json, which prints no table; int8-layers.json has the figures")
    # What a run was trained to is taken as it is.
    ready = {"int8.tflite", "int8-twin.onnx"} if (request.run / "int8.tflite").exists() else set()
    if any(form.needs_calibration and form.name not in ready for form in formats):
        return
    for name, given in (("--max-drop", request.max_drop), ("--layers", request.layers)):
        if given:
            found = ", ".join(f"{f.name}{' of the training' * (f.name in ready)}" for f in formats)
            raise UsageError(f"{name}: a format that is calibrated expected in --formats, such as int8, found {found}")


def _list_formats(*, as_json: bool) -> int:
    from sepilot_export.convert.formats import FORMATS

    if as_json:
        print(json.dumps([dataclasses.asdict(f) | {"engine": f.engine} for f in FORMATS], indent=2))
        return 0
    for form in FORMATS:
        calibrated = ", calibrated" if form.needs_calibration else ""
        print(f"{form.name:<24}{form.engine}{calibrated}; max error {form.limits['max_error']:g} of full scale,")
        print(f"{'':<24}task MAE at most {form.limits['mae_increase']:+g}; {form.description}")
    return 0
