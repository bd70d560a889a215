"""`sepilot adopt FILE`: somebody else's model file in, files under a contract out."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_export.convert.backend import use_tensorflow
from sepilot_runtime.base.claims import claimed
from sepilot_runtime.base.documents import override, parse, read_toml
from sepilot_runtime.base.errors import ModelFileError, UsageError
from sepilot_runtime.base.files import require_new
from sepilot_runtime.base.terminal import legible
from sepilot_runtime.commands.arguments import flag, request_from, switch
from sepilot_runtime.commands.reader_arguments import READER
from sepilot_runtime.recording.options import ReaderOptions

if TYPE_CHECKING:
    from sepilot_export.convert.stated import StatedContract
    from sepilot_runtime.recording.drive import Drive

__all__ = ["main"]

SUFFIXES = (".tflite", ".onnx", ".keras", ".h5")

EPILOG = """examples:
  sepilot adopt mobilenet.tflite --contract mine.toml --drives tubs/sunday --out adopted
  sepilot adopt pilot.onnx --set picture.color=rgb --set picture.range=0..1 --set outputs.steering.unit=deg \\
      --set outputs.steering.scale=25 --set outputs.steering.positive=right --drives tubs --out adopted
  sepilot adopt resnet.tflite --set picture.color=rgb --set picture.range=0..255 --set outputs.class.kind=classes \\
      --drives signs/test --out adopted
  sepilot adopt any.keras --show                   what the file says itself

mine.toml says what the file does not:
  [picture]
  color = "rgb"              # order of its channels: rgb, bgr, gray
  range = "-1..1"            # of its values: 0..1, -1..1, 0..255; or mean = [...], std = [...]
  crop_top = 0.25            # of the camera's frame; also crop_bottom, crop_left, crop_right, resize, layout
  [outputs.steering]         # the car's name
  tensor = "Identity"        # the file's; also index (of a number in it), factor, low, high
  unit = "deg"
  scale = 25.0               # degrees at 1.0
  positive = "right"         # or left
  [outputs.class]            # of a classifier: the whole tensor
  kind = "classes"
  names = ["cat", "dog"]     # in the file's order; without them, the folders of the pictures in natural order
  gives = "probabilities"    # or logits; without it, the answers tell
  [vectors.speed]            # where it takes numbers beside the picture
  tensor = "speed_in"
  columns = ["speed"]

A Keras net is held against Keras, any other file against another interpreter than the one that will run it, picture by
picture. Where the recordings have labels, these are asked whether colours, range, crop, sign, unit and the order of
class names are as stated.
They tell a missing crop, or one that is off by a tenth of the frame, not one of 0.3 for 0.25, and no `resize`.
A Keras net gets the formats of `sepilot export`, int8 calibrated on every other frame of the drives.
Keras 3 reads the .h5 files of Keras 2 as well.

Exit code: 0 adopted, 1 the labels speak against what was stated, or a format of a Keras net was left out because it
does not answer as Keras does, 2 it cannot be done.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptRequest:
    """`out` and `drives` are left out with --show alone."""

    file: Path = flag(f"a {', '.join(SUFFIXES)} file", "FILE", positional=True)
    out: Path | None = flag("the directory to write; must not exist", "DIR")
    contract: Path | None = flag("what the file does not say itself", "TOML")
    set: tuple[str, ...] = flag("one value of it", "KEY=VALUE")
    drives: tuple[Path, ...] = flag(
        "recordings, or folders of pictures, that it is tried on", "PATH", name="--drives --frames", nargs="+",
        default=(),
    )  # fmt: skip
    reference: str = flag(
        "the interpreter it is held against: openvino, tensorflow, onnxruntime, opencv, onnx (default: the first that "
        "runs it)", "NAME", default="",
    )  # fmt: skip
    accept_single_engine: bool = switch("no other interpreter runs it: take its own answers")
    accept_labels: bool = switch("adopt it whatever the labels have against it")
    formats: tuple[str, ...] = flag(
        "what to make of a Keras net: names, or groups such as tflite, onnx, int8, as of `sepilot export` (default: "
        "all)", "NAME,…", type=_words, default=(),
    )  # fmt: skip
    max_drop: str = flag("of its int8 files, as of `sepilot export`", "X", default="")
    show: bool = switch("print its inputs and outputs, and stop")
    reader: ReaderOptions


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, AdoptRequest, "adopt", "Bring a model file that was made elsewhere under a contract.", EPILOG,
        reader=READER,
    )  # fmt: skip
    if request.file.suffix not in SUFFIXES:
        raise UsageError(f"{request.file}: a file that ends in {', '.join(SUFFIXES)} expected")
    if not request.file.is_file():
        raise ModelFileError(f"{request.file}: no such file")
    if request.show:
        return _show(request.file)
    if request.out is None or not request.drives:
        raise UsageError("--out DIR and --drives PATH are needed: sepilot adopt FILE --drives PATH --out DIR")
    require_new(request.out)
    return _adopt(request, request.out, legible(shlex.join(["sepilot", "adopt", *argv])))


def _adopt(request: AdoptRequest, out: Path, command: str) -> int:
    from sepilot_runtime.recording.opening import open_drives

    stated = _stated(request)
    reader = _with_columns(request.reader, stated)
    drives = open_drives(request.drives, reader)
    _require_full_scale(drives, stated)
    use_tensorflow("adopt")
    from sepilot_export.convert.failures import lines_of
    from sepilot_export.pipeline.adopt import adopt
    from sepilot_export.pipeline.foreign import open_foreign

    with claimed(out):
        foreign = open_foreign(
            request.file, reference=request.reference, single=request.accept_single_engine, formats=request.formats
        )
        written, against = adopt(
            foreign, stated, drives, reader, out, max_drop=request.max_drop, command=command,
            accept_labels=request.accept_labels, progress=sys.stderr.isatty(),
        )  # fmt: skip
    for line in (*written.warnings, *written.left_out):
        print(f"note: {line}", file=sys.stderr)
    for line in against:
        print(f"sepilot: {request.file}: {line}; or say --accept-labels", file=sys.stderr)
    for names, reason, way in lines_of(written.failed):
        print(f"left out: {names}: {reason}" + (f"; {way}" if way else ""), file=sys.stderr)
    for file in written.files:
        print(f"{file.file}  {file.bytes / 1000:.1f} kB, on {file.engine}, held against {foreign.reference.name}")
    if written.files:
        print(f"\n-> {out}\nnext: sepilot check {out}")
    return 1 if against or written.failed else 0


def _show(file: Path) -> int:
    """What the file says itself."""
    use_tensorflow("adopt")
    if file.suffix in (".keras", ".h5"):
        from sepilot_export.convert.keras_source import open_keras

        model, _ = open_keras(file)
    else:
        from sepilot_runtime.engine.bare import open_bare

        model = open_bare(file)
    for what, tensors in (("takes", model.inputs), ("gives", model.outputs)):
        for tensor in tensors:
            print(f"{what} {tensor}")
    return 0


def _stated(request: AdoptRequest) -> StatedContract:
    from sepilot_export.convert.stated import StatedContract

    table = read_toml(request.contract, UsageError) if request.contract else {}
    for word in request.set:
        override(table, word, UsageError)
    try:
        return parse(StatedContract, table, "", UsageError, complete=False)
    except UsageError as e:
        raise UsageError(f"{request.contract or '--set'}: {e}") from e


def _with_columns(reader: ReaderOptions, stated: StatedContract) -> ReaderOptions:
    """The options, with the columns of outputs and vectors among those to read."""
    from sepilot_runtime.recording.opening import SET_LABELS

    columns = [column for vector in stated.vectors.values() for column in vector.columns]
    further = dict.fromkeys([*reader.labels, *stated.outputs, *columns])
    labels = tuple(n for n in further if n not in ("steering", "throttle", *SET_LABELS - {*reader.labels}))
    # A classifier is adopted with plain pictures as well, as what steers is.
    return dataclasses.replace(reader, labels=labels).wishing(SET_LABELS & further.keys())


def _require_full_scale(drives: Sequence[Drive], stated: StatedContract) -> None:
    """Labels in [-1, 1] mean degrees only together with the wheel's angle at 1."""
    said = stated.outputs.get("steering")
    scale = said.full_scale_deg if said else None
    for drive in drives:
        if scale is not None and drive.has("steering") and drive.full_scale_deg != scale:
            raise UsageError(
                f"{drive.path}: full scale of {scale:g} degrees expected, as outputs.steering.scale says, found "
                f"{drive.full_scale_deg:g}; give the drive's own with --full-scale-deg"
            )
