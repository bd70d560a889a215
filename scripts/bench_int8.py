"""Four ways to round the kernels of int8.onnx: what they cost in accuracy and time, here and without VNNI.

    8 bits      as the quantizer rounds them: the sums of two products do not fit into 16 bits
    unsigned    the same numbers stored as uint8 with zero point 128, for which engines add in 32 bits
    7 bits      steps twice as wide, so that any two products fit
    fitted      steps as wide as the neighbours in a kernel need (sepilot_export/quantize/pair_sums.py): what `export` writes

Errors are those of the hardest held-out frames against the training model, in ONNX Runtime and OpenVINO, on this
processor and, where qemu-user-static is installed, on an emulated Haswell. Times are of this processor, one thread, all
ways interleaved in one process: the smallest and the median of a picture's inference, without preprocessing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from hardest import hardest_frames
from numpy.typing import NDArray
from processor_runs import ask
from processors import processor_named, python_under, why_not

from sepilot_export.convert import deploy
from sepilot_export.convert.embed import embed_onnx
from sepilot_export.convert.formats import FORMATS, format_named, limits_of
from sepilot_export.convert.inputs import ExportInputs
from sepilot_export.pipeline.export import source_of
from sepilot_export.quantize import pair_sums
from sepilot_export.quantize.int8 import Int8, Int8Options
from sepilot_export.verify.timing import time_pilots
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.device.conditions import conditions_now
from sepilot_runtime.engine.names import EngineName
from sepilot_runtime.engine.pilot import answers_to, load_pilot
from sepilot_train.base.quiet import quiet
from sepilot_train.run.run import open_run

Rounding = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.int8], NDArray[np.float32]]]

ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")
HASWELL = processor_named("Haswell")


def main() -> int:
    arguments = _parser().parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="sepilot-int8-") as name:
            folder = Path(name)
            source = source_of(open_run(arguments.run))
            files = {
                way: folder / f"{way.replace(' ', '-')}.onnx" for way in ("8 bits", "unsigned", "7 bits", "fitted")
            }
            for way, content in made(source, folder).items():
                files[way].write_bytes(embed_onnx(content, source.contract))
            report(source, files, folder, arguments)
    except SepilotError as e:
        print(f"bench-int8: {e}", file=sys.stderr)
        return e.exit_code
    return 0


def made(source: ExportInputs, folder: Path) -> Mapping[str, bytes]:
    """int8.onnx in every way, calibrated and with its biases corrected alike."""
    with quiet("the training model"):
        model = deploy.load_training_model(source.model_path, source.contract)
    limits = {form.name: limits_of(form, source.gates, source.contract.outputs) for form in FORMATS}
    found: dict[str, bytes] = {}
    fitted = pair_sums.fitted
    for way, rounding in {"8 bits": _rounded_to(127), "7 bits": _rounded_to(63), "fitted": fitted}.items():
        pair_sums.fitted = rounding
        with quiet(way):
            int8 = Int8(source, model, folder, limits, Int8Options(), lambda step: None)
            found[way] = int8.file("int8.onnx", "onnx").content
    pair_sums.fitted = fitted
    return {**found, "unsigned": unsigned(found["8 bits"])}


def _rounded_to(largest: int) -> Rounding:
    def rounding(
        kernel: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        wider = (scale * np.float32(127 / largest)).astype(np.float32)
        return np.clip(np.rint(kernel / wider[:, None, None]), -largest, largest).astype(np.int8), wider

    return rounding


def unsigned(content: bytes) -> bytes:
    """The same file with all int8 numbers moved up by 128 and stored as uint8."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(content)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for name in {name for node in pairs for name in node.input if name in constants}:
        values = numpy_helper.to_array(constants[name])
        if values.dtype == np.int8:
            moved = (values.astype(np.int16) + 128).astype(np.uint8)
            constants[name].CopyFrom(numpy_helper.from_array(moved, name))
    del model.graph.value_info[:]  # Their types are those of before.
    return bytes(model.SerializeToString(deterministic=True))


def report(source: ExportInputs, files: Mapping[str, Path], folder: Path, arguments: argparse.Namespace) -> None:
    """The table."""
    here = [load_pilot(path, verify=False) for path in files.values()]
    pictures, name = np.asarray(source.held_out.pictures), source.contract.outputs[0].name
    saved = source.saved[name]
    errors = np.array(
        [np.abs(answers_to(pilot.infer_picture, pictures)[name].astype(float) - saved) for pilot in here]
    )
    hardest = hardest_frames(errors, saved, arguments.frames)
    np.savez(folder / "frames.npz", inputs=pictures[hardest])
    native = [sys.executable]
    pythons: dict[str, Sequence[str]] = {"here": native}
    if reason := why_not(HASWELL):
        print(f"without VNNI: not tried: {reason}", file=sys.stderr)
    else:
        pythons["Haswell"] = python_under(HASWELL, {})
    timed = [load_pilot(path, verify=False, engine=engine) for engine in ENGINES for path in files.values()]
    times = time_pilots(timed, pictures[hardest], rounds=arguments.rounds)
    machine, scale = conditions_now(), source.contract.outputs[0].scale
    gate = format_named("int8.onnx").limits["max_error"] * scale
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items() if name in ENGINES)
    print(f"{len(hardest)} hardest of {len(pictures):,} held-out frames; gate: {gate:g}°")
    print(f"{machine.cpu} ({machine.int8_kernels}); {versions}; Haswell emulated")
    print(
        f"{'engine':12}{'kernels':10}"
        + "".join(f"{f'{name} mean°':>14}{'max°':>8}" for name in pythons)
        + f"{'min µs':>9}{'p50 µs':>9}"
    )
    for i, engine in enumerate(ENGINES):
        jobs = {way: f"{engine}:{path}" for way, path in files.items()}
        answers = {
            name: ask(python, folder / "frames.npz", list(jobs.values()), 300) for name, python in pythons.items()
        }
        for j, way in enumerate(files):
            cells = ""
            for name in pythons:
                error = np.abs(np.array(_answers(answers[name][jobs[way]])) - saved[hardest]) * scale
                cells += f"{error.mean():14.3f}{error.max():8.3f}"
            time = times[i * len(files) + j]
            print(f"{engine:12}{way:10}{cells}{time.min_us:9.1f}{time.p50_us:9.1f}")


def _answers(answer: Mapping[str, Any]) -> list[float]:
    if "error" in answer:
        raise SepilotError(answer["error"])
    found: list[float] = answer["answers"]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench-int8", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run directory of `sepilot train`")
    parser.add_argument("--frames", type=int, default=500, metavar="N", help="hardest held-out frames (500)")
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="of the timing (40)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
